"""What a claimed submit step is for, and what follows from a create that failed. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.policy.backoff import backoff_s, transient_delay_s
from gemqueue.policy.beliefs import Belief, doubt_pause_s
from gemqueue.policy.holds import why_call_failed
from gemqueue.records import NOT_HELD, Hold
from gemqueue.states import BatchState, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.config import Settings
    from gemqueue.provider import JobStatus, Search
    from gemqueue.records import Batch

_CREATES_MAX = 1000
_DENIED_CREATES_MAX = 50


class SubmitStep(StrEnum):
    """What a claimed submit step is for."""

    UPLOAD = "upload"
    """No intent stands: upload, begin, create."""
    FENCE = "fence"
    """An intent stands and nobody knows its fate: delete its file."""
    WAIT = "wait"
    """The file is gone; calls in flight and the listing's lag are waited out."""
    FIND = "find"
    """Whatever was created shows now: adopt it, or begin anew."""


def submit_step(batch: Batch, now_ms: int, settings: Settings) -> SubmitStep:
    """What to do with a batch whose submit step has just been claimed."""
    if batch.state is BatchState.SEALED:
        return SubmitStep.UPLOAD
    if batch.fenced_at == 0:
        return SubmitStep.FENCE
    return SubmitStep.WAIT if now_ms < look_at_ms(batch, settings) else SubmitStep.FIND


def look_at_ms(batch: Batch, settings: Settings) -> int:
    """When a fenced create is looked for: the more creates in a row were believed dead, the later."""
    return batch.fenced_at + int(doubt_pause_s(batch.deaths, settings) * 1000)


def is_named(batch: Batch) -> bool:
    """Whether an event has named the job of an intent that nobody has accepted yet."""
    return batch.state is BatchState.SUBMITTING and batch.event_job != ""


def announced(batch: Batch, status: JobStatus) -> bool:
    """Whether a job that an event named, polled by name, is the one that the standing intent created."""
    return status.display_name == batch.intent_token


def tokens_of(batch: Batch) -> frozenset[str]:
    """The tokens of all creates that were ever begun for the batch: any of them may have made a job after all."""
    return frozenset({batch.intent_token, *batch.past_tokens.split()} - {""})


def since_ms(batch: Batch, settings: Settings) -> int:
    """From when on a job of the batch may have been created, with room for clocks that differ."""
    first_ms = batch.created_at if batch.past_tokens and batch.created_at else batch.intent_at
    return first_ms - int(settings.skew_s * 1000)


def adopted(search: Search, batch: Batch) -> JobStatus | None:
    """The job to adopt of those that carry one of the batch's tokens; None where there is none.

    That of the standing intent comes first, whatever became of it. One of an earlier intent, thought dead, counts where
    it runs or has brought something.
    """
    missed = batch.missed_jobs.split()
    found = [job for job in search.jobs if job.job not in missed]
    own = next((job for job in found if job.display_name == batch.intent_token), None)
    alive = (job for job in found if job.has_output or job.state in {JobState.RUNNING, JobState.SUCCEEDED})
    return own or next(alive, None)


def must_be_listed(batch: Batch, others: Iterable[Batch], now_ms: int, settings: Settings) -> frozenset[str]:
    """Jobs of the account that a whole listing shows: created since the batch's intent, and not only just."""
    until_ms = now_ms - int(settings.settle_s * 1000)
    return frozenset(
        other.job
        for other in others
        if other.job
        and other.state is BatchState.SUBMITTED
        and other.lane.account == batch.lane.account
        and other.seen_what != Belief.JOB_UNKNOWN
        and batch.intent_at <= _begun_ms(other) <= other.accepted_at <= until_ms
    )


def _begun_ms(batch: Batch) -> int:
    """Since when the batch's job may exist: it may be that of an earlier intent, which was found after all."""
    return batch.created_at if batch.past_tokens else batch.intent_at


def shown_by_listing(search: Search, must: frozenset[str]) -> str:
    """What a listing without the batch's job shows, as evidence; empty where it lacks jobs that must be in it."""
    if not must <= search.listed:
        return ""
    return f"{Belief.NOT_CREATED} witnessed" if must else Belief.NOT_CREATED


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
    QUOTA = "quota"
    """Certainly not created, for want of room: the ceiling shrinks, and the batch waits or is halved."""
    SPEND = "spend"
    """Certainly not created, for want of money: the account creates nothing for a while."""
    DOUBT = "doubt"
    """Perhaps created: fence, find the job, then act."""


class AfterCreate(msgspec.Struct, frozen=True):
    """``delay_s`` belongs to LATER, ``line`` to ISOLATE; ``hold`` says why a batch waits that does.

    ``retry_after_s`` and ``resource`` are the provider's own words of QUOTA and SPEND.
    """

    refusal: Refusal
    delay_s: float = 0.0
    hold: Hold = NOT_HELD
    line: int | None = None
    retry_after_s: float | None = None
    resource: str = ""


def after_create_error(batch: Batch, error: ProviderError, settings: Settings) -> AfterCreate:
    """What follows from the error that a create raised (design section 6.5, 6.6)."""
    if isinstance(error, Ambiguous):
        return AfterCreate(Refusal.DOUBT)
    if isinstance(error, Transient):
        return _after_transient(batch, error, settings)
    if not isinstance(error, Rejected) or error.auth:
        delay_s = backoff_s(settings.quota_backoff_s, settings.backoff_max_s, batch.tries, batch.id)
        return AfterCreate(Refusal.LATER, delay_s, why_call_failed(error))
    if error.missing:
        return _after_missing(batch, error, settings)
    return AfterCreate(_after_refusal(batch, error, settings), line=error.line)


def _after_transient(batch: Batch, error: Transient, settings: Settings) -> AfterCreate:
    hold = why_call_failed(error)
    if error.quota and error.call == "create":
        return AfterCreate(Refusal.QUOTA, hold=hold, retry_after_s=error.retry_after_s, resource=error.resource)
    if error.spend:
        return AfterCreate(Refusal.SPEND, hold=hold, retry_after_s=error.retry_after_s)
    return AfterCreate(Refusal.LATER, transient_delay_s(batch, error, settings), hold)


def _after_missing(batch: Batch, error: Rejected, settings: Settings) -> AfterCreate:
    """The provider says "models/x is not found"; any other 404 may be a lost file, a gateway's page, another key."""
    if error.model or batch.denied_creates >= _DENIED_CREATES_MAX:
        return AfterCreate(Refusal.REFUSE)
    delay_s = backoff_s(settings.backoff_first_s, settings.backoff_max_s, batch.tries, batch.id)
    return AfterCreate(Refusal.LATER, delay_s, why_call_failed(error))


def _after_refusal(batch: Batch, error: Rejected, settings: Settings) -> Refusal:
    """Divide while there is something to divide; a named line is one line fewer and needs no other bound."""
    if batch.prompts <= 1 or batch.tries >= _CREATES_MAX:
        return Refusal.REFUSE
    if error.line is not None:
        return Refusal.ISOLATE
    return Refusal.REFUSE if batch.refusals >= settings.refusals_max else Refusal.BISECT
