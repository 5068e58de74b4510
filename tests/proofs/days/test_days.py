"""Short forms of the worst days; ``python -m tests.days`` runs them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proofs.days.claims import fair_claims, quota_claims, slow_claims
from tests.proofs.days.fair_day import fair_day
from tests.proofs.days.quota_day import quota_day
from tests.proofs.days.slow_day import slow_day

if TYPE_CHECKING:
    from pathlib import Path


async def test_hours_of_429s_fail_nothing_and_throughput_comes_back(redis_url: str, tmp_path: Path) -> None:
    """No prompt fails, none is charged, the ledger adds up at every step, and throughput is back at the limit."""
    seen = await quota_day(redis_url, tmp_path / "e", storm_h=2, calm_h=6, known=False)
    assert [claim for claim, holds in quota_claims(seen).items() if not holds] == []
    assert seen["refused_in_the_storm"] > 5
    assert min(seen["tokens_by_hour_share_of_limit"][1:3]) >= 0.95
    assert seen["tokens_by_hour_share_of_limit"][-1] >= 0.95


@pytest.mark.parametrize("policy", ["wait", "split"])
async def test_a_stalled_model_is_left_alone_until_it_expires(policy: str, redis_url: str, tmp_path: Path) -> None:
    """An alarm and an estimate, nothing cancelled early; near 48 hours the policy's way; all is answered once."""
    seen = await slow_day(redis_url, tmp_path / "e", stall_h=60, policy=policy)
    assert [claim for claim, holds in slow_claims(seen).items() if not holds] == []
    assert seen["alarm_after_h"] > 0.1
    if policy == "wait":
        assert seen["cancelled_after_h"] is None
        assert 48 <= seen["ended_after_h"] < 48.6
        assert seen["jobs_that_did_not_succeed"] == ["EXPIRED"]
        assert seen["jobs_of_the_stalled_model_afterwards"] == [50, 50]
        assert seen["returned_free_of_charge"] == 100
    else:
        assert 47 <= seen["cancelled_after_h"] < 48
        assert seen["jobs_of_the_stalled_model_afterwards"] == [50]
        assert seen["returned_free_of_charge"] == 50


async def test_who_floods_first_has_no_more_than_its_share(redis_url: str, tmp_path: Path) -> None:
    """While quota is full shares are by weight, what is urgent waits for one job at most, and nobody is left out."""
    seen = await fair_day(redis_url, tmp_path / "e", jobs=20)
    assert [claim for claim, holds in fair_claims(seen).items() if not holds] == []
