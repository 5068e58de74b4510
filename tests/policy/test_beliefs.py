"""What is concluded of a provider, and how slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.policy import beliefs
from gemqueue.policy.beliefs import RULES, Belief, Evidence, Pace
from tests.policy.records import SETTINGS

if TYPE_CHECKING:
    from gemqueue.config import Settings

HOUR_MS = 3600 * 1000
counted = [pace for pace in Pace if pace not in {Pace.LIFE, Pace.CALLS}]
spans_s = st.one_of(st.floats(1, 86_400), st.sampled_from([1.0, 60.0, 3600.0, 21_600.0, 86_400.0]))


def _settings(belief_s: float) -> Settings:
    return msgspec.structs.replace(SETTINGS, belief_s=belief_s)


def test_every_belief_has_its_rule() -> None:
    """The table is whole: each conclusion has its cost, evidence, pace, end and setting."""
    assert set(RULES) == set(Belief)
    assert all(all(msgspec.structs.astuple(rule)) for rule in RULES.values())


@given(belief_s=spans_s)
def test_the_hours_add_up(belief_s: float) -> None:
    """The pauses grow up to an hour, and together are belief_s; a minute is the least of them by default."""
    gaps = beliefs.gaps_s(Pace.HOURS, _settings(belief_s))
    assert sum(gaps) == pytest.approx(belief_s)
    assert list(gaps[:-1]) == sorted(gaps[:-1])
    assert max(gaps) <= 3600.001
    assert 10 <= len(gaps) <= 30
    assert gaps[0] == beliefs.unit_s(_settings(belief_s)) <= 60


@given(
    pace=st.sampled_from(counted),
    belief_s=spans_s,
    looks=st.lists(st.tuples(st.floats(0, 10_000), st.sampled_from(["a", "a", "a", "b", ""])), max_size=60),
)
def test_nothing_is_concluded_of_less_than_the_rule(
    pace: Pace, belief_s: float, looks: list[tuple[float, str]]
) -> None:
    """Only of looks that agree, lie apart as the rule says, and of which no other came between."""
    settings, seen, now_ms = _settings(belief_s), beliefs.NOTHING_SEEN, 10**12
    run: list[int] = []
    gaps = beliefs.gaps_s(pace, settings)
    for pause_s, what in looks:
        now_ms += int(pause_s * 1000)
        if not what:
            seen, run = beliefs.NOTHING_SEEN, []
            continue
        run = [*run, now_ms] if seen.what == what and run else [now_ms]
        seen = beliefs.looked(seen, what, now_ms, beliefs.gap_s(seen, pace, settings))
        if beliefs.judge(seen, pace, now_ms, settings).concluded:
            assert len(run) > len(gaps)
            assert run[-1] - run[0] >= sum(gaps) * 1000 - 1
    assert seen.n <= max(len(run), 1)


@given(pace=st.sampled_from(counted), belief_s=spans_s, early_s=st.floats(0, 5))
def test_who_looks_when_told_comes_to_an_end(pace: Pace, belief_s: float, early_s: float) -> None:
    """Looks at the times that are asked for conclude after as many as the rule says; one before its time is no look."""
    settings, now_ms = _settings(belief_s), 10**12
    seen = beliefs.looked(beliefs.NOTHING_SEEN, "x", now_ms, 0)
    looks = 1
    while not (verdict := beliefs.judge(seen, pace, now_ms, settings)).concluded:
        again = beliefs.looked(seen, "x", now_ms + int(early_s), beliefs.gap_s(seen, pace, settings))
        assert again.n == seen.n or verdict.delay_s * 1000 <= early_s + 1
        now_ms += int(verdict.delay_s * 1000)
        seen = beliefs.looked(seen, "x", now_ms, beliefs.gap_s(seen, pace, settings))
        looks += 1
    assert looks == len(beliefs.gaps_s(pace, settings)) + 1


def test_time_that_nobody_looked_proves_nothing() -> None:
    """After one look, seven hours without a worker, and another look, the belief has two looks of twelve."""
    seen = beliefs.looked(beliefs.NOTHING_SEEN, "results_gone file", 10**12, 0)
    later_ms = 10**12 + 7 * HOUR_MS
    seen = beliefs.looked(seen, "results_gone file", later_ms, beliefs.gap_s(seen, Pace.HOURS, SETTINGS))
    assert seen.n == 2
    assert not beliefs.judge(seen, Pace.HOURS, later_ms, SETTINGS).concluded


@pytest.mark.parametrize("jump_ms", [-HOUR_MS, -1])
def test_a_clock_that_goes_back_begins_anew(jump_ms: int) -> None:
    """A look that seems to come before the last is the first."""
    seen = Evidence("x", 5, 10**12, 10**12)
    assert beliefs.looked(seen, "x", 10**12 + jump_ms, 0).n == 1


@given(away_h=st.integers(0, 100), belief_s=spans_s)
def test_no_belief_is_for_ever(away_h: int, belief_s: float) -> None:
    """Past the life of it all three looks conclude, whatever they show and however late they begin, and say so."""
    settings, end_ms = _settings(belief_s), 10**12
    now_ms = end_ms - 50 * HOUR_MS + away_h * HOUR_MS
    seen, looks = beliefs.NOTHING_SEEN, 0
    while True:
        over = now_ms >= end_ms
        gap = beliefs.gap_s(seen, Pace.HOURS, settings, end_ms)
        what = f"results_gone {looks}" if over else "results_gone x"
        seen = beliefs.looked(seen, what, now_ms, gap, keeps=over)
        verdict = beliefs.judge(seen, Pace.HOURS, now_ms, settings, end_ms)
        looks += 1
        if verdict.concluded:
            break
        now_ms += int(verdict.delay_s * 1000) + 1
    assert seen.n >= 3
    assert now_ms - end_ms <= max(0, away_h - 50) * HOUR_MS + 2 * HOUR_MS
    assert not verdict.by_age or now_ms >= end_ms


def test_a_life_that_is_not_over_concludes_nothing() -> None:
    """However often a job is denied, it is not given up before it must be over."""
    seen = Evidence(Belief.JOB_UNKNOWN, 1000, 1, 10**12)
    assert not beliefs.judge(seen, Pace.LIFE, 10**12, SETTINGS, 10**12 + 1).concluded
    assert beliefs.judge(seen, Pace.LIFE, 10**12, SETTINGS, 10**12).by_age


def test_whole_results_are_read_at_most_six_times() -> None:
    """Between the readings of a belief only the job is polled; the look that concludes reads."""
    looks = len(beliefs.gaps_s(Pace.HOURS, SETTINGS)) + 1
    reads = [n for n in range(1, looks + 1) if beliefs.reads_now(n, Pace.HOURS, SETTINGS)]
    assert len(reads) <= 6
    assert reads[-1] == looks


def test_a_record_of_a_newer_version_is_no_belief() -> None:
    """A word that only a newer gemqueue knows is none of ours; evidence raises the record's version."""
    assert Evidence("nonsense x", 3, 1, 2).belief is None
    assert Evidence("no_output failed", 1, 1, 1).note().fields()["v"] == beliefs.RECORD_VERSION
    assert "v" not in beliefs.NOTHING_SEEN.note().fields()
