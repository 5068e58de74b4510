"""What is being believed of a batch, in words that say since when and until when, and what a person decided. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gemqueue.policy.beliefs import (
    Belief,
    Pace,
    evidence_of,
    gaps_s,
    job_end_ms,
    pace_of,
    results_end_ms,
)
from gemqueue.policy.holds import batch_held
from gemqueue.records import NOT_HELD, Hold
from gemqueue.states import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.config import Settings
    from gemqueue.policy.beliefs import Evidence
    from gemqueue.records import Batch

GONE: Final = "gone"
WAIT: Final = "wait"
_MINUTE_MS: Final = 60_000
_SAID: Final = {
    Belief.NOT_CREATED: ("no job of batch {} is listed", "another is created"),
    Belief.REFUSED: ("the create of batch {} is refused", "its prompts fail"),
    Belief.NO_OUTPUT: ("the job of batch {} has ended without output", "given up"),
    Belief.RESULTS_GONE: ("results of batch {} denied", "given up"),
    Belief.ROWS_MISSING: ("results of batch {} lack rows", "these are asked again"),
    Belief.JOB_UNKNOWN: ("the job of batch {} denied", "given up"),
    Belief.FILE_UNUSABLE: ("the input file of batch {} does not become usable", "given up"),
    Belief.FILE_GONE: ("the job of batch {} has failed because its input file was gone", "another is created"),
    Belief.NOT_ANSWERED: ("calls of batch {} are not answered", "asked again"),
}


def given_up_ms(batch: Batch, seen: Evidence, settings: Settings) -> int:
    """When it is concluded at the latest, if every look shows the same and comes in time; 0 where nothing is believed.

    A look that is late moves it, but not past the end of the job's or of its results' life.
    """
    if seen.belief is None or not seen.n:
        return 0
    pace = pace_of(seen.what)
    end_ms = _end_ms(batch, seen.belief)
    if pace is Pace.LIFE:
        return end_ms
    gaps = gaps_s(pace, settings)
    paced_ms = max(
        seen.first_at + round(sum(gaps) * 1000),
        seen.last_at + round(sum(gaps[seen.n - 1 :]) * 1000),
    )
    return min(paced_ms, max(end_ms, seen.last_at)) if end_ms else paced_ms


def _end_ms(batch: Batch, belief: Belief) -> int:
    if belief in {Belief.RESULTS_GONE, Belief.NO_OUTPUT, Belief.ROWS_MISSING}:
        return results_end_ms(batch) if batch.ended_at else 0
    return job_end_ms(batch) if belief is Belief.JOB_UNKNOWN else 0


def belief_words(batch: Batch, seen: Evidence, settings: Settings) -> str:
    """What is believed of the batch, since when, and when it is given up; empty where nothing is."""
    if seen.belief is None or not seen.n:
        return ""
    said, then = _SAID[seen.belief]
    text = f"{said.format(batch.id)} since {utc(seen.first_at)}"
    if is_decided(batch, seen):
        return f"{text}; a person says that it is gone: {then} at the next look"
    end_ms = given_up_ms(batch, seen, settings)
    return f"{text}; {then} at {utc(-(-end_ms // _MINUTE_MS) * _MINUTE_MS, seen.first_at)}" if end_ms else text


def belief_hold(batch: Batch, settings: Settings) -> Hold:
    """Why a batch waits that is under a belief, as ``belief_words`` says it; ``NOT_HELD`` where it is under none."""
    seen = evidence_of(batch)
    text = belief_words(batch, seen, settings)
    return Hold(Cause.DOUBT, text, seen.first_at) if text else NOT_HELD


def batch_waits(batch: Batch, pauses: Mapping[str, Hold], settings: Settings) -> Hold:
    """Why the batch does not move on, as ``policy.holds`` says it; else what is being believed of it."""
    held = batch_held(batch, pauses)
    return held if held.text else belief_hold(batch, settings)


def decision(seen: Evidence) -> str:
    """What ``decided`` of the record holds when a person says of this evidence that it is gone.

    It names the belief and when that began, so that it never counts for a later one.
    """
    return f"{GONE} {seen.belief} {seen.first_at}" if seen.belief is not None and seen.n else ""


def is_decided(batch: Batch, seen: Evidence) -> bool:
    """Whether a person has said of this evidence that it is gone: then the look that confirms it is the last."""
    return bool(batch.decided) and batch.decided == decision(seen)


def utc(at_ms: int, beside_ms: int | None = None) -> str:
    """A moment in UTC to the minute; with its day where that is not the day of the moment beside it."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    same = beside_ms is None or at.date() == datetime.fromtimestamp(beside_ms / 1000, UTC).date()
    return f"{at:%H:%M} UTC" if same else f"{at:%H:%M} UTC on {at.day} {at:%B}"
