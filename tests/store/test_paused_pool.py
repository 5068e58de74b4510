"""A batch that the pause of another account of its pool holds: it keeps its place in the line, and holds nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.ids import new_batch_id
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Limits, Resource
from gemqueue.records import Hold, Lane
from gemqueue.states import Kind, Step
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue.store.batches import Claim

pytestmark = pytest.mark.usefixtures("no_leaks")

POOL, OTHER = "emulated.pool.p", "emulated.other"
POOLS_LANE = str(Lane(POOL, "m", Kind.GENERATE))


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        for account in (ACCOUNT, OTHER):
            await made.store.greet(account)
            await made.store.join_pool(POOL, account)
        yield made


def limits(jobs: int) -> Limits:
    """So many open jobs."""
    return Limits(jobs_max=jobs, tokens_max=10**9)


async def sealed(here: Bench, lane: str) -> str:
    """A batch of the account, packed from this lane."""
    await here.enqueue(1, lane=lane)
    here.advance(1.0)
    taken = await here.store.claim(Step.PACK, lane, Lane.parse(lane).account)
    assert taken is not None
    batch, word = new_batch_id(), "packing"
    while word == "packing":
        word, _, _ = await here.store.pack(taken[0], batch, {}, Lane.parse(LANE))
    await here.store.rest(taken[0])
    return batch


async def asked(here: Bench, batch: str, jobs: int) -> tuple[Claim, QuotaHold | str]:
    """A claim of the batch, and what it is told when it asks for room."""
    claim = await here.claim(Step.SUBMIT, batch)
    return claim, await here.store.reserve(claim, limits(jobs))


async def pause(here: Bench) -> None:
    """The other account's comparison is pending."""
    await here.store.redis.hset(here.store.key("server", OTHER), "run_id", "another")


async def resume(here: Bench) -> None:
    """It is over."""
    server = await here.store.server(OTHER)
    assert await here.store.resume(OTHER, server.noticed)


async def test_a_paused_batch_holds_nobody_and_keeps_its_place(here: Bench) -> None:
    """The account's own batches go past it while there is room; once it may go, it goes before those behind it."""
    assert (await asked(here, await sealed(here, LANE), 1))[1] == "ok"
    pools = await sealed(here, POOLS_LANE)
    claim, held = await asked(here, pools, 1)
    assert isinstance(held, QuotaHold)
    await here.store.release(claim, 0.0, hold=Hold(text="quota"))
    await pause(here)
    assert await here.store.claim(Step.SUBMIT, pools, ACCOUNT) is None
    assert (await asked(here, await sealed(here, LANE), 2))[1] == "ok"
    late = await sealed(here, LANE)
    claim, held = await asked(here, late, 2)
    assert isinstance(held, QuotaHold)
    await here.store.release(claim, 0.0, hold=Hold(text="quota"))
    await resume(here)
    claim, held = await asked(here, late, 3)
    assert isinstance(held, QuotaHold)
    assert held.resource is Resource.JOBS
    assert (await asked(here, pools, 3))[1] == "ok"


async def test_whoever_is_behind_a_paused_batch_is_woken(here: Bench) -> None:
    """When a job ends, the first that may go is due at once, not the one that must wait."""
    running, _ = await asked(here, await sealed(here, LANE), 1)
    for lane in (POOLS_LANE, LANE):
        claim, held = await asked(here, await sealed(here, lane), 1)
        assert isinstance(held, QuotaHold)
        await here.store.release(claim, 600.0, hold=Hold(text="quota"))
    await pause(here)
    await here.store.reserve(running, limits(1))
    running = await here.store.begin(running, "token", "files/f")
    await here.store.reopen(running, "token", delay_s=0.0)
    await here.store.release(await here.claim(Step.SUBMIT, running.id), 0.0)
    again, word = await asked(here, running.id, 2)
    assert word == "ok"
    assert again.id == running.id
    assert await here.store.claim(Step.SUBMIT, claim.id, ACCOUNT) is not None


async def test_a_reservation_of_the_dead_is_free_while_they_are_held(here: Bench) -> None:
    """Whoever had reserved for a pool's batch died, and the pool waits: the account's next batch has its room."""
    pools = await sealed(here, POOLS_LANE)
    assert (await asked(here, pools, 1))[1] == "ok"
    await pause(here)
    here.advance(here.settings.lease_s + 1)
    assert await here.store.claim(Step.SUBMIT, pools, ACCOUNT) is None
    assert (await asked(here, await sealed(here, LANE), 1))[1] == "ok"
    await resume(here)
    _, held = await asked(here, pools, 1)
    assert isinstance(held, QuotaHold)
