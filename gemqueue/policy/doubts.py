"""What follows from calls at an interactive service that brought no reply. Pure.

A call has no fence and no name under which it could be looked for: without a reply nobody knows whether it was answered
and billed. A prompt is asked for again once, then its batch has it; where no batch may have it, it waits an hour before
each further call, and fails in the end. A lane of which call after call is lost asks no more, but for a single call
after pauses that grow: what takes the replies, a proxy or a network, takes the next prompt's too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from gemqueue.policy.deadlines import Next, Service, after_failure
from gemqueue.records import BATCH, Hold
from gemqueue.states import Cause

CALLS_MAX: Final = 2
"""Calls in doubt after which a prompt is asked for no more, if a batch may have it."""
DOUBTS_MAX: Final = 4
"""How many more calls a prompt gets that no batch may have."""
RETRY_S: Final = 3600.0
"""How far these lie apart."""
SILENT_CALLS: Final = 5
"""Lost replies in a row, of all of a lane's calls, after which it asks no more."""
PROBE_FIRST_S: Final = 60.0
PROBE_MAX_S: Final = 3600.0
"""How long a lane without replies waits before it tries one call, at first and at most; each lost one doubles it."""


class AfterDoubts(StrEnum):
    """What becomes of a prompt some of whose calls are in doubt."""

    ASK = "ask"
    BATCH = "batch"
    WAIT = "wait"
    """It is asked for once in ``RETRY_S``."""
    FAIL = "fail"


def after_doubts(doubts: int, *, batch_may: bool) -> AfterDoubts:
    """What becomes of a prompt of which so many calls are in doubt; ``batch_may``: it may go into a batch."""
    if doubts < CALLS_MAX:
        return AfterDoubts.ASK
    if batch_may:
        return AfterDoubts.BATCH
    return AfterDoubts.WAIT if doubts < CALLS_MAX + DOUBTS_MAX else AfterDoubts.FAIL


def after_silence(
    here: Next, slack_s: float | None, refusals: int, allowed: tuple[Service, ...], lead_s: float
) -> Next:
    """Where a prompt goes whose lane asks no more: to its batch, or it waits for standard where that will make it.

    ``here`` is the lane's service and how long it asks no more; the rest as in ``after_failure``.
    """
    if here.service == Service.FLEX and Service.STANDARD in allowed and slack_s is not None:
        return after_failure(here, slack_s, refusals, allowed, lead_s)
    return Next(BATCH)


def wait_s(asked_at_ms: int, now_ms: int) -> float:
    """How long a prompt still waits that was last asked for at this time; a clock that went back makes it no longer."""
    return min(RETRY_S, max(0.0, RETRY_S - (now_ms - asked_at_ms) / 1000)) if asked_at_ms else 0.0


def why_doubt(service: str, doubts: int) -> Hold:
    """Why a batch waits with a prompt of which so many calls are in doubt."""
    text = f"doubt: {doubts} calls to {service} for one prompt got no reply and may be billed; asked again once an hour"
    return Hold(Cause.DOUBT, f"{text}, {CALLS_MAX + DOUBTS_MAX} times at most")


def why_silent(service: str, since_ms: int) -> Hold:
    """Why a lane asks no more."""
    since = datetime.fromtimestamp(since_ms / 1000, UTC)
    text = f"doubt: calls to {service} get no replies since {since:%Y-%m-%d %H:%M} UTC; one is tried now and then"
    return Hold(Cause.DOUBT, f"{text}: look for a proxy that cuts silent connections")


def why_failed(service: str, doubts: int) -> str:
    """What a prompt that is given up says."""
    return f"{doubts} calls to {service} got no reply; each may have been answered and billed"
