"""What to do next, as pure functions over (record, event, now). The stages only carry out what is decided here.

Nothing in this file reads a clock, calls a server or draws a random number, so every decision can be checked by
property, replayed from a record, and run in lock-step with the scripts.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import Ambiguous, ProviderError, Rejected, ShortRead, Transient
from gemqueue.policy.inputs import begins_anew, blames_input
from gemqueue.policy.quota import spend_pauses_s
from gemqueue.provider import JobStatus
from gemqueue.states import BatchState, FailureKind, JobState

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.policy.turnaround import Turnaround
    from gemqueue.records import Batch, WebhookHealth

_LOST_AFTER_MS = 50 * 3600 * 1000
"""A job that the provider has denied knowing for this long is past its 48 h life (protocol section 10)."""
_CREATES_MAX = 1000
_DENIED_CREATES_MAX = 50
_READS_MAX = 3
_DENIALS_MAX = 10
_AGE_SHARE = 0.01
_LOOK_SHARE = 0.2
"""How many of the jobs that are still running may end between two looks: about five looks a job."""
_ANNOUNCED_ENDS = 5
"""Ends in a row that webhooks must have told of first before looks become rarer."""
_ANNOUNCED_WITHIN_MS = 24 * 3600 * 1000
_ANNOUNCED_FACTOR = 6.0
"""With ``poll_max_s`` at its default a job whose event is lost is seen after half an hour at the latest."""


def backoff_s(first_s: float, max_s: float, failures: int, salt: str = "") -> float:
    """Exponential, doubling from ``first_s`` to ``max_s``, spread by up to a quarter that ``salt`` decides."""
    delay_s = min(max_s, first_s * 2.0 ** min(failures, 30))
    spread = (zlib.crc32(f"{salt}:{failures}".encode()) % 1000) / 1000
    return delay_s * (1 - spread / 4)


def crash_hold_s(batch: Batch, settings: Settings) -> float | None:
    """How long to leave a batch alone at whose steps workers keep dying; None when it is to be tried.

    ``crashes`` counts claims that ran out unreleased since the batch last moved on. From ``crashes_max`` on it is held
    once for each (``crashes_held``) and then tried again, so that nothing is given up.
    """
    if batch.crashes < settings.crashes_max or batch.crashes == batch.crashes_held:
        return None
    return backoff_s(settings.quota_backoff_s, settings.backoff_max_s, batch.crashes - settings.crashes_max, batch.id)


# --- submit -----------------------------------------------------------------------------------------------------------


class SubmitStep(StrEnum):
    """What a claimed submit step is for."""

    UPLOAD = "upload"
    """No intent stands: upload, begin, create."""
    FENCE = "fence"
    """An intent stands and nobody knows its fate: delete its file."""
    WAIT = "wait"
    """The file is gone; calls in flight and the listing's lag are waited out."""
    LOOK = "look"
    """Whatever was created shows now: adopt it, or begin anew."""


def submit_step(batch: Batch, now_ms: int, settle_s: float) -> SubmitStep:
    """What to do with a batch whose submit step has just been claimed (submit_simulation.py, upload-first)."""
    if batch.state is BatchState.SEALED:
        return SubmitStep.UPLOAD
    if batch.fenced_at == 0:
        return SubmitStep.FENCE
    return SubmitStep.WAIT if now_ms < batch.fenced_at + settle_s * 1000 else SubmitStep.LOOK


def is_named(batch: Batch) -> bool:
    """Whether an event has named the job of an intent that nobody has accepted yet."""
    return batch.state is BatchState.SUBMITTING and batch.event_job != ""


def announced(batch: Batch, status: JobStatus) -> bool:
    """Whether a job that an event named, looked at by name, is the one that the standing intent created."""
    return status.display_name == batch.intent_token and adoptable(status, batch)


def adoptable(found: JobStatus | None, batch: Batch | None = None) -> bool:
    """Whether a job found by its token is to be adopted: not one in whose place ``batch`` begins anew."""
    return found is not None and not (blames_input(found) if batch is None else begins_anew(batch, found))


class Refusal(StrEnum):
    """What follows from a create that did not succeed."""

    LATER = "later"
    """Certainly not created; the same batch again, later."""
    ISOLATE = "isolate"
    """Certainly not created; the named line goes into a batch of its own."""
    BISECT = "bisect"
    """Certainly not created, no line named; halve the batch."""
    REFUSE = "refuse"
    """Certainly not created and never will be: its prompts fail."""
    DOUBT = "doubt"
    """Perhaps created: fence, look, then act."""


class AfterCreate(msgspec.Struct, frozen=True):
    """``delay_s`` and ``held_reason`` belong to LATER."""

    refusal: Refusal
    delay_s: float = 0.0
    held_reason: str = ""


def after_create_error(batch: Batch, error: ProviderError, settings: Settings) -> AfterCreate:
    """What follows from the error that a create raised (design section 6.5, 6.6)."""
    if isinstance(error, Ambiguous):
        return AfterCreate(Refusal.DOUBT)
    if isinstance(error, Transient):
        return AfterCreate(Refusal.LATER, transient_delay_s(batch, error, settings), held_reason(error))
    if not isinstance(error, Rejected) or error.auth:
        delay_s = backoff_s(settings.quota_backoff_s, settings.backoff_max_s, batch.tries, batch.id)
        return AfterCreate(Refusal.LATER, delay_s, held_reason(error))
    return (
        _after_missing(batch, error, settings) if error.missing else AfterCreate(_after_refusal(batch, error, settings))
    )


def _after_missing(batch: Batch, error: Rejected, settings: Settings) -> AfterCreate:
    """The provider says "models/x is not found"; any other 404 may be a lost file, a gateway's page, another key."""
    if "models/" in str(error) or batch.denied_creates >= _DENIED_CREATES_MAX:
        return AfterCreate(Refusal.REFUSE)
    delay_s = backoff_s(settings.backoff_first_s, settings.backoff_max_s, batch.tries, batch.id)
    return AfterCreate(Refusal.LATER, delay_s, held_reason(error))


def _after_refusal(batch: Batch, error: Rejected, settings: Settings) -> Refusal:
    """Divide while there is something to divide; a named line is one line fewer and needs no other bound."""
    if batch.prompts <= 1 or batch.tries >= _CREATES_MAX:
        return Refusal.REFUSE
    if error.line is not None:
        return Refusal.ISOLATE
    return Refusal.REFUSE if batch.refusals >= settings.refusals_max else Refusal.BISECT


def transient_delay_s(batch: Batch, error: Transient, settings: Settings) -> float:
    """How long to leave a batch alone after a call that did nothing: the provider's wish, else backoff by its tries."""
    if error.spend and error.call in {"create", "upload", "answer"}:
        return max(spend_pauses_s(settings)[0], error.retry_after_s or 0)
    if error.retry_after_s is not None:
        return min(max(error.retry_after_s, settings.backoff_first_s), settings.backoff_max_s)
    first_s = settings.quota_backoff_s if error.quota else settings.backoff_first_s
    return backoff_s(first_s, settings.backoff_max_s, batch.tries, batch.id)


_ACCOUNT = "account"


def held_reason(error: ProviderError) -> str:
    """Why a batch waits, in words that say whose limit or fault it is."""
    whose = "provider"
    if isinstance(error, Transient) and error.quota:
        whose = "quota"
    elif isinstance(error, Transient) and error.spend:
        whose = "spend"
    elif isinstance(error, Rejected) and error.auth:
        whose = _ACCOUNT
    return f"{whose} ({error.call}): {error}"


def says_refused_key(reason: str) -> bool:
    """Whether a batch's held reason is that its account's key was refused."""
    return reason.startswith(f"{_ACCOUNT} (")


# --- track ------------------------------------------------------------------------------------------------------------


class TrackStep(StrEnum):
    """What follows from a look at a job."""

    LATER = "later"
    END = "end"


class AfterPoll(msgspec.Struct, frozen=True):
    """``delay_s`` is until the next look, or until the results are read."""

    step: TrackStep
    delay_s: float
    job_state: JobState = JobState.RUNNING
    alarm: str = ""


def poll_delay_s(polls: int, settings: Settings, known: Turnaround | None = None, age_s: float = 0.0) -> float:
    """When a fifth of the jobs that get this old will have ended, between ``poll_first_s`` and ``poll_max_s``.

    So looks are rare before jobs of the model usually end, close where most do (but never closer than a hundredth of
    the job's age), and rarer again past that. Where nothing is known of the model: half as long again after each look.
    """
    if known is None:
        return min(settings.poll_max_s, settings.poll_first_s * 1.5 ** min(polls, 60))
    least_s = max(settings.poll_first_s, age_s * _AGE_SHARE)
    return min(settings.poll_max_s, max(least_s, known.remaining_s(age_s, _LOOK_SHARE)))


def job_age_s(batch: Batch, now_ms: int) -> float:
    """How long ago the job's create was sent."""
    return max(0, now_ms - batch.intent_at) / 1000


def turnaround_s(batch: Batch, status: JobStatus, now_ms: int) -> float | None:
    """How long an ended job took, by the provider's clock where it says; None where that tells nothing of the model.

    A job that expired counts as one of 48 h; one that failed or was cancelled ended for other reasons.
    """
    if status.state not in {JobState.SUCCEEDED, JobState.EXPIRED}:
        return None
    if 0 < status.created_at_ms < status.ended_at_ms:
        return (status.ended_at_ms - status.created_at_ms) / 1000
    return job_age_s(batch, now_ms)


def webhook_factor(health: WebhookHealth, now_ms: int) -> float:
    """How much longer looks may wait while webhooks tell of ends first; 1 as soon as an end came without one.

    Polling never stops: a lost event costs its batch at most this many times the pause that it would have had.
    """
    proven = health.announced >= _ANNOUNCED_ENDS and now_ms - health.announced_at < _ANNOUNCED_WITHIN_MS
    return _ANNOUNCED_FACTOR if proven else 1.0


def announced_delay_s(batch: Batch, delay_s: float, health: WebhookHealth, now_ms: int, settings: Settings) -> float:
    """The pause ``delay_s`` before the next look, given what webhooks say.

    An event may come before a look shows the end (pains.md, behaviour 12): such a job is looked at soon, then again
    after half the time that has passed since the event.
    """
    if batch.event_at:
        return min(delay_s, max(settings.poll_first_s, (now_ms - batch.event_at) / 2000))
    return delay_s * webhook_factor(health, now_ms)


def after_poll(
    batch: Batch, status: JobStatus, settings: Settings, known: Turnaround | None = None, age_s: float = 0.0
) -> AfterPoll:
    """A terminal job ends the batch; a cancelled one is given ``cancel_settle_s`` for late rows (design, Tracking)."""
    if not status.state.terminal:
        return AfterPoll(TrackStep.LATER, poll_delay_s(batch.polls, settings, known, age_s))
    delay_s = settings.cancel_settle_s if status.state is JobState.CANCELLED else 0.0
    return AfterPoll(TrackStep.END, delay_s, status.state)


def after_missing(batch: Batch, now_ms: int, settings: Settings) -> AfterPoll:
    """404 from the batch's own account is an alarm, not a failure, until the job's life must be over (pains.md 3)."""
    if now_ms - batch.accepted_at > _LOST_AFTER_MS:
        return AfterPoll(TrackStep.END, 0.0, JobState.EXPIRED, alarm="the job's life is over and nobody knows it")
    return AfterPoll(TrackStep.LATER, settings.poll_max_s, alarm="the provider does not know the job")


# --- resolve ----------------------------------------------------------------------------------------------------------

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
    """What to do with an ended batch, given a fresh look at its job (None where it has none, or none any more)."""
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
    """Whether the look that ended the batch has told all: success is final, and the file can be read by its name.

    After any trouble with it the job is looked at again.
    """
    return batch.job_state == JobState.SUCCEEDED and bool(batch.output_file) and not batch.tries


def counted(batch: Batch, error: Exception) -> dict[str, int]:
    """What is counted when a step is put back for an error.

    Any error is a try. Denials and short readings are counted apart: a provider that was away for hours has denied
    nothing, and what is believed to be gone or missing is bought again.
    """
    counts = {"tries": batch.tries + 1}
    if isinstance(error, ShortRead):
        counts["short_reads"] = batch.short_reads + 1
    elif isinstance(error, Rejected) and error.missing:
        counts["denials"] = batch.denials + 1
    return counts


def denied_creates(batch: Batch, error: ProviderError) -> int:
    """How many creates of the batch have been denied (404), this one included.

    Counted apart from its tries: quotas and outages say nothing of what a 404 is about.
    """
    return batch.denied_creates + (isinstance(error, Rejected) and error.missing)


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


def retry_delay_s(attempt: int, settings: Settings, salt: str = "") -> float:
    """How long rows wait before their ``attempt``-th retry, counted from 0."""
    return backoff_s(settings.retry_first_s, settings.retry_max_s, attempt, salt)
