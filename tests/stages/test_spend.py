"""A provider that refuses for want of money: prompts wait, at no charge, and go on by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Stages

WAYS = [("create", "spend_cap"), ("create", "no_credits"), ("create", "no_billing"), ("create", "unpaid")]


@pytest.mark.parametrize(("point", "do"), [*WAYS, ("upload_start", "no_billing"), ("upload_start", "spend_cap")])
async def test_money_holds_the_account_and_costs_nothing(point: str, do: str, stages: Stages) -> None:
    """The account is held with its own reason, without a ceiling; it goes on after the pause; no attempt is charged."""
    stages.emulator.faults([{"on": point, "do": do, "nth": [1, 2]}])
    await stages.submit("one", "two")
    first = await stages.sealed()
    await stages.submit("three")
    second = await stages.sealed()
    await stages.step(Step.SUBMIT, first)
    record, ledger = await stages.store.batch(first), await stages.store.ledger(ACCOUNT)
    assert record is not None
    assert record.held_reason.startswith(f"spend ({'create' if point == 'create' else 'upload'}): ")
    assert (list(ledger.corrections), ledger.reservations) == (["spend"], ())
    tried = stages.emulator.fault_hits()
    await stages.step(Step.SUBMIT, second)
    held = await stages.store.batch(second)
    assert held is not None
    assert held.held_reason.startswith("spend: the provider refuses for lack of money")
    assert stages.emulator.fault_hits() == tried, "nothing is uploaded meanwhile"
    await stages.drain(rounds_max=60 * 5)
    counts = await stages.store.counts()
    assert (counts["answered"], counts.get("failed", 0), counts.get("requeued", 0)) == (3, 0, 0)
    assert (counts["spend_refused"], counts.get("quota_refused", 0)) == (2, 0)
    assert (await stages.store.ledger(ACCOUNT)).corrections == {}
    assert stages.emulator.ledger()["bought_twice"] == []


async def test_a_look_that_is_refused_for_money_concludes_nothing(stages: Stages) -> None:
    """A job goes on being looked at; its answers come as soon as the provider says them."""
    await stages.submit("one")
    await stages.submitted()
    stages.emulator.faults([{"on": "get", "do": "no_billing", "nth": [1, 2]}])
    await stages.drain()
    assert (await stages.store.counts())["answered"] == 1
    assert (await stages.store.ledger(ACCOUNT)).corrections == {}
