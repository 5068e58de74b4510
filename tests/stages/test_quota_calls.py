"""Which refusal is about which quota: only a create's touches the ceilings, and what is held gives its room back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Shop


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"on": "create", "do": "429"}, "quota (create)"),
        ({"on": "upload_start", "do": "429"}, "quota (upload)"),
        ({"on": "create", "do": "403"}, "account (create)"),
    ],
)
async def test_only_a_create_refused_for_quota_shrinks_a_ceiling(
    fault: dict[str, str], reason: str, made: Shop
) -> None:
    """A full storage or a wrong key holds the batch with its reason, and leaves nothing reserved; nothing fails."""
    made.emulator.faults([fault | {"nth": [1]}])
    await made.submit("one", "two")
    batch = await made.sealed()
    await made.step(Step.SUBMIT, batch)
    record, ledger = await made.store.batch(batch), await made.store.ledger(ACCOUNT)
    assert record is not None
    assert record.held_reason.startswith(reason)
    assert (bool(ledger.corrections), ledger.reservations) == (reason == "quota (create)", ())
    await made.drain()
    counts = await made.store.counts()
    assert (counts["answered"], counts.get("failed", 0), counts.get("requeued", 0)) == (2, 0, 0)
