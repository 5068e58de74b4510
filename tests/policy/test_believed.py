"""What is said of a belief: since when, until when, and that a person's word is for one belief only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.policy.beliefs import (
    Belief,
    Evidence,
    Pace,
    evidence_of,
    gap_s,
    gaps_s,
    job_end_ms,
    judge,
    looked,
    pace_of,
)
from gemqueue.policy.believed import belief_hold, belief_words, decision, given_up_ms, is_decided
from gemqueue.records import NOT_HELD, Batch
from gemqueue.states import BatchState, Cause
from tests.policy.records import LANE, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON_MS = int(datetime(2026, 11, 30, 14, 2, tzinfo=UTC).timestamp() * 1000)
RECORD = Batch(
    id="00b1", v=3, state=BatchState.ENDED, lane=LANE, fence=4, ended_at=NOON_MS - 1000, accepted_at=NOON_MS - 90_000
)
MINUTE_MS = 60_000


def believed(what: str, n: int = 1, first_at: int = NOON_MS, last_at: int = 0) -> Batch:
    """The record with this evidence."""
    last_at = last_at or first_at
    return msgspec.structs.replace(RECORD, seen_what=what, seen_n=n, seen_first_at=first_at, seen_last_at=last_at)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("results_gone file", "results of batch 00b1 denied since 14:02 UTC; given up at 20:02 UTC"),
        ("no_output failed", "the job of batch 00b1 has ended without output since 14:02 UTC; given up at 14:03 UTC"),
        (
            "no_output cancelled",
            "the job of batch 00b1 has ended without output since 14:02 UTC; given up at 14:12 UTC",
        ),
        (
            "rows_missing counted ab12",
            "results of batch 00b1 lack rows since 14:02 UTC; these are asked again at 14:07 UTC",
        ),
        (
            "rows_missing uncounted ab12",
            "results of batch 00b1 lack rows since 14:02 UTC; these are asked again at 20:02 UTC",
        ),
        ("job_unknown", "the job of batch 00b1 denied since 14:02 UTC; given up at 16:01 UTC on 2 December"),
        ("", ""),
        ("what_a_newer_gemqueue_believes", ""),
    ],
)
def test_a_belief_says_since_when_and_until_when(what: str, words: str) -> None:
    """The words name the batch, the first look that agreed, and when it is given up if all looks to come agree."""
    batch = believed(what, n=1 if what else 0)
    assert belief_words(batch, evidence_of(batch), SETTINGS) == words
    hold = belief_hold(batch, SETTINGS)
    assert (hold.text, hold.cause if words else "", hold.since_ms) == (
        (words, Cause.DOUBT, NOON_MS) if words else ("", "", 0)
    )
    assert words or hold == NOT_HELD


@pytest.mark.parametrize("belief", [belief for belief in Belief if belief is not Belief.NOT_ANSWERED])
def test_every_belief_has_an_end_that_is_told(belief: Belief) -> None:
    """Of no belief anybody is told only that it waits: each that has a pace has a time."""
    batch = believed(str(belief))
    assert given_up_ms(batch, evidence_of(batch), SETTINGS) > NOON_MS
    assert " UTC; " in belief_words(batch, evidence_of(batch), SETTINGS)


def looks(what: str, late_s: list[float], settings: Settings) -> Iterator[tuple[Evidence, bool]]:
    """Looks that all show the same, each as late as it says; the evidence after each, and whether it is concluded."""
    seen, now_ms = Evidence(), NOON_MS
    pace = pace_of(what)
    for late in late_s:
        seen = looked(seen, what, now_ms, gap_s(seen, pace, settings))
        verdict = judge(seen, pace, now_ms, settings)
        yield seen, verdict.concluded
        now_ms += round((verdict.delay_s + late) * 1000)


@given(
    st.sampled_from(["results_gone file", "no_output cancelled", "rows_missing counted a", "refused"]),
    st.lists(st.floats(0, 600), min_size=15, max_size=15),
    st.sampled_from([1.0, 600.0, 21_600.0, 86_400.0]),
)
def test_what_is_told_is_when_it_is_concluded(what: str, late_s: list[float], belief_s: float) -> None:
    """It is never concluded before the time that was told after the first look, and at once when all are in time."""
    settings = Settings(belief_s=belief_s)
    told = 0
    for seen, concluded in looks(what, late_s, settings):
        told = told or given_up_ms(RECORD, seen, settings)
        if concluded:
            assert seen.last_at >= told - 1
            break
    *_, (on_time, _) = looks(what, [0.0] * (len(gaps_s(pace_of(what), settings)) + 1), settings)
    assert abs(on_time.last_at - told) <= 100


def test_a_late_look_moves_the_end_but_not_past_the_life() -> None:
    """After workers were away the remaining gaps count from the last look; the results' life ends it anyway."""
    late = believed("results_gone file", n=2, last_at=NOON_MS + 3600_000)
    assert given_up_ms(late, evidence_of(late), SETTINGS) == NOON_MS + 3600_000 + 21_600_000 - MINUTE_MS
    old = msgspec.structs.replace(late, ended_at=NOON_MS - 48 * 3600_000)
    assert given_up_ms(old, evidence_of(old), SETTINGS) == NOON_MS + 2 * 3600_000
    unknown = believed("job_unknown")
    assert given_up_ms(unknown, evidence_of(unknown), SETTINGS) == job_end_ms(unknown)
    assert pace_of(unknown.seen_what) is Pace.LIFE


def test_a_decision_is_for_one_belief_only() -> None:
    """What a person said of one belief counts for no later one, whoever forgot to take the word back."""
    batch = believed("results_gone file")
    seen = evidence_of(batch)
    decided = msgspec.structs.replace(batch, decided=decision(seen))
    assert is_decided(decided, seen)
    assert is_decided(decided, msgspec.structs.replace(seen, what="results_gone job", n=2, last_at=NOON_MS + 1))
    assert not is_decided(decided, msgspec.structs.replace(seen, what="no_output failed"))
    assert not is_decided(decided, msgspec.structs.replace(seen, first_at=NOON_MS + 1))
    assert not is_decided(batch, seen)
    assert not is_decided(batch, Evidence())
    assert belief_words(decided, seen, SETTINGS) == (
        "results of batch 00b1 denied since 14:02 UTC; a person says that it is gone: given up at the next look"
    )
