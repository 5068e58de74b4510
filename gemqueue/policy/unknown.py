"""Jobs of ours that no record knows, as a look at a listing shows them. Pure.

There are honest reasons for one: a failover lost the record, a restored backup works under the same home, a create is
in flight, a reply came from a replica that lags. So a job is first of all noted. It is counted, and an alarm, only once
it was seen again, ``again_s`` apart. It is compared at once, which adopts or rebuilds what belongs together, and it is
never cancelled, because it may be wanted and paid for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.policy.beliefs import LIFE_MS, unit_s
from gemqueue.policy.reconciling import Standing, standing
from gemqueue.states import BatchState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.config import Settings
    from gemqueue.policy.job_names import Token
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch

KEEP_S: Final = 2 * LIFE_MS // 1000
"""A job's life and its results' together (protocol sections 8.5 and 10), and some more."""
_LOOK_UNITS: Final = 10
_AGAIN_S_MIN: Final = 1.0
_UNKNOWN: Final = frozenset({Standing.RUNNING, Standing.LOST, Standing.ORPHANED, Standing.WAITING})


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was noted: ``compared`` is the state in which a comparison last saw it. Times are ms."""

    job: str
    token: str = ""
    state: str = ""
    created_at: int = 0
    first_at: int = 0
    counted: bool = False
    compared: str = ""

    @property
    def is_new(self) -> bool:
        """Whether it was not compared since it is in its state."""
        return self.compared != self.state


def again_s(settings: Settings) -> float:
    """How far two sightings lie apart of a job that is counted: a minute, or a second where ``belief_s`` is tiny."""
    return max(unit_s(settings), _AGAIN_S_MIN)


def look_every_s(settings: Settings, noted: Iterable[Unknown] = ()) -> float:
    """How often all workers of an account together look at its newest jobs: sooner while one waits to be seen again."""
    waits = any(not one.counted or one.is_new for one in noted)
    return again_s(settings) * (1 if waits else _LOOK_UNITS)


def is_unknown(job: JobStatus, token: Token, record: Batch | None, now_ms: int, settings: Settings) -> bool:
    """Whether a job with one of our names is one that no record knows, or that its batch has forgotten.

    A job without a home may be anybody's who is old enough (0.1.0). One that is younger than ``settle_s`` may be about
    to be recorded, and the batch of a create in doubt looks for its job itself. The record of a batch that is done goes
    after ``keep_outcome_s``, and nothing is left of a job after ``KEEP_S``.
    """
    if not token.home or standing(job, token, record) not in _UNKNOWN:
        return False
    if record is not None and record.state is BatchState.SUBMITTING and record.intent_token == job.display_name:
        return False
    since_ms = (job.ended_at_ms if job.state.terminal else 0) or job.created_at_ms
    if job.state.terminal and since_ms and now_ms - since_ms >= (settings.keep_outcome_s - settings.skew_s) * 1000:
        return False
    age_ms = now_ms - job.created_at_ms
    return not job.created_at_ms or settings.settle_s * 1000 <= age_ms < KEEP_S * 1000


def is_twice(job: JobStatus, token: Token, record: Batch | None) -> bool:
    """Whether its batch has another job, or gave its prompts back. One that has none yet may still adopt this one."""
    return record is not None and bool(record.job) and standing(job, token, record) is Standing.TWICE
