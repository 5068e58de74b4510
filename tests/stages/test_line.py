"""The line for room at the provider: what is sealed while there is none, who is next, and what wakes a parked lane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.policy.packing import Parked
from gemqueue.records import Lane
from gemqueue.states import Step
from tests.worlds.stages import ACCOUNT, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.emulator_process import EmulatorProcess
    from tests.worlds.stages import Stages

pytestmark = pytest.mark.usefixtures("no_leaks")
BATCH_PROMPTS = 2


@pytest.fixture
async def stages(redis_url: str, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    """Room for one job of two prompts."""
    limits: dict[str, Any] = {"open_jobs_max": 1, "model_jobs_max": 1, "quota_cool_s": 0.0}
    limits |= {"batch_prompts_max": BATCH_PROMPTS, "first_prompts_max": BATCH_PROMPTS}
    async with open_stages(redis_url, queue_name, emulator, **limits) as made:
        yield made


async def flood(stages: Stages, batches: int) -> None:
    """As much as fills so many batches."""
    for n in range(batches):
        await stages.submit(*(f"{n}.{m}" for m in range(BATCH_PROMPTS)))
    stages.clock.advance(1)


async def submit_all(stages: Stages) -> None:
    """Every submit step that is due."""
    for member, _ in await stages.store.overdue(ACCOUNT, (Step.SUBMIT,)):
        await stages.step(Step.SUBMIT, member.partition(" ")[2])


async def due_in_s(stages: Stages) -> float:
    """When the lane's pack step is due, counted from now."""
    score = await stages.store.redis.zscore(stages.store.key("due", ACCOUNT), f"pack {stages.lane}")
    return float(score - stages.clock.now_ms()) / 1000


async def end_a_job(stages: Stages) -> None:
    """One job ends, and is seen to have."""
    stages.jobs_end()
    for member, _ in await stages.store.overdue(ACCOUNT, (Step.TRACK,)):
        await stages.step(Step.TRACK, member.partition(" ")[2])


async def test_one_batch_is_sealed_ahead(stages: Stages) -> None:
    """Of ten batches' worth one gets the room, one stands in line, and the rest waits in its lane and says why."""
    await flood(stages, 10)
    assert await stages.step(Step.PACK)
    await submit_all(stages)
    for _ in range(3):
        await stages.step(Step.PACK)
    assert len(await stages.store.open_batches()) == 2
    lane = await stages.store.lane(Lane.parse(stages.lane))
    assert (lane.prompts, lane.held_reason) == (16, "open jobs: 1 of 1 in use")
    assert await due_in_s(stages) > 60
    await stages.submit("more")
    assert await due_in_s(stages) > 60, "what comes meanwhile does not have the packer look again"
    await stages.drain()


async def test_a_parked_lane_wakes_when_the_line_moves(stages: Stages) -> None:
    """As soon as the batch ahead has the room the lane is due, and one more is sealed."""
    await flood(stages, 4)
    await stages.step(Step.PACK)
    await submit_all(stages)
    await stages.step(Step.PACK)
    await end_a_job(stages)
    assert await due_in_s(stages) > 0
    await submit_all(stages)
    assert await due_in_s(stages) <= 0
    assert (await stages.store.lane(Lane.parse(stages.lane))).held_reason == ""
    assert await stages.step(Step.PACK)
    assert (await stages.store.lane(Lane.parse(stages.lane))).prompts == 2
    await stages.drain()


async def test_a_line_that_moved_meanwhile_parks_nobody(stages: Stages) -> None:
    """If the batch ahead got its room between the packer's look and its decision, the lane is due at once."""
    await flood(stages, 4)
    await stages.step(Step.PACK)
    ahead = await stages.store.line(Lane.parse(stages.lane))
    assert len(ahead.batches) == 1
    taken = await stages.store.claim(Step.PACK, stages.lane, ACCOUNT, held=True)
    assert taken is not None
    await submit_all(stages)
    await stages.store.rest(taken[0], parked=Parked(ahead=ahead.batches[0], priority=0, reason="open jobs"))
    assert await due_in_s(stages) <= 0
    await stages.drain()


async def test_what_is_urgent_is_next(stages: Stages) -> None:
    """A prompt of higher priority than all that stand in line is sealed at once, and gets the next room."""
    await flood(stages, 4)
    await stages.step(Step.PACK)
    await submit_all(stages)
    await stages.step(Step.PACK)
    before = set(await stages.store.open_batches())
    await stages.submit("urgent", priority=3)
    assert await due_in_s(stages) <= 1
    stages.clock.advance(1)
    await stages.step(Step.PACK)
    (urgent,) = set(await stages.store.open_batches()) - before
    await submit_all(stages)
    await end_a_job(stages)
    await submit_all(stages)
    record = await stages.store.batch(urgent)
    assert record is not None
    assert record.state == "submitted"
    await stages.drain()


async def test_what_an_older_packer_sealed_drains(stages: Stages) -> None:
    """Batches without a place in line and a priority, all sealed at once, get their room one after the other."""
    await flood(stages, 1)
    sealed = [await stages.sealed()]
    store = stages.store
    for _ in range(3):
        await store.redis.delete(store.key("waiting", ACCOUNT))
        await store.redis.hdel(store.key("batch", sealed[-1]), "priority")
        await flood(stages, 1)
        sealed.append(await stages.sealed())
    await store.redis.delete(store.key("waiting", ACCOUNT))
    await stages.drain()
    assert (await store.counts())["answered"] == 8
