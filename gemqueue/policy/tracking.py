"""When to poll a job, and what a poll says. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.policy.beliefs import unit_s
from gemqueue.states import JobState

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.policy.turnaround import Turnaround
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch, WebhookHealth

_AGE_SHARE = 0.01
_LOOK_SHARE = 0.2
"""How many of the jobs that are still running may end between two polls: about five polls a job."""
_ANNOUNCED_ENDS = 5
"""Ends in a row that webhooks must have told of first before polls become rarer."""
_ANNOUNCED_WITHIN_MS = 24 * 3600 * 1000
_ANNOUNCED_FACTOR = 6.0
"""With ``poll_max_s`` at its default a job whose event is lost is seen after half an hour at the latest."""


class TrackStep(StrEnum):
    """What follows from a poll of a job."""

    LATER = "later"
    END = "end"


class AfterPoll(msgspec.Struct, frozen=True):
    """``delay_s`` is until the next poll, or until the results are read."""

    step: TrackStep
    delay_s: float
    job_state: JobState = JobState.RUNNING


def poll_delay_s(polls: int, settings: Settings, known: Turnaround | None = None, age_s: float = 0.0) -> float:
    """When a fifth of the jobs that get this old will have ended, between ``poll_first_s`` and ``poll_max_s``.

    So polls are rare before jobs of the model usually end, close where most do (but never closer than a hundredth of
    the job's age), and rarer again past that. Where nothing is known of the model: half as long again after each poll.
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
    """How much longer polls may wait while webhooks tell of ends first; 1 as soon as an end came without one.

    Polling never stops: a lost event costs its batch at most this many times the pause that it would have had.
    """
    proven = health.announced >= _ANNOUNCED_ENDS and now_ms - health.announced_at < _ANNOUNCED_WITHIN_MS
    return _ANNOUNCED_FACTOR if proven else 1.0


def announced_delay_s(batch: Batch, delay_s: float, health: WebhookHealth, now_ms: int, settings: Settings) -> float:
    """The pause ``delay_s`` before the next poll, given what webhooks say.

    An event may come before a poll shows the end (pains.md, behaviour 12): such a job is polled soon, then again
    after half the time that has passed since the event.
    """
    if batch.event_at:
        return min(delay_s, max(settings.poll_first_s, (now_ms - batch.event_at) / 2000))
    return delay_s * webhook_factor(health, now_ms)


def after_poll(
    batch: Batch, status: JobStatus, settings: Settings, known: Turnaround | None = None, age_s: float = 0.0
) -> AfterPoll:
    """A terminal job ends the batch; a cancelled one is given ``cancel_settle_s`` for late rows (design, Tracking).

    One without output is looked at again before that is believed (``policy.beliefs``).
    """
    if not status.state.terminal:
        return AfterPoll(TrackStep.LATER, poll_delay_s(batch.polls, settings, known, age_s))
    if status.state is JobState.CANCELLED:
        return AfterPoll(TrackStep.END, settings.cancel_settle_s, status.state)
    if status.has_output:
        return AfterPoll(TrackStep.END, 0.0, status.state)
    soon_s = settings.backoff_first_s if status.state is JobState.SUCCEEDED else unit_s(settings)
    return AfterPoll(TrackStep.END, min(soon_s, unit_s(settings)), status.state)
