"""What the provider says of a job, read tolerantly: protocol sections 3, 5, 6 and 10.

A job is an operation whose ``metadata`` holds the batch, or the bare batch itself: each field is looked for in
``metadata`` first, then at the top. A field that cannot be read counts as absent, since half a picture of a job that
was paid for is better than none. A body that is no JSON object, or that names two jobs, raises ``ValueError``, and so
does a page that is no whole one: half a list would look like a job that does not exist.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from gemqueue.provider import JobStatus, StoredFile
from gemqueue.states import JobState
from gemqueue_adapters.envelope import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

RAW_BYTES_MAX: Final = 64 * 1024

Fields = dict[str, msgspec.Raw]
T = TypeVar("T")

_STATES: Final = {
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "EXPIRED": JobState.EXPIRED,
}
_OPEN: Final = {"PENDING", "RUNNING", "QUEUED", "PAUSED", "UPDATING", "CANCELLING"}
_STATE_PREFIX = re.compile(r"^(?:BATCH|JOB)_STATE_")
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)

_PLACES: Final = ("metadata", "output", "response", "dest")
_FILE_FIELDS: Final = ("responsesFile", "responses_file", "fileName", "file_name")
_ROW_FIELDS: Final = ("inlinedResponses", "inlinedEmbedContentResponses")


class FileInfo(msgspec.Struct, frozen=True):
    """A file resource, as far as it matters (protocol section 8.1)."""

    name: str
    state: str = ""
    display_name: str = ""
    size_bytes: int | None = None
    error_message: str = ""


def status_of(body: bytes | msgspec.Raw) -> JobStatus:
    """One look at a job. Raises ``ValueError`` when the body is no JSON object with a name."""
    view = _View(_object(body))
    name = view.name()
    outputs = list(view.outputs())
    stats, error = _lenient_object(view.get("batchStats")), _lenient_object(view.get("error"))
    raw_state = view.text("state")
    return JobStatus(
        job=name,
        state=_state(raw_state, view, has_output=bool(outputs)),
        raw_state=clean(raw_state, 64),
        begun="RUNNING" in raw_state,
        display_name=view.text("displayName"),
        input_file=_text(_lenient_object(view.get("inputConfig")).get("fileName")),
        created_at_ms=epoch_ms(view.text("createTime")),
        ended_at_ms=epoch_ms(view.text("endTime")),
        rows=_number(stats.get("requestCount")),
        rows_ok=_number(stats.get("successfulRequestCount")),
        rows_failed=_number(stats.get("failedRequestCount")),
        output_file=next((name for output in outputs if (name := _file_of(output))), ""),
        inline=any(_rows_of(output) is not None for output in outputs),
        error_code=_number(error.get("code")),
        error_message=clean(_text(error.get("message"))),
        raw=_record(view.top)[:RAW_BYTES_MAX],
    )


def page_of(body: bytes) -> tuple[list[JobStatus], str]:
    """The jobs of a list page, and the token of the next page or "". Raises ``ValueError``."""
    entries, token = _page(body, "operations")
    return [status_of(entry) for entry in entries], token


def inline_rows(body: bytes) -> list[bytes] | None:
    """The rows inside an operation as lines of a result file, undecoded; None where it holds none."""
    for output in _View(_object(body)).outputs():
        rows = _rows_of(output)
        if rows is not None:
            return [_line(row) for row in rows]
    return None


def file_of(body: bytes) -> FileInfo:
    """A bare file resource, or one inside ``{"file": ...}``. Raises ``ValueError``."""
    fields = _object(body)
    fields = _object(fields.get("file", msgspec.Raw(body)))
    return FileInfo(
        name=_text(fields.get("name")),
        state=_text(fields.get("state")),
        display_name=_text(fields.get("displayName")),
        size_bytes=_number(fields["sizeBytes"]) if "sizeBytes" in fields else None,
        error_message=clean(_text(_lenient_object(fields.get("error")).get("message"))),
    )


def files_of(body: bytes) -> tuple[list[StoredFile], str]:
    """The files of a list page, and the token of the next page or "". Raises ``ValueError``."""
    entries, token = _page(body, "files")
    return [_stored(_object(entry)) for entry in entries], token


def _page(body: bytes, field: str) -> tuple[list[msgspec.Raw], str]:
    """The entries of a page and its token; an empty list is an empty object (protocol section 6)."""
    fields = _object(body)
    if "error" in fields:
        raise ValueError("it is an error")
    if fields and not fields.keys() & {field, "nextPageToken", "unreachable"}:
        raise ValueError(f"it is no list of {field}")
    if _as(fields.get("unreachable", msgspec.Raw(b"[]")), list[msgspec.Raw]) != []:
        raise ValueError("it says of itself that it is not whole")
    entries = _as(fields.get(field, msgspec.Raw(b"[]")), list[msgspec.Raw])
    token = _as(fields.get("nextPageToken", msgspec.Raw(b'""')), str)
    if entries is None or token is None:
        raise ValueError(f"its {field} are no list, or its token is no text")
    return entries, token


def _stored(entry: Fields) -> StoredFile:
    name = _text(entry.get("name"))
    if not name:
        raise ValueError("no file name")
    return StoredFile(
        file=name,
        display_name=_text(entry.get("displayName")),
        created_at_ms=epoch_ms(_text(entry.get("createTime"))),
        size_bytes=_number(entry.get("sizeBytes")),
        generated=_text(entry.get("source")) == "GENERATED",
    )


def epoch_ms(timestamp: str) -> int:
    """RFC 3339 with 0 to 9 fraction digits, as milliseconds since 1970; 0 where it cannot be read."""
    found = _TIMESTAMP.fullmatch(timestamp)
    if not found:
        return 0
    try:
        seconds = datetime.fromisoformat(found[1] + found[3].upper().replace("Z", "+00:00"))
    except ValueError:
        return 0
    return int(seconds.timestamp()) * 1000 + int((found[2] or "").ljust(3, "0")[:3])


class _View:
    """Fields of the batch: ``metadata.X``, then top-level ``X``."""

    def __init__(self, top: Fields) -> None:
        self.top = top
        self._metadata = _lenient_object(top.get("metadata"))

    @property
    def bare(self) -> bool:
        """Whether this is the batch itself, which has no ``done`` (protocol section 3.1)."""
        return not self._metadata

    def name(self) -> str:
        """The job's name, which an operation says twice. Raises ``ValueError``."""
        names = [text for fields in (self._metadata, self.top) if (text := _text(fields.get("name")))]
        if not names:
            raise ValueError("no job name")
        if len({name for name in names if name.startswith("batches/")}) > 1:
            raise ValueError("two job names")
        return names[0]

    def get(self, field: str) -> msgspec.Raw | None:
        return self._metadata[field] if field in self._metadata else self.top.get(field)

    def text(self, field: str) -> str:
        return _text(self.get(field))

    def outputs(self) -> Iterator[Fields]:
        """Every place that names a result file or holds rows, best first."""
        for place in ("output", "response", "dest"):
            output = _lenient_object(self.get(place))
            if _file_of(output) or _rows_of(output) is not None:
                yield output


def _state(raw_state: str, view: _View, *, has_output: bool) -> JobState:
    """An end only where the service tells it, in whole words: what contradicts itself or names no end is still open.

    ``done`` is there for every end (protocol section 3.1). A success is believed without it, since it costs only time.
    """
    word = _STATE_PREFIX.sub("", raw_state)
    known = _STATES.get(word)
    done = _as(view.get("done"), bool)
    if known is not None:
        unsaid = done is None and (view.bare or known is JobState.SUCCEEDED)
        return known if done or unsaid else JobState.RUNNING
    if not done or word in _OPEN:
        return JobState.RUNNING
    if has_output or "response" in view.top:
        return JobState.SUCCEEDED
    return JobState.FAILED if "error" in view.top else JobState.RUNNING


def _file_of(output: Fields) -> str:
    return next((name for field in _FILE_FIELDS if (name := _text(output.get(field)))), "")


def _rows_of(output: Fields) -> list[msgspec.Raw] | None:
    """Inline rows: a list, or an object that holds the list under the same name (protocol section 5)."""
    for field in _ROW_FIELDS:
        held = output.get(field)
        inner = _lenient_object(held)
        for candidate in (held, *(inner.get(name) for name in _ROW_FIELDS)):
            rows = _as(candidate, list[msgspec.Raw])
            if rows is not None:
                return rows
    return None


def _line(row: msgspec.Raw) -> bytes:
    """An inline item as a line: its key moves from ``metadata`` to the top, white space between tokens goes."""
    fields = _as(row, Fields)
    if fields is None:
        return msgspec.json.format(row, indent=-1)
    key = _lenient_object(fields.get("metadata")).get("key", fields.get("key"))
    line = {} if key is None else {"key": key}
    line |= {name: fields[name] for name in ("response", "error", "status") if name in fields}
    return msgspec.json.format(msgspec.json.encode(line), indent=-1)


def _record(fields: Fields) -> bytes:
    """The operation without its inline rows."""
    kept: dict[str, object] = {name: value for name, value in fields.items() if name not in _ROW_FIELDS}
    for place in _PLACES:
        inner = _as(fields.get(place), Fields)
        if inner is not None:
            kept[place] = msgspec.Raw(_record(inner))
    return msgspec.json.encode(kept)


def _object(body: bytes | msgspec.Raw) -> Fields:
    found = _as(body, Fields)
    if found is None:
        raise ValueError("no JSON object")
    return found


def _lenient_object(raw: msgspec.Raw | None) -> Fields:
    return _as(raw, Fields) or {}


def _as(raw: bytes | msgspec.Raw | None, kind: type[T]) -> T | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _text(raw: msgspec.Raw | None) -> str:
    return _as(raw, str) or ""


def _number(raw: msgspec.Raw | None) -> int:
    """An int64, which comes as a string or a number (protocol section 2)."""
    number = _as(raw, int)
    if number is not None:
        return number
    text = _text(raw)
    return int(text) if re.fullmatch(r"-?\d{1,19}", text, re.ASCII) else 0
