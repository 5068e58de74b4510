"""Prompts with a deadline in a batch that may bring nothing: when another way is offered them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.packing import full_limits
from gemqueue.records import Lane
from gemqueue.states import BatchState, Step
from tests.worlds.stages import LANE, Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.emulator_process import EmulatorProcess
    from tests.valkey_server import ValkeyServer

DAY_S = 24 * 3600
"""What a lane without a history is taken to need."""
BELIEF_S = 24 * 3600.0
"""As long as it may be: results that are denied come back too late for what is wanted in a day."""
EARLIER_S = 100
"""So long it may wait in the batch lane."""


@pytest.fixture
async def watched(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    """Stages that may send what a batch cannot make to Flex."""
    async with open_stages(valkey.url, queue_name, emulator, deadline_policy="flex", belief_s=BELIEF_S) as made:
        yield made


async def under_way(stages: Stages) -> str:
    """Two prompts that are in a batch, and that the rescue step leaves there until the last moment; the batch."""
    deadline_s = DAY_S + stages.settings.deadline_margin_s + EARLIER_S
    await stages.submit("one", "two", deadline_at=stages.clock.now_ms() + int(deadline_s * 1000))
    assert await stages.step(Step.RESCUE, LANE)
    stages.clock.advance(full_limits(stages.settings)["review_ms"] / 1000)
    batch = await stages.submitted()
    stages.clock.advance(EARLIER_S + 10)
    assert await stages.step(Step.RESCUE, LANE)
    assert not await stages.step(Step.RESCUE, LANE)
    return batch


async def flex_prompts(stages: Stages) -> int:
    """How many prompts wait in the Flex lane."""
    return (await stages.store.waiting_prompts([Lane.parse(LANE).of("flex")]))[0]


async def state_of(stages: Stages, batch: str) -> BatchState:
    record = await stages.store.batch(batch)
    assert record is not None
    return record.state


async def test_denied_results_offer_flex_at_once(watched: Stages) -> None:
    """One look without results offers nothing; the second, a minute later, has the batch's prompts reviewed."""
    batch = await under_way(watched)
    watched.emulator.faults([{"on": "download", "do": "404"}])
    watched.jobs_end()
    assert await watched.step(Step.TRACK, batch)
    assert await watched.step(Step.RESOLVE, batch)
    assert await state_of(watched, batch) is BatchState.ENDED
    assert not await watched.step(Step.RESCUE, LANE)
    watched.clock.advance(121)
    assert await watched.step(Step.RESOLVE, batch)
    assert await watched.step(Step.RESCUE, LANE)
    assert await flex_prompts(watched) == await watched.count("rescued") == 2


async def test_a_job_that_nobody_knows_offers_flex_at_once(watched: Stages) -> None:
    """A job that two polls deny, far from the end of its life, is not waited for by what is wanted sooner."""
    batch = await under_way(watched)
    watched.emulator.faults([{"on": "get", "do": "404"}, {"on": "list", "do": "lag", "seconds": 1e6}])
    for rescued in (0, 2):
        watched.clock.advance(watched.settings.poll_max_s + 1)
        assert await watched.step(Step.TRACK, batch)
        await watched.step(Step.RESCUE, LANE)
        assert await watched.count("rescued") == rescued
    assert await flex_prompts(watched) == 2


async def test_a_create_in_doubt_offers_flex_at_the_last_moment(watched: Stages) -> None:
    """However long the pauses of a create in doubt are, Flex is offered in time, and not sooner."""
    watched.emulator.faults([{"on": "create", "do": "lost_after"}])
    batch = await under_way(watched)
    assert await state_of(watched, batch) is BatchState.SUBMITTING
    await watched.store.redis.hset(watched.store.key("batch", batch), "deaths", 9)
    watched.clock.advance(DAY_S + watched.settings.deadline_margin_s - watched.settings.flex_lead_s - 100)
    assert not await watched.step(Step.RESCUE, LANE)
    watched.clock.advance(100)
    assert await watched.step(Step.RESCUE, LANE)
    assert await watched.count("rescued") == 2
