"""Packing: what becomes a batch, in which order, and when a lane is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import StaleFence
from gemqueue.states import Step
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench, body, refused, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name, batch_prompts_max=10, batch_bytes_max=10_000) as made:
        yield made


async def test_a_batch_keeps_its_limits(here: Bench) -> None:
    """Prompts, bytes and tokens each end a batch; a segment that is over a limit alone still goes."""
    for count, more in (
        (6, {}),
        (6, {}),
        (1, {"raw_bytes": 9_995}),
        (1, {"tokens": 2_499_999}),
        (1, {"tokens": 5_000_000}),
    ):
        await here.enqueue(count, **more)
        here.advance(0.01)
    claim = await here.claim(Step.PACK)
    batches = [await here.pack_one(claim) for _ in range(6)]
    assert [len(await here.store.manifest(batch)) for batch in batches[:5]] == [1] * 5
    assert batches[5] == ""
    assert (await here.store.lanes())[0].prompts == 0


async def test_what_waits_in_a_hastened_lane_does_not_linger(redis_url: str, queue_name: str) -> None:
    """Hastening a lane, even while the packer has it, makes what waits due at once; what comes later lingers again."""
    async with bench(redis_url, queue_name, linger_s=600.0) as here:
        assert not await here.store.hasten(Step.PACK, LANE, ACCOUNT)
        await here.enqueue()
        assert (await here.store.overdue(ACCOUNT, [Step.PACK])) == []
        assert await here.store.hasten(Step.PACK, LANE, ACCOUNT)
        taken = await here.store.claim(Step.PACK, LANE, ACCOUNT)
        assert taken is not None
        await here.pack_one(taken[0])
        here.advance(0.01)
        await here.enqueue()
        await here.store.hasten(Step.PACK, LANE, ACCOUNT)
        await here.store.rest(taken[0])
        assert len(await here.store.overdue(ACCOUNT, [Step.PACK])) == 1
        await here.sealed()
        here.advance(0.01)
        await here.enqueue()
        assert (await here.store.overdue(ACCOUNT, [Step.PACK])) == []


async def test_priority_first_then_first_come(here: Bench) -> None:
    """Within a tenant the higher priority goes first, and within one priority who came first."""
    ids: list[str] = []
    for priority in (0, -100, 5, 0, 100, 5):
        ids.append(await here.enqueue(1, priority=priority))
        here.advance(0.01)
    batch = await here.sealed()
    assert await here.store.manifest(batch) == [ids[n] for n in (4, 2, 5, 0, 3, 1)]


async def test_priority_goes_before_fairness(here: Bench) -> None:
    """A tenant's urgent segment goes before another's, however much the tenant has had; then it has to wait."""
    a = [await here.enqueue(3, tenant="a") for _ in range(3)]
    b = await here.enqueue(1, tenant="b")
    claim = await here.claim(Step.PACK)
    await here.pack_one(claim)
    urgent = await here.enqueue(1, tenant="a", priority=1)
    rest = [await here.enqueue(1, tenant="b"), await here.enqueue(4, tenant="a")]
    second = await here.store.manifest(await here.pack_one(claim))
    assert second[0] == urgent
    assert set(second) <= {*a, b, *rest, urgent}


async def test_tenants_share(here: Bench) -> None:
    """A tenant with few prompts is not behind one with many: they take turns, by prompts and by weight."""
    for _ in range(30):
        await here.enqueue(1, tenant="many")
    for _ in range(5):
        await here.enqueue(1, tenant="few")
    claim = await here.claim(Step.PACK)
    tenants = await _tenants(here, await here.pack_one(claim))
    assert sorted(tenants) == ["few"] * 5 + ["many"] * 5
    for _ in range(10):
        await here.enqueue(1, tenant="heavy")
    word = ("packing", 0, 0)
    while word[0] == "packing":
        word = await here.store.pack(claim, "00bw", {"heavy": 4.0})
    assert (await _tenants(here, "00bw")).count("heavy") == 8


@pytest.mark.parametrize("priority", [0, 1, -100, 100])
async def test_the_largest_weight_leaves_the_smallest_its_share(here: Bench, priority: int) -> None:
    """A hundred to one means that, also for segments of one prompt and at every priority: nobody is passed over."""
    for tenant, n in (("heavy", 420), ("light", 10)):
        for _ in range(n):
            await here.enqueue(1, tenant=tenant, priority=priority)
    claim = await here.claim(Step.PACK)
    tenants: list[str] = []
    while len(tenants) < 400:
        batch = f"00b{len(tenants)}"
        while (await here.store.pack(claim, batch, {"heavy": 100}))[0] == "packing":
            pass
        tenants += await _tenants(here, batch)
    assert 3 <= tenants.count("light") <= 6


async def _tenants(here: Bench, batch: str) -> list[str]:
    metas = await here.store.segment_metas(await here.store.manifest(batch))
    return [meta.tenant for meta in metas if meta]


async def test_a_newcomer_starts_level(here: Bench) -> None:
    """Who comes after a tenant that has passed a thousand prompts shares with it at once, and no more than that."""
    for _ in range(99):
        await here.enqueue(10, tenant="old")
    here.advance(1)
    for _ in range(20):
        await here.enqueue(1, tenant="old")
    claim = await here.claim(Step.PACK)
    for _ in range(99):
        await here.pack_one(claim)
    for _ in range(20):
        await here.enqueue(1, tenant="new")
    tenants: list[str] = []
    for _ in range(3):
        tenants += await _tenants(here, await here.pack_one(claim))
    assert sorted(tenants) == ["new"] * 15 + ["old"] * 15


async def test_many_tenants_each_get_their_turn(here: Bench) -> None:
    """With more tenants than a batch has room for, each has been served once before any is served twice."""
    for tenant in range(40):
        for _ in range(2):
            await here.enqueue(1, tenant=f"t{tenant:02}")
    claim = await here.claim(Step.PACK)
    tenants: list[str] = []
    for _ in range(8):
        tenants += await _tenants(here, await here.pack_one(claim))
    assert sorted(tenants[:40]) == sorted(tenants[40:]) == [f"t{n:02}" for n in range(40)]
    assert await here.ttl("tenants", LANE) == -2


async def test_a_crashed_packer_s_batch_is_finished(here: Bench) -> None:
    """The next claim of the lane finds the batch that was being packed, and goes on with it; the old holder cannot."""
    await _many(here)
    claim = await here.claim(Step.PACK)
    assert (await here.store.pack(claim, "00b1", {}))[0] == "packing"
    here.advance(here.settings.lease_s + 1)
    taken = await here.store.claim(Step.PACK, LANE, ACCOUNT)
    assert taken is not None
    assert getattr(taken[1], "batch") == "00b1"  # noqa: B009 - a lane's record
    await refused(lambda: here.store.pack(claim, "00b1", {}), StaleFence, here)
    await refused(lambda: here.store.rest(claim), StaleFence, here)
    assert await here.pack_one(taken[0], "00b1") == "00b1"
    assert (await here.store.pack(taken[0], "00b1", {}))[0] == "sealed"
    assert len(await here.store.manifest("00b1")) == 600


async def _many(here: Bench) -> None:
    """More segments than one call packs."""
    for _ in range(600):
        await here.enqueue(0)


async def _due_in_s(here: Bench) -> float | None:
    """When the lane's step is due, counted from now."""
    score = await here.store.redis.zscore(here.store.key("due", ACCOUNT), f"pack {LANE}")
    return None if score is None else score / 1000 - here.clock.now_ms() / 1000


async def test_a_lane_lingers(redis_url: str, queue_name: str) -> None:
    """A lane is due when its oldest segment has lingered, later ones never put that off; a full lane is due at once."""
    async with bench(redis_url, queue_name, batch_prompts_max=10, linger_s=30) as here:
        await here.enqueue(3)
        assert 29 < (await _due_in_s(here) or 0) <= 30
        here.advance(20)
        await here.enqueue(3)
        assert 9 < (await _due_in_s(here) or 0) <= 10
        here.advance(0.01)
        await here.enqueue(4)
        assert (await _due_in_s(here) or 0) <= 0
        here.advance(0.01)
        claim = await here.claim(Step.PACK)
        await here.enqueue(10)
        assert await here.store.claim(Step.PACK, LANE, ACCOUNT) is None
        await here.pack_one(claim)
        await here.store.rest(claim)
        assert (await _due_in_s(here) or 0) <= 0
        claim = await here.claim(Step.PACK)
        await here.pack_one(claim)
        await here.store.rest(claim)
        assert await _due_in_s(here) is None


async def test_retries_wait_for_their_time(redis_url: str, queue_name: str) -> None:
    """A delayed segment is not packed before it is ready, wakes the lane when it is, and then needs no lingering."""
    async with bench(redis_url, queue_name) as here:
        segment = await here.enqueue()
        claim = await here.ended()
        await here.store.requeue(claim, retry("00r1", segment, [0], delay_ms=500_000), body(1))
        assert 499 < (await _due_in_s(here) or 0) <= 500
        await here.enqueue()
        pack = await here.claim(Step.PACK)
        await here.pack_one(pack, "00b1")
        await here.store.rest(pack)
        assert "00r1" not in await here.store.manifest("00b1")
        assert 400 < (await _due_in_s(here) or 0) <= 500
        here.advance(501)
        pack = await here.claim(Step.PACK)
        assert await here.pack_one(pack, "00b2") == "00b2"
        assert await here.store.manifest("00b2") == ["00r1"]


async def test_a_lane_s_ceiling_limits_its_batches(here: Bench) -> None:
    """After a job of ten prompts has failed, batches hold five."""
    await here.enqueue(10)
    await here.close(await here.ended("failed"), give_back=True)
    here.advance(0.01)
    for _ in range(6):
        await here.enqueue(2)
    claim = await here.claim(Step.PACK)
    prompts: list[int] = []
    while batch := await here.pack_one(claim):
        record = await here.store.batch(batch)
        prompts.append(record.prompts if record else 0)
    assert sorted(prompts) == [4, 4, 4, 10]
