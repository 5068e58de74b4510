"""Slow and dead: from when a job is slow, when a policy acts, and how small the first batches are."""

from __future__ import annotations

from typing import Any

import pytest

from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError
from gemqueue.policy import packing, slow
from gemqueue.policy.slow import Policy
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, Kind
from tests.policy.test_turnaround import known

SETTINGS = Settings()


def batch(**changed: Any) -> Batch:
    """A batch with a job."""
    lane = str(Lane("emulated.local", "m", Kind.GENERATE))
    return Batch(id="b", v=1, state=BatchState.SUBMITTED, lane=Lane.parse(lane), fence=1, **changed)


def test_slow_is_what_nearly_all_of_its_kind_are_not() -> None:
    """Past p99 of a model of which enough is known, never below ten minutes; else past the provider's own aim."""
    assert slow.slow_from_s(known([3_600] * 99 + [36_000])) == pytest.approx(36_000, rel=1)
    assert slow.slow_from_s(known([1.0] * 50)) == 600
    assert slow.slow_from_s(known([600] * 9)) == slow.slow_from_s(None) == 24 * 3600


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("wait", "m", Policy.WAIT),
        ("split", "m", Policy.SPLIT),
        ("wait m=cancel", "m", Policy.CANCEL),
        ("wait m=cancel", "other", Policy.WAIT),
        ("cancel m=wait", "m", Policy.WAIT),
    ],
)
def test_the_policy_is_by_model(text: str, model: str, expected: Policy) -> None:
    """A default, and exceptions."""
    assert slow.policy_of(Settings(slow_policy=text), model) is expected


@pytest.mark.parametrize("text", ["never", "", "wait m=", "m=never", "=split", "wait, m=split"])
def test_a_policy_that_is_none_is_refused(text: str) -> None:
    """Before anything starts, by the name of the setting."""
    with pytest.raises(ConfigError, match="slow_policy"):
        load_settings(env={}, slow_policy=text)


def test_a_policy_acts_once_and_late() -> None:
    """Not before its time, not twice, and never when it is to wait."""
    late_s = SETTINGS.slow_after_s
    assert slow.must_cancel(batch(), late_s, SETTINGS, Policy.CANCEL)
    assert not slow.must_cancel(batch(), late_s - 1, SETTINGS, Policy.CANCEL)
    assert not slow.must_cancel(batch(cancel_at=1), late_s, SETTINGS, Policy.SPLIT)
    assert not slow.must_cancel(batch(), late_s, SETTINGS, Policy.WAIT)
    split = Settings(slow_policy="split")
    assert slow.halves(batch(cancel_at=1, slow_at=1), split)
    assert not slow.halves(batch(cancel_at=1), split), "cancelled because nobody waited for it"
    assert not slow.halves(batch(cancel_at=1, slow_at=1), SETTINGS)


def test_first_batches_are_small_and_few() -> None:
    """While no job of the model has succeeded, ten batches are small; what only expired proves nothing."""
    small, large = SETTINGS.first_prompts_max, SETTINGS.batch_prompts_max
    assert packing.first_batch_prompts(None, 0, SETTINGS) == small
    assert packing.first_batch_prompts(None, 10, SETTINGS) == large
    assert packing.first_batch_prompts(known([600]), 0, SETTINGS) == large
    assert packing.first_batch_prompts(known([48 * 3600 + 60]), 0, SETTINGS) == small
