"""An error reply, reduced to what decides, and whether it is in the API's own words (protocol section 2.1).

Gateways, proxies and other services answer in the API's place, with codes and words of theirs. The API's own envelope
repeats the HTTP code and names a google.rpc status that belongs to it.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_CHARS_MAX = 500
RETRY_AFTER_S_MAX = 86_400.0

_KEY = re.compile(r"\bAIza[\w-]{8,}|\bAQ\.[\w.-]{8,}|(?<=api_key:)[\w.-]+")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_CODES: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
}
"""The HTTP code of each google.rpc status below 500."""
_SERVER_STATUSES: Final = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error reply, reduced to what decides. ``reasons`` and ``fields`` come from the details of the envelope.

    ``status`` is the API's own word, empty where the reply is not the API's. ``media`` is the reply's content type.
    """

    code: int
    status: str = ""
    message: str = ""
    media: str = ""
    reasons: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    retry_after_s: float | None = None

    @property
    def own(self) -> bool:
        """Whether these are the API's own words."""
        return bool(self.status)


def read_problem(code: int, headers: Mapping[str, str], body: bytes, *, now_s: float) -> Problem:
    """Reduce an error reply; of a body that is not the API's envelope only the code and a message count."""
    error = _envelope(body)
    wishes = (
        _header_delay_s(headers.get("retry-after", ""), now_s),
        *(_duration_s(d.retry_delay) for d in error.details),
    )
    return Problem(
        code=code,
        status=error.status if _is_own(error, code) else "",
        message=clean(error.message),
        media=clean(headers.get("content-type", "").partition(";")[0], 40),
        reasons=frozenset(detail.reason for detail in error.details),
        fields=tuple(violation.field for detail in error.details for violation in detail.field_violations),
        retry_after_s=next((min(max(wish, 0.0), RETRY_AFTER_S_MAX) for wish in wishes if wish is not None), None),
    )


def clean(text: str, chars_max: int = MESSAGE_CHARS_MAX) -> str:
    """Foreign text made fit for a log or a terminal: printable characters only, of bounded length, without API keys.

    The service itself names the key that it refuses: ``Consumer 'api_key:...' has been suspended``.
    """
    text = _KEY.sub("...", text[: 4 * chars_max])[:chars_max]
    return "".join(char if char.isprintable() else " " for char in text).strip()


class _Violation(msgspec.Struct, frozen=True):
    field: str = ""


class _Detail(msgspec.Struct, frozen=True, rename="camel"):
    reason: str = ""
    retry_delay: str = ""
    field_violations: tuple[_Violation, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    status: str = ""
    message: str = ""
    details: tuple[_Detail, ...] = ()


class _BareError(msgspec.Struct, frozen=True):
    code: int = 0
    status: str = ""
    message: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error


class _BareEnvelope(msgspec.Struct, frozen=True):
    error: _BareError


def _envelope(body: bytes) -> _Error:
    """The error inside, also in a one-element array (protocol section 2.1), also with details that cannot be read."""
    for wrapped in (body, body.strip().removeprefix(b"[").removesuffix(b"]")):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.decode(wrapped, type=_Envelope).error
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            bare = msgspec.json.decode(wrapped, type=_BareEnvelope).error
            return _Error(code=bare.code, status=bare.status, message=bare.message)
    return _Error()


def _is_own(error: _Error, code: int) -> bool:
    """The API repeats the code and names a google.rpc status that belongs to it; others have words of their own."""
    fits = code >= 500 if error.status in _SERVER_STATUSES else code == _CODES.get(error.status)
    return fits and error.code == code


def _header_delay_s(header: str, now_s: float) -> float | None:
    try:
        seconds = float(header)
    except ValueError:
        return _date_delay_s(header, now_s)
    return seconds if math.isfinite(seconds) else None


def _date_delay_s(header: str, now_s: float) -> float | None:
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now_s


def _duration_s(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    return float(found[1]) if found else None
