"""A few of the lie points, other ones with each day; and the exchanges and kinds that all of them are made of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.proofs.liepoints import SCENARIOS, run, sample, verdicts
from tests.worlds.lying import KINDS

COUNT = 16


@pytest.mark.timeout(600)
def test_lies_at_an_exchange_buy_nothing_again() -> None:
    """Whatever is told at whichever exchange, each prompt gets its answer, and is bought once."""
    every = [point for point, _ in verdicts(None)]
    assert {point.scenario for point in every} == set(SCENARIOS)
    assert {point.at.partition(":")[0] for point in every} >= KINDS.keys() - {"cancel", "files"}
    seed = datetime.now(UTC).toordinal()
    found = run(sample(every, COUNT, seed), 1)
    assert {point.name: broken for point, broken in found if broken} == {}, f"seed {seed}"
