"""What to do with a job that has ended, and with each of its rows. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.policy.beliefs import Belief, job_end_ms, pace_of, reads_now
from gemqueue.provider import JobStatus
from gemqueue.states import BatchState, FailureKind, JobState

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.policy.beliefs import Evidence
    from gemqueue.records import Batch

_READS_MAX = 3
REFUSED = "refused"
"""Job state of a batch that the provider will never accept."""
EMPTY = "empty"
"""Job state of a batch in which nothing was left to buy."""
INTERACTIVE = "interactive"
"""Job state of a batch of an interactive lane: there is no job, its prompts are asked one by one."""


class ResolvePlan(StrEnum):
    """What an ended batch needs."""

    LOOK = "look"
    """A fresh look at its job, and at the results."""
    COLLECT = "collect"
    """Its results are settled; close."""
    GIVE_BACK = "give_back"
    """The job came to nothing: its segments go back as they are, free of charge."""
    REFUSE = "refuse"
    """Every prompt fails as invalid."""
    CLOSE = "close"
    """Nothing is open; clean up."""
    ASK = "ask"
    """Ask for every open prompt by itself."""


_WITHOUT_JOB = {REFUSED: ResolvePlan.REFUSE, INTERACTIVE: ResolvePlan.ASK, EMPTY: ResolvePlan.CLOSE}


def came_short(batch: Batch) -> bool:
    """Whether what a job has not brought goes back free of charge: it did not succeed, or was asked to cancel."""
    return batch.job_state != JobState.SUCCEEDED or batch.cancel_at > 0


def first_plan(batch: Batch) -> ResolvePlan:
    """What to do with an ended batch before anybody looks at its job.

    One that was being closed needs no look, but where the server has lost what had been settled.
    """
    if batch.job_state in _WITHOUT_JOB:
        return _WITHOUT_JOB[batch.job_state]
    if not batch.job:
        return ResolvePlan.GIVE_BACK
    if batch.state is BatchState.CLOSING:
        if came_short(batch):
            return ResolvePlan.GIVE_BACK
        return ResolvePlan.LOOK if batch.short_reads else ResolvePlan.CLOSE
    return ResolvePlan.LOOK


def as_seen(batch: Batch, status: JobStatus | None) -> Batch:
    """The batch with the end that a fresh look shows: its record may hold a word that the provider took back."""
    if status is None or not status.state.terminal or batch.job_state == JobState.SUCCEEDED:
        return batch
    return msgspec.structs.replace(batch, job_state=str(status.state))


def known_output(batch: Batch) -> JobStatus | None:
    """What is known of a job that the provider denies: the result file that was seen at its end may still be there."""
    if not batch.output_file:
        return None
    return JobStatus(job=batch.job, state=JobState(batch.job_state), output_file=batch.output_file, rows=batch.rows)


def is_known_whole(batch: Batch) -> bool:
    """Whether the poll that ended the batch has told all: success is final, and the file can be read by its name.

    After any trouble with it the job is polled again.
    """
    succeeded = batch.job_state == JobState.SUCCEEDED and bool(batch.output_file)
    return succeeded and not batch.tries and not batch.seen_n


def shown_at_end(batch: Batch, status: JobStatus | None, detail: str = "") -> str:
    """What a look shows that found no results to read, as evidence; empty where it contradicts the end of the job.

    ``detail`` says what was denied. A job that named an output once, or succeeded once, has results, whatever it says
    later. One that failed, expired or was cancelled never has any (protocol section 6), but its end was seen in one
    look until now; a denial of the job is no second one.
    """
    if status is not None and not status.state.terminal:
        return ""
    state = JobState(batch.job_state) if status is None else status.state
    unknown = status is None and batch.ended_at < job_end_ms(batch)
    promised = batch.output_file or detail or unknown or JobState.SUCCEEDED in {batch.job_state, state}
    if promised:
        return f"{Belief.RESULTS_GONE} {detail or ('job' if status is None else 'output')}"
    return f"{Belief.NO_OUTPUT} {state}"


def shown_by_end(status: JobStatus) -> str:
    """What the poll that ends a batch shows already: the first look of those that its end takes; empty with results."""
    if status.has_output:
        return ""
    if status.state is JobState.SUCCEEDED:
        return f"{Belief.RESULTS_GONE} output"
    return f"{Belief.NO_OUTPUT} {status.state}"


class Reading(msgspec.Struct, frozen=True):
    """A whole reading of results: how many rows with keys of the batch came until now, and how many were errors.

    ``garbled`` lines were no rows, ``missing`` prompts have not come; ``digest`` is that of all lines.
    """

    came: int
    errors: int
    garbled: int
    missing: int
    digest: str = ""


def shown_by_reading(status: JobStatus, reading: Reading) -> str:
    """What a reading that lacks rows shows: the service's own counters agree with it, or they do not."""
    word = "counted" if _counters_agree(status, reading) else "uncounted"
    return f"{Belief.ROWS_MISSING} {word} {reading.digest}"


def polls_only(seen: Evidence, settings: Settings) -> bool:
    """Whether the next look need not read results of which rows are missing: they may have gigabytes."""
    if seen.belief is not Belief.ROWS_MISSING:
        return False
    return not reads_now(seen.n + 1, pace_of(seen.what), settings)


def known_digest(seen: Evidence) -> str:
    """The digest of the reading that the evidence is of; empty where it is of something else."""
    return seen.what.rpartition(" ")[2] if seen.belief is Belief.ROWS_MISSING else ""


def _counters_agree(status: JobStatus, reading: Reading) -> bool:
    """Whether the service counts just the rows that came, or counts those that did not come as failed.

    Counters of a job that succeeded and do not add up are not those of its end. A line that is no row is taken for the
    row of one of its keys, where others came.
    """
    counted = status.rows_ok + status.rows_failed
    if counted <= 0 or (not reading.came and (reading.garbled or status.rows_ok)):
        return False
    if status.state is JobState.SUCCEEDED and status.rows and counted != status.rows:
        return False
    answered = reading.came - reading.errors
    return counted == reading.came + reading.garbled or (
        not reading.garbled and status.rows_ok == answered and status.rows_failed >= reading.errors
    )


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
    "unusable": (RowFate.FAIL, FailureKind.EMPTY),
    "retryable": (RowFate.RETRY, FailureKind.PROVIDER),
    "missing": (RowFate.RETRY, FailureKind.MISSING),
}


def row_fate(verdict: str, attempt: int, attempts_max: int) -> tuple[RowFate, FailureKind | None]:
    """What becomes of a row with this verdict when its segment is on its ``attempt``-th retry (0 is the first try)."""
    fate, kind = _FATES[verdict]
    if fate is RowFate.RETRY and attempt + 1 >= attempts_max:
        return RowFate.BURY, kind
    return fate, kind
