"""What is said of an assumption, and what it is judged by."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_workers.prove.state import Step

if TYPE_CHECKING:
    from gemqueue_workers.prove.state import Job, State, Tally

SUCCEEDED = "succeeded"


class Verdict(StrEnum):
    """Whether the provider is as we take it to be."""

    HELD = "held"
    FAILED = "did not hold"
    NOT_SEEN = "not seen"


class Finding(msgspec.Struct, frozen=True):
    """A verdict, in words and in figures."""

    verdict: Verdict
    said: str
    evidence: dict[str, Any] = {}


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """All that the judges look at."""

    state: State
    model: str
    settle_s: float
    live: bool


def held(said: str, /, **evidence: Any) -> Finding:
    """It is so."""
    return Finding(Verdict.HELD, said, evidence)


def failed(said: str, /, **evidence: Any) -> Finding:
    """It is not so."""
    return Finding(Verdict.FAILED, said, evidence)


def not_seen(said: str, /, **evidence: Any) -> Finding:
    """Nobody knows."""
    return Finding(Verdict.NOT_SEEN, said, evidence)


def judged(right: bool, said: str, /, **evidence: Any) -> Finding:
    """Held or not."""
    return (held if right else failed)(said, **evidence)


def waits(sight: Sight, slot: str) -> Finding | None:
    """Why a trial cannot be judged yet; None where its job has ended and was read."""
    job = sight.state.jobs.get(slot)
    if slot in sight.state.over_budget:
        return not_seen("budget: its job would have passed it")
    if job is None:
        return not_seen("its job was not begun")
    said = {
        Step.INTENDED: "nobody knows yet whether its job was created",
        Step.CREATED: "its job has not ended yet",
        Step.ENDED: "its results are not read yet",
        Step.REFUSED: f"its create was refused ({job.code}): {job.refusal}",
        Step.LATER: f"its create was put off: {job.refusal}",
        Step.DEAD: "its create is in doubt, and no job of its was found",
    }.get(job.step)
    return not_seen(said) if said else None


def counted(sight: Sight, slot: str) -> Tally | Finding:
    """The rows of a trial; or why there are none to judge by."""
    job = sight.state.jobs.get(slot)
    if (waiting := waits(sight, slot)) is not None or job is None:
        return waiting or not_seen("its job was not begun")
    if job.tally is None or job.end != SUCCEEDED:
        return not_seen(f"its job ended as {job.end} without results: {job.error}".rstrip(": "))
    return job.tally


def tallies(sight: Sight) -> list[tuple[Job, Tally]]:
    """Every job with rows."""
    return [(job, job.tally) for job in sight.state.every() if job.tally is not None]
