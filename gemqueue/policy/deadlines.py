"""Deadlines: from what a caller says to a time, and from a time to the way that a prompt goes. All of it is pure.

The policy names the dearest way that a prompt may go: ``batch`` leaves it in its batch whatever happens, ``flex`` may
send it to Flex, ``standard`` to Flex and then to the standard tier. A prompt that waits to be packed leaves as soon as
a batch cannot be expected to make it: nothing has been bought yet, and Flex costs the same. One in an open batch leaves
at the last moment at which its next way can still make it, because from then on it may be paid for twice.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import PromptInvalid
from gemqueue.policy.beliefs import Belief, evidence_of, job_end_ms
from gemqueue.records import BATCH
from gemqueue.states import BatchState, Kind

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.policy.beliefs import Evidence
    from gemqueue.records import Batch

_GRID_MS = 1000
_DEADLINE_S_MAX = 366 * 24 * 3600
_UNPROVEN_S = 24 * 3600.0
"""What a lane without a history is taken to need: what the provider aims at."""
_READING_S = 5.0
_FULL_MS = 10_000
_REFUSALS_MAX = 30
_WAY_OUT = "give seconds from now, a timedelta, or a datetime with a time zone"


class Service(StrEnum):
    """The interactive service classes."""

    FLEX = "flex"
    STANDARD = "standard"


def deadline_at_ms(given: object, now_ms: int) -> int:
    """The time that a caller's ``deadline`` means, in ms; 0 for None. Raises PromptInvalid.

    It is cut to the second, so that prompts with "an hour from now" share segments.
    """
    if given is None:
        return 0
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise PromptInvalid(f"deadline: a datetime without a time zone means nothing to a worker; {_WAY_OUT}")
        left_s = given.timestamp() - now_ms / 1000
    elif isinstance(given, timedelta):
        left_s = given.total_seconds()
    elif isinstance(given, int | float) and not isinstance(given, bool):
        left_s = float(given)
    else:
        raise PromptInvalid(f"deadline must not be a {type(given).__name__}: {_WAY_OUT}")
    if not 0 < left_s <= _DEADLINE_S_MAX:  # NaN is not, either
        what = "has passed already" if left_s <= 0 else "is not within the next year"
        raise PromptInvalid(f"deadline {given!s:.60} {what}: {_WAY_OUT}")
    at_ms = now_ms + math.ceil(left_s * 1000)
    return at_ms - at_ms % _GRID_MS if left_s * 1000 > 2 * _GRID_MS else at_ms


def ways(policy: str, kind: Kind) -> tuple[Service, ...]:
    """The interactive services that a policy allows, cheapest first; there is no Flex for embeddings."""
    if policy == BATCH:
        return ()
    flex = (Service.FLEX,) if kind is Kind.GENERATE else ()
    return (*flex, Service.STANDARD) if policy == Service.STANDARD else flex


_DENIED = frozenset({Belief.REFUSED, Belief.NO_OUTPUT, Belief.RESULTS_GONE, Belief.JOB_UNKNOWN, Belief.FILE_GONE})
"""Beliefs by which a batch will bring nothing."""
_LOOKS = 2
"""How many looks that agree take a batch for one that brings nothing: what leaves it may be paid for twice."""


class Where(StrEnum):
    """How far a prompt has come in the batch lane."""

    WAITING = "waiting"
    """It is not bought yet: not packed, or its batch is held; or its batch is not expected to bring it any more."""
    UNDER_WAY = "under_way"
    """Its batch is being submitted, or runs; or it has ended, and what it brings is in doubt."""
    ENDED = "ended"
    """Its job is over, and the results are being read."""


def brings_nothing(seen: Evidence) -> bool:
    """Whether looks agree that a batch is not to be waited for by prompts that are wanted by a time."""
    return seen.n >= _LOOKS and seen.belief in _DENIED


def given_back_s(batch: Batch | None, now_ms: int, settings: Settings) -> float:
    """How long until a batch that brings nothing is given up at the latest, and its prompts are in the lane again."""
    if batch is None or not brings_nothing(seen := evidence_of(batch)):
        return 0.0
    end_ms = {
        Belief.RESULTS_GONE: seen.first_at + int(settings.belief_s * 1000),
        Belief.JOB_UNKNOWN: job_end_ms(batch),
    }.get(seen.belief or Belief.NO_OUTPUT, now_ms)
    return max(0, end_ms - now_ms) / 1000


def where_of(batch: Batch | None) -> Where:
    """How far the prompts of this batch have come; of none where they are not packed."""
    if batch is None:
        return Where.WAITING
    seen = evidence_of(batch)
    if seen.n:
        return Where.WAITING if brings_nothing(seen) else Where.UNDER_WAY
    if batch.state is BatchState.SEALED and batch.held_reason:
        return Where.WAITING
    return Where.ENDED if batch.state in {BatchState.ENDED, BatchState.CLOSING} else Where.UNDER_WAY


class Verdict(msgspec.Struct, frozen=True):
    """Send it to ``service``, or review again at ``again_at`` (ms; 0 for never)."""

    service: Service | None = None
    again_at: int = 0


class Prospect(msgspec.Struct, frozen=True):
    """What is known when the rescue step reviews a segment.

    ``batch_s`` is how long a job takes in nine of ten cases, None where the lane has no history; ``ahead`` are the
    prompts that the interactive lanes will have to answer before this segment's; ``doubt_s`` is how long a batch that
    brings nothing keeps it yet.
    """

    deadline_at: int
    now_ms: int
    where: Where
    batch_s: float | None
    ahead: int
    doubt_s: float = 0.0


def judge(prospect: Prospect, allowed: tuple[Service, ...], settings: Settings) -> Verdict:
    """Whether a segment leaves the batch lane now, and for where."""
    slack_s = (prospect.deadline_at - prospect.now_ms) / 1000
    queue_s = prospect.ahead * 60 / settings.interactive_per_min_max
    if not allowed or slack_s <= 0:
        return Verdict()
    if queue_s > slack_s:  # nothing makes it in time, and the batch lane costs least; perhaps others drop out
        return Verdict(again_at=prospect.now_ms + max(_FULL_MS, round(slack_s * 100)))
    leave_s = _lead_s(allowed[0], settings) + queue_s
    if prospect.where is Where.WAITING:
        batch_s = _UNPROVEN_S if prospect.batch_s is None else prospect.batch_s
        leave_s = max(leave_s, prospect.doubt_s + batch_s + settings.deadline_margin_s)
    elif prospect.where is Where.ENDED and slack_s > _lead_s(allowed[-1], settings):
        leave_s = min(leave_s, slack_s - _READING_S)
    if slack_s > leave_s:
        return Verdict(again_at=prospect.deadline_at - math.floor(leave_s * 1000))
    return Verdict(service=way_now(slack_s, allowed, settings))


def _lead_s(service: Service, settings: Settings) -> float:
    return settings.flex_lead_s if service is Service.FLEX else settings.standard_lead_s


def way_now(slack_s: float, allowed: tuple[Service, ...], settings: Settings) -> Service:
    """The cheapest of the allowed services that can still make it; the quickest where none can."""
    if Service.FLEX in allowed and (slack_s > settings.standard_lead_s or Service.STANDARD not in allowed):
        return Service.FLEX
    return allowed[-1]


class Next(msgspec.Struct, frozen=True):
    """Where a prompt goes after an interactive call that brought no answer, and when."""

    service: str
    delay_s: float = 0.0


def after_failure(
    here: Next, slack_s: float | None, refusals: int, allowed: tuple[Service, ...], lead_s: float
) -> Next:
    """After a call that may be repeated: again, or at the standard price, or after too many in the batch lane.

    ``here`` is the service that failed and how long it is best left alone; ``slack_s`` is None without a deadline;
    ``lead_s`` is what standard needs.
    """
    if refusals >= _REFUSALS_MAX:
        return Next(BATCH)
    if here.service == Service.STANDARD or Service.STANDARD not in allowed or slack_s is None:
        return here
    left_s = slack_s - lead_s
    return Next(here.service, min(here.delay_s, left_s)) if left_s > 0 else Next(Service.STANDARD)


def after_refusal(service: str, allowed: tuple[Service, ...]) -> Next:
    """After a refusal for good: Flex may not know what standard does, and neither what a batch does."""
    if service == Service.FLEX and Service.STANDARD in allowed:
        return Next(Service.STANDARD)
    return Next(BATCH)
