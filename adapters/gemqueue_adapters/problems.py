"""What an unsuccessful call means for whoever made it: the one table from HTTP statuses to the three provider errors.

A call is *risky* when it may have bought something although it looks failed. Only ``create`` is; every other call may
be repeated, so its doubt is merely a reason to try again. Sources: protocol sections 2.1, 4.6, 8.3, 14 and 15.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx
import msgspec

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MESSAGE_CHARS_MAX = 500
RETRY_AFTER_S_MAX = 86_400.0

_LINE = re.compile(r"error on line (\d{1,9})", re.IGNORECASE)
_INLINE_ROW = re.compile(r"\brequests\[(\d{1,9})\]")
_FILE_NOT_ACTIVE = re.compile(r"(?i:\bfiles?\b).*\b(?:ACTIVE|PROCESSING)\b", re.DOTALL)
_MONEY = re.compile(
    r"\bspend(?:ing)?\b|\bprepa(?:y|id)|\bcredits?\b|(?<!thinking )\bbudgets?\b|\bpayments?\b|\bunpaid\b|\bpast due\b"
    r"|\binsufficient (?:funds|balance)\b",
    re.IGNORECASE,
)
_MONEY_REASON = re.compile(r"BILLING|\bSPEND|_SPEND|CREDIT")
_JOB_QUOTAS = ("concurrent", "open batch", "active batch")
_KEY = re.compile(r"\bAIza[\w-]{8,}|\bAQ\.[\w.-]{8,}|(?<=api_key:)[\w.-]+")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error reply, reduced to what decides. ``reasons`` and ``fields`` come from the details of the envelope."""

    code: int
    status: str = ""
    message: str = ""
    reasons: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    retry_after_s: float | None = None


class Verdict(Enum):
    """What may be done next."""

    LATER = auto()
    QUOTA = auto()
    SPEND = auto()
    IN_DOUBT = auto()
    NEVER = auto()
    MISSING = auto()
    AUTH = auto()


def _failed_precondition(problem: Problem) -> bool:
    return problem.code == 400 and problem.status == "FAILED_PRECONDITION"


def _wants_money(problem: Problem) -> bool:
    """A spend cap, credits that are used up, billing that is off: somebody has to pay, or the month to end.

    An ordinary refusal for quota speaks of billing, too ("check your plan and billing details"), and a bad row may be
    refused with a word on invoices, so neither the word alone nor every status will do.
    """
    if problem.code == 402:
        return True
    if problem.code not in (403, 429) and not _failed_precondition(problem):
        return False
    if any(map(_MONEY_REASON.search, problem.reasons)):
        return True
    text = problem.message.lower()
    return bool(_MONEY.search(text)) or ("billing" in text and "quota" not in text)


RULES: tuple[tuple[Callable[[Problem], bool], Verdict, Verdict], ...] = (
    # when                                                                             verdict          if risky
    (_wants_money, Verdict.SPEND, Verdict.SPEND),
    (lambda p: p.code == 429, Verdict.QUOTA, Verdict.QUOTA),
    (lambda p: p.code in (408, 499) or p.code >= 500, Verdict.LATER, Verdict.IN_DOUBT),
    (lambda p: p.code == 409 and p.status == "ALREADY_EXISTS", Verdict.NEVER, Verdict.IN_DOUBT),
    (lambda p: p.code == 409, Verdict.LATER, Verdict.IN_DOUBT),
    (lambda p: p.code == 401 or "API_KEY_INVALID" in p.reasons, Verdict.AUTH, Verdict.AUTH),
    (lambda p: p.code == 403 and "may not exist" in p.message, Verdict.MISSING, Verdict.MISSING),
    (lambda p: p.code == 403, Verdict.AUTH, Verdict.AUTH),
    (lambda p: p.code in (404, 410), Verdict.MISSING, Verdict.MISSING),
    (lambda p: _failed_precondition(p) and bool(_FILE_NOT_ACTIVE.search(p.message)), Verdict.LATER, Verdict.LATER),
    (_failed_precondition, Verdict.NEVER, Verdict.AUTH),  # the region, say: the account's fault, not the prompts'
    (lambda _: True, Verdict.NEVER, Verdict.NEVER),
)
"""The first row that matches decides."""

BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""What httpx raises before a byte of the request has left."""


def verdict(problem: Problem, *, risky: bool) -> Verdict:
    """What an error reply means, by the first row of ``RULES`` that matches."""
    return next(doubt if risky else safe for matches, safe, doubt in RULES if matches(problem))


def refusal(problem: Problem, *, call: str, risky: bool) -> ProviderError:
    """The error to raise for an error reply."""
    text = f"{call}: HTTP {problem.code} {problem.status}: {problem.message}".rstrip(": ")
    if named := [clean(field, 100) for field in problem.fields[:3] if field and field not in problem.message]:
        text += f" ({', '.join(named)})"
    code = problem.code
    # A synchronous call buys, as a create does: the region is the account's fault there too.
    blames_account = call == "answer" and _failed_precondition(problem) and not _wants_money(problem)
    match Verdict.AUTH if blames_account else verdict(problem, risky=risky):
        case Verdict.LATER | Verdict.QUOTA | Verdict.SPEND as why:
            quota, spend = why is Verdict.QUOTA, why is Verdict.SPEND
            return Transient(
                text,
                call=call,
                code=code,
                retry_after_s=problem.retry_after_s,
                quota=quota,
                spend=spend,
                resource=named_quota(problem.message),
            )
        case Verdict.IN_DOUBT:
            return Ambiguous(text, call=call, code=code)
        case Verdict.MISSING:
            return Rejected(text, call=call, code=code, missing=True, model="models/" in problem.message)
        case Verdict.AUTH:
            return Rejected(text, call=call, code=code, auth=True)
        case Verdict.NEVER:
            return Rejected(text, call=call, code=code, line=refused_line(problem) if risky else None)


def failure(error: Exception, *, call: str, risky: bool) -> ProviderError:
    """The error to raise when there was no whole reply: timeouts, refused and dropped connections."""
    kind = type(error).__name__
    if isinstance(error, BEFORE_SENDING):
        return Transient(f"{call}: not sent: {kind}: {clean(str(error), 200)}", call=call)
    if risky:
        return Ambiguous(f"{call}: sent, but no whole reply came: {kind}", call=call)
    return Transient(f"{call}: no whole reply came: {kind}", call=call)


def named_quota(message: str) -> str:
    """Which quota a refusal is about, ``tokens`` or ``jobs``; mostly it does not say (protocol section 14)."""
    text = message.lower()
    if "token" in text:
        return "tokens"
    return "jobs" if any(words in text for words in _JOB_QUOTAS) else ""


def refused_line(problem: Problem) -> int | None:
    """The 1-based input line that a 400 blames, where it names one."""
    if problem.code != 400:
        return None
    if found := _LINE.search(problem.message):
        return int(found[1]) or None
    for text in (*problem.fields, problem.message):
        if found := _INLINE_ROW.search(text):
            return int(found[1]) + 1
    return None


def read_problem(code: int, headers: Mapping[str, str], body: bytes, *, now_s: float) -> Problem:
    """Reduce an error reply; a body that is no error envelope (a proxy's page, say) leaves only the code."""
    error = _envelope(body)
    wishes = (
        _header_delay_s(headers.get("retry-after", ""), now_s),
        *(_duration_s(d.retry_delay) for d in error.details),
    )
    return Problem(
        code=code,
        status=clean(error.status, 64),
        message=clean(error.message),
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
    status: str = ""
    message: str = ""
    details: tuple[_Detail, ...] = ()


class _BareError(msgspec.Struct, frozen=True):
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
            return _Error(status=bare.status, message=bare.message)
    return _Error()


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
