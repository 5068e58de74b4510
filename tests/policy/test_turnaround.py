"""What the turnaround history says of jobs that have ended, and of one that has not."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.policy import turnaround
from gemqueue.policy.tracking import poll_delay_s
from gemqueue.policy.turnaround import HALF_LIFE_MS, LIFE_S, Histogram, Turnaround, sample

if TYPE_CHECKING:
    from collections.abc import Sequence


SETTINGS = Settings()
lengths = st.lists(st.floats(0.2, 200_000), min_size=1, max_size=30)


def history(times_s: Sequence[float], prompts: int = 100, at: int = 0) -> dict[int, Histogram]:
    """What the store would hold after these jobs."""
    w: dict[int, float] = {}
    for seconds in times_s:
        _, bucket = sample(prompts, seconds)
        w[bucket] = w.get(bucket, 0) + 1
    return {turnaround.size_class(prompts): Histogram(at, w)}


def known(times_s: Sequence[float], prompts: int = 100) -> Turnaround:
    """What is known after these jobs."""
    found = turnaround.known(history(times_s, prompts), prompts, 0)
    assert found is not None
    return found


@given(lengths)
def test_percentiles_are_within_a_bucket(times_s: list[float]) -> None:
    """Each percentile is within a bucket, a fifth, of the exact one."""
    found, ordered = known(times_s), sorted(times_s)
    for share, said in ((0.1, found.p10_s), (0.5, found.p50_s), (0.9, found.p90_s), (0.99, found.p99_s)):
        below = ordered[min(len(ordered) - 1, int(share * len(ordered) - 1e-9))]
        assert below / 1.2 <= said <= below * 1.2 or said <= ordered[-1] * 1.2
    assert ordered[0] / 1.2 <= found.p10_s <= found.p50_s <= found.p90_s <= found.p99_s <= ordered[-1] * 1.2
    assert ordered[0] / 1.2 <= found.expected_s <= ordered[-1] * 1.2


@given(lengths, st.floats(0, 180_000), st.floats(0.05, 0.95))
def test_what_remains_is_bounded(times_s: list[float], age_s: float, share: float) -> None:
    """What remains of a job is never negative, and never takes it past its 48 hours."""
    left_s = known(times_s).remaining_s(age_s, share)
    assert 0 <= left_s <= max(0.0, LIFE_S - age_s)


def test_what_remains_depends_on_the_age() -> None:
    """Of jobs that take 10 minutes or 10 hours, a young one is expected soon, one that is half an hour old in hours."""
    found = known([600] * 90 + [36_000] * 10)
    assert found.remaining_s(0) == pytest.approx(600, rel=0.2)
    assert found.remaining_s(1_800) == pytest.approx(34_200, rel=0.2)
    assert found.remaining_s(40_000) == pytest.approx(40_000, rel=0.2)  # as long again: nothing is known beyond


def test_sizes_are_apart_where_they_are_known() -> None:
    """A size class of a few jobs speaks for itself; one that has fewer borrows from the others."""
    both = history([60] * 6, prompts=5) | history([6_000] * 2, prompts=20_000)
    small, large = turnaround.known(both, 5, 0), turnaround.known(both, 20_000, 0)
    assert small is not None
    assert large is not None
    assert small.p99_s == pytest.approx(60, rel=0.2)
    assert large.jobs == 8
    assert turnaround.known({}, 5, 0) is None


def test_each_size_is_shown_by_its_prompts() -> None:
    """From one prompt to ten thousand and more, each class by the numbers of prompts that it stands for."""
    jobs = {turnaround.sample(prompts, 600.0) for prompts in (1, 99, 100, 10_000, 200_000)}
    shown = turnaround.by_size({size: Histogram(0, {bucket: 2.0}) for size, bucket in jobs}, 0)
    assert list(shown) == ["1-9", "10-99", "100-999", "10000-"]
    assert {one.jobs for one in shown.values()} == {2}


def test_what_is_old_weighs_less() -> None:
    """Half after three days."""
    both = history([60] * 4, prompts=5) | history([6_000] * 4, prompts=20_000, at=HALF_LIFE_MS)
    found = turnaround.known(both, 100, HALF_LIFE_MS)
    assert found is not None
    assert sum(weight for weight in found.weights[:60] if weight) == pytest.approx(1 / 3, rel=0.01)


def test_accounts_are_known_together() -> None:
    """Histories of several accounts are one, size by size, each as old as it is."""
    both = turnaround.together([history([60] * 4), history([6_000] * 4, at=HALF_LIFE_MS), {}], HALF_LIFE_MS)
    found = turnaround.known(both, 100, HALF_LIFE_MS)
    assert found is not None
    assert found.jobs == 6
    assert sum(weight for weight in found.weights[:60] if weight) == pytest.approx(1 / 3, rel=0.01)
    assert turnaround.together([], 0) == {}


def test_looks_follow_the_history() -> None:
    """Rare before jobs use to end, close where they do, rarer past that; without a history as before."""
    found = known([480, 540, 600, 660, 720] * 10)
    first_s = poll_delay_s(0, SETTINGS, found, 0)
    assert first_s == SETTINGS.poll_max_s
    assert poll_delay_s(1, SETTINGS, found, 560) < 60
    assert poll_delay_s(1, SETTINGS, found, 1_200) > 100
    assert poll_delay_s(0, SETTINGS) == SETTINGS.poll_first_s


@given(lengths, st.floats(0, 180_000), st.integers(0, 100))
def test_looks_keep_their_bounds(times_s: list[float], age_s: float, polls: int) -> None:
    """Between the least and the longest pause, whatever is known."""
    assert SETTINGS.poll_first_s <= poll_delay_s(polls, SETTINGS, known(times_s), age_s) <= SETTINGS.poll_max_s


def test_a_job_needs_few_looks() -> None:
    """Jobs of about ten minutes are seen sooner after their end, with fewer looks, than without a history."""
    found = known([480, 510, 540, 570, 600, 630, 660, 690, 720] * 10)

    def looks(took_s: float, known: Turnaround | None) -> tuple[int, float]:
        at_s = 0.0
        for n in itertools.count():
            at_s += poll_delay_s(n, SETTINGS, known, at_s)
            if at_s >= took_s:
                return n + 1, at_s - took_s
        raise AssertionError("unreachable")

    with_it, without = [looks(took_s, found) for took_s in (500, 600, 700)], [looks(600, None)]
    assert max(n for n, _ in with_it) <= 14
    assert sum(late_s for _, late_s in with_it) / 3 < without[0][1] / 2
    assert sum(n for n, _ in with_it) / 3 < without[0][0]
