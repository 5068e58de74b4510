"""What an unsuccessful call means for whoever made it: the one table from HTTP statuses to the three provider errors.

A call is *risky* when it may have bought something although it looks failed. Only ``create`` is; every other call may
be repeated, so its doubt is merely a reason to try again. Something is concluded only from the API's own words, which
is its error envelope with a status that fits the code: gateways, proxies and other services answer in its place with
codes and words of theirs, and may have sent the call on. Sources: protocol sections 2.1, 4.6, 8.3, 14 and 15.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue_adapters.envelope import Problem, clean

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE = re.compile(r"error on line (\d{1,9})", re.IGNORECASE)
_INLINE_ROW = re.compile(r"\brequests\[(\d{1,9})\]")
_FILE_DENIED = re.compile(r"\bfile\b.*\bmay not exist\b", re.IGNORECASE | re.DOTALL)
"""Not IAM's "Permission 'x' denied on resource 'y' (or it may not exist)", which is about the key."""
_MODEL = re.compile(r"(?<![\w/])(?:models|tunedModels)/")
"""Not the path of a request that somebody repeats."""
_FILE_NOT_ACTIVE = re.compile(r"(?i:\bfiles?\b).*\b(?:ACTIVE|PROCESSING)\b", re.DOTALL)
_MONEY = re.compile(
    r"\bspend(?:ing)?\b|\bprepa(?:y|id)|\bcredits?\b|(?<!thinking )\bbudgets?\b|\bpayments?\b|\bunpaid\b|\bpast due\b"
    r"|\binsufficient (?:funds|balance)\b",
    re.IGNORECASE,
)
_MONEY_REASON = re.compile(r"BILLING|\bSPEND|_SPEND|CREDIT")
_JOB_QUOTAS = ("concurrent", "open batch", "active batch")


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
    return problem.status == "FAILED_PRECONDITION"


def _wants_money(problem: Problem) -> bool:
    """A spend cap, credits that are used up, billing that is off: somebody has to pay, or the month to end.

    An ordinary refusal for quota speaks of billing, too ("check your plan and billing details"), and a bad row may be
    refused with a word on invoices, so neither the word alone nor every status will do.
    """
    if problem.status not in {"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}:
        return False
    if any(map(_MONEY_REASON.search, problem.reasons)):
        return True
    text = problem.message.lower()
    return bool(_MONEY.search(text)) or ("billing" in text and "quota" not in text)


RULES: tuple[tuple[Callable[[Problem], bool], Verdict, Verdict], ...] = (
    # when                                                                             verdict          if risky
    (lambda p: p.code == 402, Verdict.SPEND, Verdict.IN_DOUBT),  # no status of the API's belongs to it
    (_wants_money, Verdict.SPEND, Verdict.SPEND),
    (lambda p: p.code == 429, Verdict.QUOTA, Verdict.QUOTA),
    (lambda p: not p.own or p.code == 499 or p.code >= 500, Verdict.LATER, Verdict.IN_DOUBT),
    (lambda p: p.status == "ALREADY_EXISTS", Verdict.NEVER, Verdict.IN_DOUBT),
    (lambda p: p.status == "ABORTED", Verdict.LATER, Verdict.IN_DOUBT),
    (lambda p: p.status == "UNAUTHENTICATED" or "API_KEY_INVALID" in p.reasons, Verdict.AUTH, Verdict.AUTH),
    (lambda p: p.code == 403 and bool(_FILE_DENIED.search(p.message)), Verdict.MISSING, Verdict.MISSING),
    (lambda p: p.status == "PERMISSION_DENIED", Verdict.AUTH, Verdict.AUTH),
    (lambda p: p.status == "NOT_FOUND", Verdict.MISSING, Verdict.MISSING),
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
    text = f"{call}: HTTP {problem.code} {_said_by(problem)}: {problem.message}".rstrip(": ")
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
            return Rejected(text, call=call, code=code, missing=True, model=bool(_MODEL.search(problem.message)))
        case Verdict.AUTH:
            return Rejected(text, call=call, code=code, auth=True)
        case Verdict.NEVER:
            return Rejected(text, call=call, code=code, line=refused_line(problem) if risky else None)


def _said_by(problem: Problem) -> str:
    if problem.own:
        return problem.status
    return f"not in the API's own words ({problem.media or 'no content type'}; a gateway or proxy on the way?)"


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
