"""What a tenant may have: jobs in flight, prompts a minute and its share, held where batches are packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.tenants import OTHER, Rule
from gemqueue.records import Lane
from gemqueue.states import Cause, Step
from gemqueue.store.batches import JobEnd
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench, landing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue.policy.tenants import Over, Tenant
    from gemqueue.store.batches import Claim

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    """Batches of ten prompts."""
    async with bench(redis_url, queue_name, batch_prompts_max=10, linger_s=5.0) as made:
        yield made


async def packed(here: Bench, claim: Claim) -> dict[str, int]:
    """Prompts by tenant of one more batch; empty where nothing may be packed."""
    batch = await here.pack_one(claim)
    found: dict[str, int] = {}
    for meta in await here.store.segment_metas(await here.store.manifest(batch) if batch else []):
        assert meta is not None
        found[meta.tenant] = found.get(meta.tenant, 0) + meta.count
    return found


async def flood(here: Bench, tenant: str, segments: int, count: int = 5, **changed: int) -> None:
    """Segments of a tenant's."""
    for _ in range(segments):
        await here.enqueue(count, tenant=tenant, **changed)


async def overs(here: Bench) -> list[Over]:
    """Who is passed over."""
    return (await here.store.passed_over([Lane.parse(LANE)])).get(Lane.parse(LANE), [])


async def due_in_s(here: Bench) -> float | None:
    """When the lane is due, counted from now."""
    score = await here.store.redis.zscore(here.store.key("due", ACCOUNT), f"pack {LANE}")
    return None if score is None else score / 1000 - here.clock.now_ms() / 1000


async def end(here: Bench) -> None:
    """The job of a batch that has prompts of tenant a ends."""
    batches = await here.store.open_batches()
    (batch, *_) = [one for one in batches if await here.store.redis.hexists(here.store.key("shares", one), "a")]
    claim = await here.claim(Step.SUBMIT, batch)
    await here.store.begin(claim, "token", "files/f")
    await here.store.accept(claim, f"batches/{batch}", "created", 0)
    await here.store.end(await here.claim(Step.TRACK, batch), JobEnd(job_state="succeeded"))


async def test_jobs_in_flight_are_limited(here: Bench) -> None:
    """A tenant with two jobs at most gets into two batches; the others go on; when one job has ended it is next."""
    await here.store.limit(ACCOUNT, "a", jobs_max=2)
    await flood(here, "a", 8)
    await flood(here, "b", 4)
    claim = await here.claim(Step.PACK)
    got = [await packed(here, claim) for _ in range(5)]
    assert [one.get("a", 0) > 0 for one in got] == [True, True, False, False, False]
    assert sum(one.get("b", 0) for one in got) == 20
    (over,) = await overs(here)
    assert (over.tenant, over.what, over.used, over.limit, over.prompts) == ("a", "jobs", 2, 2, 30)
    assert (await here.store.lane(Lane.parse(LANE))).prompts == 0
    await here.store.rest(claim)
    assert (await due_in_s(here) or 0) > 60
    await end(here)
    assert (await due_in_s(here) or 0) <= 0
    assert (await here.store.lane(Lane.parse(LANE))).prompts == 30
    assert await packed(here, await here.claim(Step.PACK)) == {"a": 10}


async def test_prompts_a_minute_are_limited(here: Bench) -> None:
    """Of a tenant with ten prompts a minute ten are packed at once, and ten more when the minute is over."""
    await here.store.limit(ACCOUNT, "a", per_min_max=10)
    await flood(here, "a", 10)
    claim = await here.claim(Step.PACK)
    for _ in range(3):
        assert await packed(here, claim) == {"a": 10}
        assert await packed(here, claim) == {}
        await here.store.rest(claim)
        assert 59 <= (await due_in_s(here) or 0) <= 60
        here.advance(60.001)
        claim = await here.claim(Step.PACK)


async def test_a_large_segment_counts_for_as_long_as_it_fills(here: Bench) -> None:
    """Segments are not divided: one of thirty prompts, of ten a minute, counts for three minutes."""
    await here.store.limit(ACCOUNT, "a", per_min_max=10)
    await flood(here, "a", 2, 30)
    claim = await here.claim(Step.PACK)
    assert await packed(here, claim) == {"a": 30}
    assert await packed(here, claim) == {}
    await here.store.rest(claim)
    assert 179 <= (await due_in_s(here) or 0) <= 180


async def test_a_weight_in_the_table_goes_before_the_setting(here: Bench) -> None:
    """The packer's own weights count for whoever has none in the table."""
    await here.store.limit(ACCOUNT, "a", weight=4)
    await flood(here, "a", 20, 1)
    await flood(here, "b", 20, 1)
    claim = await here.claim(Step.PACK)
    word = "packing"
    while word == "packing":
        word, _, _ = await here.store.pack(claim, "00bw", {"a": 1, "b": 1})
    tenants = [meta.tenant for meta in await here.store.segment_metas(await here.store.manifest("00bw")) if meta]
    assert tenants.count("a") == 8


async def test_who_was_passed_over_comes_back_level(here: Bench) -> None:
    """Nobody saves up turns while it is over its limit: afterwards it shares with the others, and has no more."""
    await here.store.limit(ACCOUNT, "a", per_min_max=5)
    await flood(here, "a", 30, 1)
    await flood(here, "b", 90, 1)
    claim = await here.claim(Step.PACK)
    for _ in range(4):
        await packed(here, claim)
    await here.store.limit(ACCOUNT, "a", per_min_max=0)
    assert await packed(here, claim) == {"a": 5, "b": 5}


async def test_a_held_flood_does_not_hurry_the_others(here: Bench) -> None:
    """What is passed over does not count towards a full lane: another tenant's prompts linger as ever."""
    await here.store.limit(ACCOUNT, "a", jobs_max=1)
    await flood(here, "a", 10)
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    await packed(here, claim)
    await here.store.rest(claim)
    await flood(here, "b", 1, 1)
    assert 4 < (await due_in_s(here) or 0) <= 5
    await flood(here, "a", 1)
    assert (await here.store.lane(Lane.parse(LANE))).prompts == 1


async def test_who_is_passed_over_leaves_the_lane_s_counters(here: Bench) -> None:
    """What another tenant has left beside a held flood is what the lane counts, and no full lane."""
    await here.store.limit(ACCOUNT, "a", jobs_max=1)
    await flood(here, "a", 10)
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    await flood(here, "b", 3)
    assert await packed(here, claim) == {"b": 10}
    assert (await here.store.lane(Lane.parse(LANE))).prompts == 5


async def test_a_limit_that_is_raised_holds_at_once(here: Bench) -> None:
    """Jobs that were in flight before a limit was set count; without one, or with a higher one, the lane is due."""
    await flood(here, "a", 6)
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    assert await here.store.limit(ACCOUNT, "a", jobs_max=1) == Rule(jobs_max=1)
    assert await packed(here, claim) == {}
    await here.store.rest(claim)
    assert await here.store.limit(ACCOUNT, "a", jobs_max=2, weight=3) == Rule(weight=3, jobs_max=2)
    claim = await here.claim(Step.PACK)
    assert await packed(here, claim) == {"a": 10}
    assert await packed(here, claim) == {}
    assert await here.store.limit(ACCOUNT, "a", jobs_max=0, weight=0) == Rule()
    assert await here.ttl("tenant", ACCOUNT, "a") == -2
    assert await packed(here, claim) == {"a": 10}


async def test_a_job_that_ended_unnoticed_frees_its_tenant(here: Bench) -> None:
    """A worker of 0.2.0 ends jobs without a word of tenants: that is found when the tenant would be passed over."""
    await here.store.limit(ACCOUNT, "a", jobs_max=1)
    await flood(here, "a", 4)
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    batch = (await here.store.open_batches())[0]
    await here.store.redis.hset(here.store.key("batch", batch), "limited", "")
    await end(here)
    assert await packed(here, claim) == {"a": 10}


async def test_it_is_said_why_a_prompt_waits(here: Bench) -> None:
    """Where a prompt of a tenant over its limit is asked for, the limit is named; of another's nothing is said."""
    await here.store.limit(ACCOUNT, "a", jobs_max=1)
    await flood(here, "a", 2)
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    late = await here.enqueue(1, tenant="a")
    await packed(here, claim)
    other = await here.enqueue(1, tenant="b")
    place = await here.store.place(late, 0)
    assert place.held_cause is Cause.TENANT
    assert place.held_reason == "tenant a: 1 of its 1 jobs are in flight"
    assert (await here.store.place(other, 0)).held_reason == ""


async def counted(here: Bench) -> dict[str, Tenant]:
    """By name."""
    return {one.tenant: one for one in await here.store.tenants(ACCOUNT)}


async def test_prompts_are_counted_by_tenant(here: Bench) -> None:
    """Waiting, in flight, answered, failed and cancelled: each prompt of a tenant is one of these."""
    first = await here.enqueue(4, tenant="a")
    claim = await here.claim(Step.PACK)
    await packed(here, claim)
    await here.store.rest(claim)
    await here.enqueue(3, tenant="a")
    await here.enqueue(2, tenant="b")
    found = await counted(here)
    assert (found["a"].accepted, found["a"].waiting, found["a"].in_flight, found["a"].jobs) == (7, 3, 4, 1)
    assert (found["b"].accepted, found["b"].waiting, found["b"].in_flight) == (2, 2, 0)
    await here.store.cancel(first, 3, b"cancelled")
    batch = (await here.store.open_batches())[0]
    await end(here)
    resolve = await here.claim(Step.RESOLVE, batch)
    await here.store.settle(resolve, [landing(first, [0, 1, 2], failed=1)])
    assert await here.close(resolve) == ("closed", [])
    one = (await counted(here))["a"]
    assert (one.answered, one.failed, one.cancelled, one.in_flight, one.jobs) == (2, 1, 1, 0, 0)


async def test_a_thousand_tenants_are_counted_by_name(here: Bench) -> None:
    """Whoever comes after them is counted under another, but for one with a limit, so that no page grows for ever."""
    for n in range(1003):
        await here.enqueue(1, tenant=f"t{n:04}")
    await here.store.limit(ACCOUNT, "t1002", jobs_max=3)
    found = await counted(here)
    assert len(found) == 1002
    assert (found[OTHER].accepted, found[OTHER].waiting) == (3, 2)
    assert found["t1002"].rule == Rule(jobs_max=3)
    assert int(await here.store.redis.hlen(here.store.key("tally", ACCOUNT))) == 4 * 1001


async def test_what_0_2_0_has_left_pending_goes_on(here: Bench) -> None:
    """It kept no sums; a tenant that is passed over with such a backlog comes back, and is packed to its end."""
    await flood(here, "a", 8)
    await here.store.redis.delete(here.store.key("sums", LANE))
    await here.store.limit(ACCOUNT, "a", jobs_max=1)
    claim = await here.claim(Step.PACK)
    prompts = sum((await packed(here, claim)).values())
    assert await packed(here, claim) == {}
    await here.store.rest(claim)
    await here.store.limit(ACCOUNT, "a", jobs_max=0)
    while prompts < 40:
        claim = await here.claim(Step.PACK)
        prompts += sum((await packed(here, claim)).values())
        await here.store.rest(claim)
    assert await due_in_s(here) is None


async def test_what_a_packer_of_0_2_0_took_waits_no_more(here: Bench) -> None:
    """It leaves the sums as they were: whoever has nothing pending waits for nothing, and the key has a TTL."""
    await here.enqueue(3, tenant="a")
    sums = await here.store.redis.hgetall(here.store.key("sums", LANE))
    await packed(here, await here.claim(Step.PACK))
    await here.store.redis.hset(here.store.key("sums", LANE), mapping=sums)
    assert (await counted(here))["a"].waiting == 0
    await here.enqueue(2, tenant="a")
    assert (await counted(here))["a"].waiting == 2
    assert await here.ttl("sums", LANE) > 0


async def test_a_tenant_has_a_time_of_its_own(here: Bench) -> None:
    """Outcomes and names of the tenant go after its time, those of others after the setting's, until it is undone."""

    async def kept_s(tenant: str) -> list[int]:
        """How long the outcome of a prompt of the tenant is kept, its name, and the outcome once it is taken."""
        name = f"{tenant} {here.clock.now_ms()}"
        segment = await here.enqueue(1, tenant=tenant, names=[(0, name, "d" * 32)])
        plain = await here.enqueue(1, tenant=tenant)
        await here.closed([segment, plain], 1)
        times = [await here.ttl("outcomes", segment), await here.ttl("name", ACCOUNT, name)]
        await here.store.deliver([plain])
        return [*times, await here.ttl("outcomes", plain)]

    week_s = 604_800
    assert await kept_s("a") == [week_s, week_s, 3600]
    await here.store.limit(ACCOUNT, "a", keep_outcome_s=600)
    assert await kept_s("a") == [600, 600, 600]
    assert await kept_s("b") == [week_s, week_s, 3600]
    assert await here.store.limit(ACCOUNT, "a", keep_outcome_s=86_400) == Rule(keep_outcome_s=86_400)
    assert await kept_s("a") == [86_400, 86_400, 3600]
    assert await here.store.limit(ACCOUNT, "a", keep_outcome_s=0) == Rule()
    assert await kept_s("a") == [week_s, week_s, 3600]
