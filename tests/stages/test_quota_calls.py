"""Which refusal is about which quota: only a create's touches the ceilings, and what is held gives its room back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Stages


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"on": "create", "do": "429"}, "quota (create)"),
        ({"on": "upload_start", "do": "429"}, "quota (upload)"),
        ({"on": "create", "do": "403"}, "account (create)"),
    ],
)
async def test_only_a_create_refused_for_quota_shrinks_a_ceiling(
    fault: dict[str, str], reason: str, stages: Stages
) -> None:
    """A full storage or a wrong key holds the batch with its reason, and leaves nothing reserved; nothing fails."""
    stages.emulator.faults([fault | {"nth": [1]}])
    await stages.submit("one", "two")
    batch = await stages.sealed()
    await stages.step(Step.SUBMIT, batch)
    record, ledger = await stages.store.batch(batch), await stages.store.ledger(ACCOUNT)
    assert record is not None
    assert record.held_reason.startswith(reason)
    assert (bool(ledger.corrections), ledger.reservations) == (reason == "quota (create)", ())
    await stages.drain()
    counts = await stages.store.counts()
    assert (counts["answered"], counts.get("failed", 0), counts.get("requeued", 0)) == (2, 0, 0)
