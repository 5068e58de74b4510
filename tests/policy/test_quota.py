"""Quotas as decisions: limits, ceilings, what a refusal is about, and what is left."""

from __future__ import annotations

from typing import Any

import pytest

from gemqueue.config import Settings
from gemqueue.policy import holds, quota
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Correction, Ledger, Limits, Reservation, Resource
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState
from gemqueue_adapters.problems import named_quota
from tests.worlds.bench import LANE

OPEN = Limits(jobs_max=100, tokens_max=1_000_000)
SETTINGS = Settings()


def ledger(*tokens: int, **corrections: Correction) -> Ledger:
    """A ledger of open batches of the model ``m``."""
    return Ledger(tuple(Reservation(f"b{n}", "m", n, 0) for n in tokens), corrections)


def batch(**changed: Any) -> Batch:
    """A sealed batch."""
    plain: dict[str, Any] = {
        "id": "b",
        "v": 1,
        "state": BatchState.SEALED,
        "lane": Lane.parse(LANE),
        "fence": 1,
        "prompts": 10,
    }
    return Batch(**(plain | changed))


@pytest.mark.parametrize(
    ("tier", "own", "expected"),
    [("", 10**12, 10**12), ("1", 10**12, 3), ("2", 10**12, 40), ("2", 5, 5), ("", 5, 5)],
)
def test_limits_come_from_tier_and_settings(tier: str, own: int, expected: int) -> None:
    """The tier's tokens where it is known, never above the settings'; without a tier only the settings'."""
    chosen = Settings(tier=tier, enqueued_tokens_max=own)
    assert quota.limits(chosen, "m", {"m": (3, 40, 500)}).tokens_max == expected
    assert quota.limits(chosen, "unknown", {"m": (3, 40, 500)}).tokens_max == own


def test_a_batch_fits_the_whole_limit() -> None:
    """Batches are packed smaller than the limit, by what the provider counts and not by what was estimated."""
    assert quota.batch_tokens_max(SETTINGS, OPEN, 1.0) == 1_000_000
    assert quota.batch_tokens_max(SETTINGS, OPEN, 2.0) == 500_000
    assert quota.batch_tokens_max(SETTINGS, Limits(100, 10**12), 1.0) == SETTINGS.batch_tokens_max


@pytest.mark.parametrize(
    ("message", "named", "jobs", "expected"),
    [
        ("Quota exceeded for enqueued tokens", "tokens", 99, Resource.TOKENS),
        ("Too many concurrent batches", "jobs", 1, Resource.JOBS),
        ("You exceeded your current quota", "", 90, Resource.JOBS),
        ("You exceeded your current quota", "", 10, Resource.TOKENS),
    ],
)
def test_what_a_refusal_is_about(message: str, named: str, jobs: int, expected: Resource) -> None:
    """By its words where they say it; else by which limit is nearer, and tokens where that is not known."""
    assert named_quota(message) == named
    assert quota.blamed(named, ledger(*range(jobs)), "m", Limits(100, 10**12)) is expected


def test_why_is_said_in_words() -> None:
    """What is short, how much is in use, and whether the provider has said so."""
    assert holds.why_no_room(QuotaHold(Resource.JOBS, 100, 100, 1, False)).text == "open jobs: 100 of 100 in use"
    said = holds.why_no_room(QuotaHold(Resource.TOKENS, 5_000, 4_500, 1, True))
    assert said.text == "enqueued tokens: the provider refused more (429), 5,000 in use, ceiling now 4,500"


def test_token_counts_correct_the_estimate() -> None:
    """The ratio of what was counted to what was estimated; none from a few prompts, or from replies without a count."""
    assert quota.token_ratio(batch(prompts=100, tokens=1_000), [30] * 10 + [0] * 10) == 3.0
    assert quota.token_ratio(batch(prompts=100, tokens=1_000), [30] * 9) is None


def test_room_is_what_is_left() -> None:
    """Of the limit, or of a shrunken ceiling, whichever is less; never below nothing."""
    assert ledger(100, 200).room("m", OPEN) == (98, 999_700)
    shrunk = ledger(100, 200, **{"jobs": Correction(ceiling=3.4, max=100), "tokens/m": Correction(250, 10**6)})
    assert shrunk.room("m", OPEN) == (1, 0)
    assert shrunk.room("other", OPEN) == (1, 1_000_000)


def test_a_batch_refused_alone_again_and_again_is_divided() -> None:
    """Not at the first refusals, not while others are open, and not for ever."""
    assert [n for n in range(1, 9) if quota.must_divide(batch(), n, alone=True)] == [4, 8]
    assert not quota.must_divide(batch(), 4, alone=False)
    assert not quota.must_divide(batch(prompts=1), 4, alone=True)
    assert not quota.must_divide(batch(refusals=6), 4, alone=True)
