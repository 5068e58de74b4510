"""What to do with a job that has ended, and with each of its rows. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from gemqueue.provider import JobStatus
from gemqueue.states import BatchState, FailureKind, JobState

if TYPE_CHECKING:
    from gemqueue.records import Batch

_READS_MAX = 3
_DENIALS_MAX = 10
REFUSED = "refused"
"""Job state of a batch that the provider will never accept."""
EMPTY = "empty"
"""Job state of a batch in which nothing was left to buy."""
INTERACTIVE = "interactive"
"""Job state of a batch of an interactive lane: there is no job, its prompts are asked one by one."""


class ResolvePlan(StrEnum):
    """What an ended batch needs."""

    COLLECT = "collect"
    """Stream the results; settle, requeue, close."""
    GIVE_BACK = "give_back"
    """The job came to nothing: its segments go back as they are, free of charge."""
    REFUSE = "refuse"
    """Every prompt fails as invalid."""
    CLOSE = "close"
    """Nothing is open; clean up."""
    ASK = "ask"
    """Ask for every open prompt by itself."""


def came_short(batch: Batch) -> bool:
    """Whether what a job has not brought goes back free of charge: it did not succeed, or was asked to cancel."""
    return batch.job_state != JobState.SUCCEEDED or batch.cancel_at > 0


def resolve_plan(batch: Batch, status: JobStatus | None) -> ResolvePlan:
    """What to do with an ended batch, given a fresh poll of its job (None where it has none, or none any more)."""
    if batch.job_state == REFUSED:
        return ResolvePlan.REFUSE
    if batch.job_state == INTERACTIVE:
        return ResolvePlan.ASK
    if batch.job_state == EMPTY:
        return ResolvePlan.CLOSE
    if batch.state is BatchState.CLOSING:
        return ResolvePlan.GIVE_BACK if came_short(batch) else ResolvePlan.CLOSE
    return ResolvePlan.COLLECT if status is not None and status.has_output else ResolvePlan.GIVE_BACK


def known_output(batch: Batch) -> JobStatus | None:
    """What is known of a job that the provider denies: the result file that was seen at its end may still be there."""
    if not batch.output_file:
        return None
    return JobStatus(job=batch.job, state=JobState(batch.job_state), output_file=batch.output_file, rows=batch.rows)


def is_known_whole(batch: Batch) -> bool:
    """Whether the poll that ended the batch has told all: success is final, and the file can be read by its name.

    After any trouble with it the job is polled again.
    """
    return batch.job_state == JobState.SUCCEEDED and bool(batch.output_file) and not batch.tries


def believe_gone(batch: Batch) -> bool:
    """Whether results that the provider denies are gone for good: what is given back is bought again (pains.md 3)."""
    return batch.job_state != JobState.SUCCEEDED or batch.denials >= _DENIALS_MAX


def believe_missing(short_reads: int, rows: int, told: int) -> bool:
    """Whether rows that two readings did not bring are missing: the provider counts no more, or keeps saying so."""
    return rows >= told or short_reads >= _READS_MAX


def read_again(batch: Batch) -> bool:
    """Whether results are read once more whose prompts are open although each was settled or went on.

    A server that has lost writes under the reader's hands is told again what the job brought; it is not bought again.
    """
    return batch.short_reads < _READS_MAX


class RowFate(StrEnum):
    """What becomes of one row."""

    ANSWER = "answer"
    FAIL = "fail"
    RETRY = "retry"
    BURY = "bury"
    """It fails through no fault of its own, after every retry."""


_FATES: dict[str, tuple[RowFate, FailureKind | None]] = {
    "answered": (RowFate.ANSWER, None),
    "blocked": (RowFate.FAIL, FailureKind.BLOCKED),
    "empty": (RowFate.FAIL, FailureKind.EMPTY),
    "invalid": (RowFate.FAIL, FailureKind.INVALID),
    "retryable": (RowFate.RETRY, FailureKind.PROVIDER),
    "missing": (RowFate.RETRY, FailureKind.MISSING),
}


def row_fate(verdict: str, attempt: int, attempts_max: int) -> tuple[RowFate, FailureKind | None]:
    """What becomes of a row with this verdict when its segment is on its ``attempt``-th retry (0 is the first try)."""
    fate, kind = _FATES[verdict]
    if fate is RowFate.RETRY and attempt + 1 >= attempts_max:
        return RowFate.BURY, kind
    return fate, kind
