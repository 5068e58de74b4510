"""What a claimed submit step is for, and what follows from a create that failed. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.policy.backoff import backoff_s, transient_delay_s
from gemqueue.policy.holds import why_call_failed
from gemqueue.policy.inputs import begins_anew, blames_input
from gemqueue.records import NOT_HELD, Hold
from gemqueue.states import BatchState

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.provider import JobStatus
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


def submit_step(batch: Batch, now_ms: int, settle_s: float) -> SubmitStep:
    """What to do with a batch whose submit step has just been claimed."""
    if batch.state is BatchState.SEALED:
        return SubmitStep.UPLOAD
    if batch.fenced_at == 0:
        return SubmitStep.FENCE
    return SubmitStep.WAIT if now_ms < batch.fenced_at + settle_s * 1000 else SubmitStep.FIND


def is_named(batch: Batch) -> bool:
    """Whether an event has named the job of an intent that nobody has accepted yet."""
    return batch.state is BatchState.SUBMITTING and batch.event_job != ""


def announced(batch: Batch, status: JobStatus) -> bool:
    """Whether a job that an event named, polled by name, is the one that the standing intent created."""
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
