"""The lines that prompts and outcomes are written as: one declaration for who writes and who reads. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.language.gemini.media import MARK, tokens_with_media
from gemqueue.records import BATCH
from gemqueue.states import FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINES_MAX: Final = 1_000
_MEDIA_BYTES_MIN: Final = 2_000
"""A shorter request may count by its bytes: its medium is an icon."""
_MIDDLES: Final = [b'%d","request":' % number for number in range(_LINES_MAX)]


def line(key: str, request: bytes) -> bytes:
    """One line of an input file: ``{"key": ..., "request": ...}`` (protocol section 9.1). ``key`` needs no escaping."""
    return b'{"key":"' + key.encode("ascii") + b'","request":' + request + b"}\n"


def lines(prefix: str, requests: Sequence[bytes]) -> bytes:
    """The lines of a segment, at most 1,000, whose keys are ``prefix`` and a number that counts from 0."""
    head = b'{"key":"' + prefix.encode("ascii")
    parts: list[bytes] = []
    for middle, request in zip(_MIDDLES[: len(requests)], requests, strict=True):
        parts += (head, middle, request, b"}\n")
    return b"".join(parts)


def token_estimate(body: bytes) -> int:
    """A rough count of a request's tokens: four bytes each, and one; pictures and the like by their headers."""
    if len(body) >= _MEDIA_BYTES_MIN and MARK in body:
        return tokens_with_media(body)
    return len(body) // 4 + 1


def token_estimates(bodies: Sequence[bytes]) -> int:
    """The sum of their ``token_estimate``."""
    if max(map(len, bodies), default=0) >= _MEDIA_BYTES_MIN:
        return sum(map(token_estimate, bodies))
    return sum([len(body) // 4 for body in bodies]) + len(bodies)


class OutcomeLine(msgspec.Struct, gc=False):
    """One line of an outcome blob, its parts undecoded; fields that are not listed are the provider's own."""

    key: str
    response: msgspec.Raw = msgspec.Raw()
    failure: msgspec.Raw = msgspec.Raw()
    row: msgspec.Raw = msgspec.Raw()
    service: str = ""
    row_base64: str = ""


class FailureBody(msgspec.Struct, omit_defaults=True):
    """What an outcome line says of a failure; what is as usual is left out."""

    kind: str
    message: str = ""
    code: int = 0
    attempts: int = 0


class _FailureLine(msgspec.Struct):
    key: str
    failure: FailureBody


decode_line = msgspec.json.Decoder(OutcomeLine).decode
_decode_lines = msgspec.json.Decoder(OutcomeLine).decode_lines
_INDICES = {str(index): index for index in range(1_000)}


def read_lines(text: bytes, prefix: str, count: int) -> tuple[list[tuple[int, OutcomeLine]], int]:
    """The lines of a blob with the indices that their keys give, and how many cannot be read or have foreign keys.

    ``prefix`` is what the keys of the segment begin with, ``count`` how many prompts it has, at most 1,000. What is
    undecoded in a line holds all of ``text``: ``own_copy`` makes a line that may be kept.
    """
    decoded: Sequence[OutcomeLine | None]
    try:
        decoded = _decode_lines(text)
    except (ValueError, RecursionError):  # msgspec's errors are some of the former
        decoded = [_line_of(raw) for raw in text.split(b"\n") if raw]
    n = len(prefix)
    found: list[tuple[int, OutcomeLine]] = []
    for each in decoded:
        if each is not None and each.key.startswith(prefix):
            index = _INDICES.get(each.key[n:], count)
            if index < count:
                found.append((index, each))
    return found, len(decoded) - len(found)


def own_copy(line: OutcomeLine) -> OutcomeLine:
    """The line by itself, without what it was read from."""
    parts = line.response.copy(), line.failure.copy(), line.row.copy()
    return OutcomeLine(line.key, *parts, line.service, line.row_base64)


def _line_of(raw: bytes) -> OutcomeLine | None:
    try:
        return decode_line(raw)
    except (ValueError, RecursionError):
        return None


def cancelled_line(key: str) -> bytes:
    """The outcome line of a prompt that its caller gives up."""
    return failure_line(key, FailureKind.CANCELLED, "cancelled by the caller") + b"\n"


def purged_line(key: str) -> bytes:
    """What is left of an outcome that was purged, without a line end."""
    return failure_line(key, FailureKind.EXPIRED, "its outcome was purged")


PLAIN_END = b"}"
"""The end of most outcome lines. Any line that is a key and a response and no more is one as it is."""


def answer_line(key: str, response: bytes, end: bytes = PLAIN_END) -> bytes:
    """An answer as it lies in the outcomes; ``end`` may add fields."""
    return b'{"key":"%b","response":%b%b' % (key.encode(), response, end)


def service_end(service: str) -> bytes:
    """The end of an outcome line that says which service class answered; a batch is not mentioned."""
    return PLAIN_END if service == BATCH else b',"service":"%b"}' % service.encode()


def repaired_end(row: bytes, end: bytes = PLAIN_END) -> bytes:
    """The end of the line of an answer whose row was no strict JSON: the row as it came is kept."""
    return b',"row_base64":"%b"%b' % (base64.b64encode(row), end)


def failure_line(
    key: str, kind: FailureKind, message: str, code: int = 0, attempts: int = 0, *, row: bytes = b""
) -> bytes:
    """A failure as it lies in the outcomes; ``row`` is the provider's response or error, as JSON, where there is one.

    A response that failed never stands under ``response``: readers of every version would take it for an answer.
    """
    line = msgspec.json.encode(_FailureLine(key, FailureBody(kind, message, code, attempts)))
    return b'%b,"row":%b}' % (line[:-1], row) if row else line
