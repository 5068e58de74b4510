"""Slow and dead are two things: a slow job raises an alarm; only a policy, near the provider's 48 hours, acts on it.

Healthy jobs of some models take nine hours, and whoever cancelled them after six lost most of their throughput
(pains.md 2). So a job is called slow when it is older than 99 of 100 of its kind, and that changes nothing but what is
shown. Everything here is pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.policy.turnaround import Turnaround
    from gemqueue.records import Batch

_JOBS_MIN: Final = 10
_SLOW_MIN_S: Final = 600.0
_TARGET_S: Final = 24 * 3600.0
"""What the provider aims at (protocol section 13): slow for a model of which too little is known."""


class Policy(StrEnum):
    """What is done about a job at ``slow_after_s``."""

    WAIT = "wait"
    """Nothing: it ends or expires by itself."""
    CANCEL = "cancel"
    """It is cancelled and followed to its end; what came is delivered, the rest goes on free of charge."""
    SPLIT = "split"
    """The same, and the lane's batches are halved."""


def policies(text: str) -> dict[str, Policy]:
    """``slow_policy`` by model, the default under ``""``: "wait", or "wait gemini-2.5-pro=split".

    Raises ValueError.
    """
    found = {"": Policy.WAIT}
    for word in text.split():
        model, _, policy = word.rpartition("=")
        found[model] = Policy(policy)
    return found


def policy_of(settings: Settings, model: str) -> Policy:
    """What is done about slow jobs of a model."""
    found = policies(settings.slow_policy)
    return found.get(model, found[""])


def slow_from_s(known: Turnaround | None) -> float:
    """The age from which on a job is slow."""
    if known is None or known.jobs < _JOBS_MIN:
        return _TARGET_S
    return max(known.p99_s, _SLOW_MIN_S)


def must_cancel(batch: Batch, age_s: float, settings: Settings, policy: Policy) -> bool:
    """Whether the policy acts now; it does so once."""
    return policy is not Policy.WAIT and not batch.cancel_at and age_s >= settings.slow_after_s


def halves(batch: Batch, settings: Settings) -> bool:
    """Whether the lane's batches are halved because this job was given up; it may have ended with results."""
    given_up = batch.cancel_at > 0 and batch.slow_at > 0
    return given_up and policy_of(settings, batch.lane.model) is Policy.SPLIT
