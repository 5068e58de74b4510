"""How long jobs have taken: a histogram by model and size class, and what it says of a job that is under way.

A sample is one job that succeeded or expired, from its creation to its end. Samples lie in logarithmic buckets of a
fifth of their length, and weigh half as much after three days, or after about a hundred newer ones: what a model did
last week says little of today. Everything here is pure; ``end`` records, ``store/turnaround.py`` reads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HALF_LIFE_MS = 3 * 24 * 3600 * 1000
LIFE_S = 48 * 3600.0
"""The provider ends what has been pending or running for longer (protocol section 10)."""
_FIRST_S = 0.1
_STEPS = 4
"""Buckets for each doubling."""
BUCKETS = 84
"""From 0.1 s to beyond 48 h."""
_SIZES = 5
_OWN_JOBS_MIN = 5.0


class Histogram(msgspec.Struct, frozen=True):
    """One size class as it lies in Redis: the weight in each bucket, as of ``at`` (ms)."""

    at: int
    w: dict[int, float]


class Turnaround(msgspec.Struct, frozen=True):
    """What is known of how long jobs take. ``weights`` has one entry a bucket; ``jobs`` is how many they stand for."""

    jobs: int
    weights: tuple[float, ...]

    @property
    def p10_s(self) -> float:
        """One job in ten was quicker."""
        return self.quantile_s(0.1)

    @property
    def p50_s(self) -> float:
        """The median."""
        return self.quantile_s(0.5)

    @property
    def p90_s(self) -> float:
        """One job in ten took longer."""
        return self.quantile_s(0.9)

    @property
    def p99_s(self) -> float:
        """One job in a hundred took longer; a job past this is slow."""
        return self.quantile_s(0.99)

    @property
    def expected_s(self) -> float:
        """The mean."""
        mass = math.fsum(self.weights)
        middles = (weight * math.sqrt(edge_s(n) * edge_s(n + 1)) for n, weight in enumerate(self.weights))
        return math.fsum(middles) / mass

    def quantile_s(self, share: float) -> float:
        """The time within which ``share`` of the jobs ended, 0 < share < 1."""
        return self._reach_s(0.0, share)

    def remaining_s(self, age_s: float, share: float = 0.5) -> float:
        """How much longer a job of this age takes, in ``share`` of the cases (0.5: the median).

        Past everything that is known, a job is taken to last as long again as it has; never past its 48 hours.
        """
        left_s = max(0.0, LIFE_S - age_s)
        if self._mass_above(age_s) <= math.fsum(self.weights) * 1e-3:
            return min(left_s, age_s * share / (1 - share))
        return min(left_s, max(0.0, self._reach_s(age_s, share) - age_s))

    def _mass_above(self, age_s: float) -> float:
        return math.fsum(weight * (1 - _part(n, age_s)) for n, weight in enumerate(self.weights))

    def _reach_s(self, age_s: float, share: float) -> float:
        """The time by which ``share`` of the jobs that outlast ``age_s`` ended; exact at a bucket's edges."""
        wanted = self._mass_above(age_s) * share
        for n, weight in enumerate(self.weights):
            start = _part(n, age_s)
            mass = weight * (1 - start)
            if mass > 0 and mass >= wanted:
                return _FIRST_S * 2 ** ((n + start + (1 - start) * wanted / mass) / _STEPS)
            wanted -= mass
        return edge_s(BUCKETS)


def edge_s(bucket: int) -> float:
    """Where a bucket begins; the first one holds everything below as well."""
    return _FIRST_S * 2 ** (bucket / _STEPS)


def _place(seconds: float) -> float:
    return _STEPS * math.log2(max(seconds, _FIRST_S) / _FIRST_S)


def _part(bucket: int, age_s: float) -> float:
    """How much of a bucket lies below ``age_s``, 0 to 1."""
    return min(1.0, max(0.0, _place(age_s) - bucket))


def size_class(prompts: int) -> int:
    """0 for up to 9 prompts, 1 for up to 99, and so on; 4 for 10,000 and more."""
    return min(_SIZES, len(str(max(1, prompts)))) - 1


def sample(prompts: int, seconds: float) -> tuple[int, int]:
    """Size class and bucket of one job, as ``end`` records them."""
    return size_class(prompts), min(BUCKETS - 1, int(_place(seconds)))


def known(histograms: dict[int, Histogram], prompts: int, now_ms: int) -> Turnaround | None:
    """What the histograms, by size class, say of a job of ``prompts``: its own class, or all where that has too few."""
    own = histograms.get(size_class(prompts))
    if own is not None and math.fsum(own.w.values()) >= _OWN_JOBS_MIN:
        return _merged([own], now_ms)
    return _merged(histograms.values(), now_ms)


def by_size(histograms: dict[int, Histogram], now_ms: int) -> dict[str, Turnaround]:
    """What each size class says by itself, by the prompts of its jobs: ``1-9``, ``10-99`` and so on."""
    found = {_prompts_of(size): _merged([one], now_ms) for size, one in sorted(histograms.items())}
    return {name: one for name, one in found.items() if one is not None}


def _prompts_of(class_: int) -> str:
    return f"{10**class_}-{10 ** (class_ + 1) - 1}" if class_ < _SIZES - 1 else f"{10**class_}-"


def together(histories: Iterable[dict[int, Histogram]], now_ms: int) -> dict[int, Histogram]:
    """The histories of several accounts as one."""
    found: dict[int, dict[int, float]] = {}
    for history in histories:
        for size, one in history.items():
            weights = found.setdefault(size, {})
            for bucket, weight in _aged(one, now_ms):
                weights[bucket] = weights.get(bucket, 0.0) + weight
    return {size: Histogram(now_ms, weights) for size, weights in found.items()}


def _aged(one: Histogram, now_ms: int) -> Iterator[tuple[int, float]]:
    fresh = 0.5 ** (max(0, now_ms - one.at) / HALF_LIFE_MS)
    return ((bucket, weight * fresh) for bucket, weight in one.w.items())


def _merged(histograms: Iterable[Histogram], now_ms: int) -> Turnaround | None:
    weights = [0.0] * BUCKETS
    for one in histograms:
        for bucket, weight in _aged(one, now_ms):
            weights[bucket] += weight
    mass = math.fsum(weights)
    return Turnaround(max(1, round(mass)), tuple(weight / mass for weight in weights)) if mass > 0 else None
