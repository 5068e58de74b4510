"""Head of the line: does a pool's batch that another account's pause holds keep the account's own waiting?"""

from __future__ import annotations

from gemqueue.ids import new_batch_id
from gemqueue.policy.quota import Limits
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from tests.proofs.contradictions.common import Verdict, embedded_url
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench

POOL = "emulated.pool.p"
OTHER = "emulated.other"


async def sealed(made: Bench, lane: str) -> str:
    """A batch of one prompt of this lane."""
    await made.enqueue(1, lane=lane)
    made.advance(1)
    taken = await made.store.claim(Step.PACK, lane, lane.split("/", maxsplit=1)[0])
    assert taken is not None
    batch, word = new_batch_id(), "packing"
    while word == "packing":
        word, *_ = await made.store.pack(taken[0], batch, {}, Lane.parse(LANE))
    await made.store.rest(taken[0])
    return batch


async def attempt(made: Bench, batch: str, jobs_max: int) -> str:
    """Whether the batch gets its room."""
    made.advance(61)
    taken = await made.store.claim(Step.SUBMIT, batch, ACCOUNT)
    if taken is None:
        return "not to be claimed (held)"
    found = await made.store.reserve(taken[0], Limits(jobs_max=jobs_max, tokens_max=10**9))
    if found != "ok":
        await made.store.release(taken[0], 0)
    return found if isinstance(found, str) else f"held: {found.resource} {found.used} of {found.limit}"


async def main(_how: str) -> Verdict:
    """What each batch is told."""
    async with embedded_url() as url, bench(url, "q") as made:
        store = made.store
        for account in (ACCOUNT, OTHER):
            await store.greet(account)
            await store.join_pool(POOL, account)
        first = await sealed(made, LANE)
        print("own first job:", await attempt(made, first, 1))
        pools = await sealed(made, str(Lane(POOL, "m", Kind.GENERATE)))
        print("the pool's batch:", await attempt(made, pools, 1))
        # There is plenty of room from now on, but the other account's comparison is pending.
        await store.redis.hset(store.key("server", OTHER), "run_id", "another")
        own = await sealed(made, LANE)
        print("the pool's batch:", await attempt(made, pools, 10))
        found = await attempt(made, own, 10)
        print("own second batch, 1 of 10 jobs in use:", found)
        return Verdict(f"behind a pool's batch that is held, with 1 of 10 jobs in use: {found}", found == "ok")
