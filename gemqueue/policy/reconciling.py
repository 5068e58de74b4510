"""What a job at the provider is to us, as a pure function over (job, its name, the batch's record).

The records may be older than the jobs: a server that lost its last writes is at an earlier moment of the same history.
So a batch that knows nothing of a job that carries its name waits for that job, unless it has another one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from gemqueue.policy import job_names
from gemqueue.policy.inputs import blames_input
from gemqueue.states import BatchState, JobState

if TYPE_CHECKING:
    from gemqueue.policy.job_names import Token
    from gemqueue.provider import JobStatus, StoredFile
    from gemqueue.records import Batch


class Standing(StrEnum):
    """What a job of ours is to the records."""

    KNOWN = "known"
    """Its batch has it."""
    WAITING = "waiting"
    """Its batch waits for it, or was thrown back to before it: to be adopted."""
    LOST = "lost"
    """It has ended with results, and its batch's record is gone: to be made anew from the results' keys."""
    RUNNING = "running"
    """Its batch's record is gone, and until it ends nobody can say which prompts are in it."""
    TWICE = "twice"
    """Its batch has another job, or was given up though this one lives: its prompts are bought twice."""
    ORPHANED = "orphaned"
    """No record claims it, and nothing here waits for what it holds."""
    OVER = "over"
    """It came to nothing, or is long done: nothing to do."""


OPEN_QUESTIONS = frozenset({Standing.WAITING, Standing.LOST, Standing.RUNNING})
"""While there is one of these, packing and submitting might buy again what the job holds."""


def standing(job: JobStatus, token: Token, record: Batch | None) -> Standing:
    """What a job with one of our names is."""
    if record is None or record.state is BatchState.PACKING:
        return _without_record(job)
    if _lives_after_all(job, record):
        return Standing.TWICE
    if record.job == job.job:
        return Standing.KNOWN
    if blames_input(job) or job.job in record.missed_jobs.split():
        return Standing.OVER
    if record.job:
        return _beside_another(job, token, record)
    return _without_job(job, token, record)


def _lives_after_all(job: JobStatus, record: Batch) -> bool:
    """Whether a job runs, or has results, that was given up because it was said to have brought nothing."""
    lives = job.state in {JobState.RUNNING, JobState.SUCCEEDED}
    if job.job in record.missed_jobs.split():
        return bool(record.job) and (lives or job.has_output)
    given_up = record.state is BatchState.CLOSED and record.given_back > 0 and record.job_state != JobState.SUCCEEDED
    return lives and given_up and record.job == job.job


def _without_record(job: JobStatus) -> Standing:
    """A list need not name the output (protocol section 6), but a job that failed as a whole has none."""
    if not job.state.terminal:
        return Standing.RUNNING
    has_results = job.has_output or job.state in {JobState.SUCCEEDED, JobState.CANCELLED}
    return Standing.LOST if has_results else Standing.OVER


def _beside_another(job: JobStatus, token: Token, record: Batch) -> Standing:
    """A later intent than that of the record's job took its place, which the server lost: that job missed its input.

    An intent that the record knows to be dead took nobody's place.
    """
    if job.state in {JobState.FAILED, JobState.EXPIRED}:
        return Standing.OVER
    intent = job_names.parse(record.intent_token)
    later = intent is not None and token.fence > intent.fence and job.display_name not in record.past_tokens.split()
    replaces = record.state is BatchState.SUBMITTED and later
    return Standing.WAITING if replaces else Standing.TWICE


def _without_job(job: JobStatus, token: Token, record: Batch) -> Standing:
    """A later intent than the record's is one that the server lost; an earlier one was thought dead, and was not."""
    if record.state is BatchState.SEALED:
        return Standing.WAITING
    if record.state is not BatchState.SUBMITTING:
        return Standing.ORPHANED  # it was refused, or nothing of it was left to buy
    intent = job_names.parse(record.intent_token)
    awaited = job.display_name == record.intent_token or intent is None or token.fence > intent.fence
    return Standing.WAITING if awaited else Standing.TWICE


def is_stray(stored: StoredFile, token: Token, record: Batch | None, now_ms: int, grace_ms: int) -> bool:
    """Whether nobody will ever need an input file: its batch is over, or goes on with another file.

    A batch that is sealed may just be uploading it, and one that has no record may be thrown back; those of a batch
    without a record are left alone for ``grace_ms``, within which ``reconcile`` may still find their job.
    """
    if token.fence or stored.generated:
        return False
    if record is None:
        return bool(token.home) and now_ms - stored.created_at_ms > grace_ms
    if record.state in {BatchState.PACKING, BatchState.SEALED}:
        return False
    if record.state is BatchState.SUBMITTING:
        return stored.file != record.intent_file and now_ms - stored.created_at_ms > grace_ms
    if record.state is BatchState.SUBMITTED:
        return record.input_file not in {"", stored.file}
    return True
