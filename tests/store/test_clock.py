"""The server's clock goes back, or is behind on the server that takes another's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.quota import Limits, Resource
from gemqueue.records import Hold
from gemqueue.states import Step
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench, body, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")

HOUR_S = 3600.0


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        await made.store.tick(ACCOUNT)
        yield made


async def back(here: Bench, seconds: float = HOUR_S) -> None:
    """The clock goes back, and a worker's heart beats."""
    await here.store.tick(ACCOUNT)
    here.advance(-seconds)
    assert await here.store.tick(ACCOUNT) == seconds


async def test_a_clock_that_runs_is_no_event(here: Bench) -> None:
    """Forwards, by an hour or a second, and back by less than one, nothing moves and nothing is counted."""
    await here.enqueue()
    await here.sealed()
    for seconds in (0.0, HOUR_S, 1.0, -0.9):
        due = await here.store.redis.zrange(here.store.key("due", ACCOUNT), 0, -1, withscores=True)
        here.advance(seconds)
        assert await here.store.tick(ACCOUNT) == 0.0
        assert await here.store.redis.zrange(here.store.key("due", ACCOUNT), 0, -1, withscores=True) == due
    assert await here.store.clock_back(ACCOUNT) is None
    assert (await here.store.counts()).get("clock_back", 0) == 0


async def test_what_is_due_stays_due_when_the_clock_goes_back(here: Bench) -> None:
    """A sealed batch, and a retry in its lane, are to be had after the pause that each had left, and no later."""
    await here.enqueue()
    claim = await here.ended()
    segment = await here.enqueue()
    batch = await here.sealed()
    await here.store.requeue(claim, retry("00r", segment, [0], delay_ms=5_000), body(1))
    await back(here)
    assert await here.store.claim(Step.SUBMIT, batch, ACCOUNT) is not None
    assert await here.store.claim(Step.PACK, LANE, ACCOUNT) is None
    here.advance(5.0)
    pack = await here.store.claim(Step.PACK, LANE, ACCOUNT)
    assert pack is not None
    assert await here.pack_one(pack[0]) != ""
    found = await here.store.clock_back(ACCOUNT)
    assert found is not None
    assert (found.back_ms, (await here.store.counts())["clock_back"]) == (3_600_000, 1)


async def test_a_lease_lasts_no_longer_and_no_shorter(here: Bench) -> None:
    """Whoever holds a step when the clock goes back keeps it for as long as it was promised, and no longer."""
    await here.enqueue()
    claim = await here.claim(Step.SUBMIT, await here.sealed())
    here.advance(10.0)
    await back(here)
    left_s = here.settings.lease_s - 10.0
    here.advance(left_s - 0.1)
    assert await here.store.claim(Step.SUBMIT, claim.id, ACCOUNT) is None
    here.advance(0.2)
    assert await here.store.claim(Step.SUBMIT, claim.id, ACCOUNT) is not None


async def test_waits_that_are_in_records_end_in_time(here: Bench) -> None:
    """A create in doubt was fenced now at the latest, and a refusal for quota holds as long as it would have."""
    await here.enqueue()
    claim = await here.submitting()
    await here.store.fence(claim, 30.0)
    await here.enqueue()
    other = await here.claim(Step.SUBMIT, await here.sealed())
    limits = Limits(jobs_max=10, tokens_max=1_000)
    assert await here.store.reserve(other, limits) == "ok"
    token = f"token-{other.fence}"
    other = await here.store.begin(other, token, "files/f")
    wait_s, _, _ = await here.store.shrink(other, Resource.TOKENS, limits, 40.0)
    await here.store.reopen(other, token, delay_s=wait_s, hold=Hold(text="quota"))
    await back(here)
    record = await here.store.batch(claim.id)
    assert record is not None
    assert record.fenced_at == record.intent_at == here.clock.now_ms()
    lesson = (await here.store.ledger(ACCOUNT)).corrections[f"{Resource.TOKENS}/m"]
    assert lesson.held_until - here.clock.now_ms() <= 40_000
    here.advance(41.0)
    again = await here.store.claim(Step.SUBMIT, other.id, ACCOUNT)
    assert again is not None
    assert await here.store.reserve(again[0], limits) == "ok"


async def test_an_older_records_clock_counts(here: Bench) -> None:
    """Where nobody has looked at the clock yet, the moment of the last heartbeat stands for it."""
    await here.store.greet(ACCOUNT)
    await here.enqueue()
    batch = await here.sealed()
    await here.store.beat("w", "all", ACCOUNT)
    await here.store.redis.delete(here.store.key("clock", ACCOUNT))
    here.advance(-HOUR_S)
    assert await here.store.tick(ACCOUNT) == HOUR_S
    assert await here.store.claim(Step.SUBMIT, batch, ACCOUNT) is not None


async def test_fences_rise_though_the_next_servers_clock_is_behind(here: Bench) -> None:
    """After failovers to servers that are ever more behind, and lack the last claim, no fence is given twice."""
    await here.store.greet(ACCOUNT)
    await here.enqueue()
    batch, server = await here.sealed(), here.store.key("server", ACCOUNT)
    fences: list[int] = []
    for step_s in (0.0, -120.0, -120.0):
        here.advance(step_s)
        await here.store.redis.hset(server, "run_id", f"another{step_s}")
        await here.store.redis.hdel(server, "noticed")
        kept = b""
        for _ in range(2):
            kept = await here.store.redis.dump(here.store.key("batch", batch))
            taken = await here.store.claim(Step.SUBMIT, batch, ACCOUNT, held=True)
            assert taken is not None
            fences.append(taken[0].fence)
            await here.store.release(taken[0], 0.0)
        await here.store.redis.restore(here.store.key("batch", batch), 0, kept, replace=True)
    assert fences == sorted(set(fences))
