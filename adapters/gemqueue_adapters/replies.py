"""Whether a reply with 200 answers the call that was made: other services answer in the API's place, with JSON, too.

Every function raises ``ValueError`` where it does not; what that means is the caller's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue_adapters.operations import FileInfo, file_of, status_of
from gemqueue_adapters.resource_names import FILE, JOB

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus

_ANSWERS: Final = {"candidates", "promptFeedback", "usageMetadata", "embedding", "embeddings"}

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def created_job(body: bytes, *, token: str, file: str) -> str:
    """The name of the job that a create made. It repeats what it was given (protocol section 4.5)."""
    status = status_of(body)
    if not JOB.fullmatch(status.job):
        raise ValueError("it names no job")
    if status.display_name not in {"", token} or status.input_file not in {"", file}:
        raise ValueError("it is about another job")
    return status.job


def polled_job(body: bytes, job: str) -> JobStatus:
    """A look at ``job``."""
    status = status_of(body)
    if status.job != job:
        raise ValueError("it is about another job")
    return status


def uploaded_file(body: bytes, *, name: str, size_bytes: int) -> FileInfo:
    """The file that an upload made, under the display name ``name``; one of another size has failed."""
    info = file_of(body)
    if not FILE.fullmatch(info.name):
        raise ValueError("it names no file")
    whole = info.size_bytes in {None, size_bytes}
    if info.display_name not in {"", name} or not (whole or info.display_name):
        raise ValueError("it is about another file")
    if whole:
        return info
    return msgspec.structs.replace(info, state="FAILED", error_message=f"{info.size_bytes} bytes of {size_bytes}")


def check_done(body: bytes) -> None:
    """What is answered to a deletion or a cancellation: an object, an empty one (protocol section 7)."""
    if "error" in _object(body):
        raise ValueError("it is an error")


def one_line(body: bytes) -> bytes:
    """The answer to a synchronous call on one line: the service pretty-prints (protocol section 9.3)."""
    if not _object(body).keys() & _ANSWERS:
        raise ValueError("it has nothing that an answer has")
    return msgspec.json.format(body, indent=-1)


def _object(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _decode_object(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("it is no JSON object") from None
