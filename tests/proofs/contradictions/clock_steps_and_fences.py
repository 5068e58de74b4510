"""The server's clock: does a step back stall the queue for as long, and is a fence given twice after a second failover?

A failover is an edit of the server's record here: it says another run id than the server's own.
"""

from __future__ import annotations

from gemqueue.states import Step
from tests.proofs.contradictions.common import Verdict, embedded_url
from tests.worlds.bench import ACCOUNT, Bench, bench

WAITED_S_MAX = 60


async def step_back(made: Bench) -> int:
    """An hour, as a promoted replica, a migrated machine or NTP may bring it."""
    await made.enqueue(3)
    batch = await made.sealed()
    await made.store.tick(ACCOUNT)  # as with each heartbeat
    made.advance(-3600)
    await made.store.tick(ACCOUNT)
    waited_s = 0
    while await made.store.claim(Step.SUBMIT, batch, ACCOUNT) is None:
        made.advance(60)
        waited_s += 60
    print(f"clock an hour back: the sealed batch is claimed {waited_s} s later")
    return waited_s


async def failover(made: Bench, name: str) -> None:
    """Another server, as the record has it."""
    server = made.store.key("server", ACCOUNT)
    await made.store.redis.hset(server, mapping={"run_id": name})
    await made.store.redis.hdel(server, "noticed")


async def two_holders(made: Bench) -> bool:
    """A claim that the second master does not have, and one of its own."""
    store = made.store
    await store.greet(ACCOUNT)
    await made.enqueue(3)
    batch = await made.sealed()
    await failover(made, "first")
    one = await store.claim(Step.SUBMIT, batch, ACCOUNT, held=True)
    assert one is not None
    await store.release(one[0], 0)
    kept = await store.redis.dump(store.key("batch", batch))
    two = await store.claim(Step.SUBMIT, batch, ACCOUNT, held=True)  # acknowledged to a worker that is now paused
    made.advance(-120)  # the next master's clock is two minutes behind,
    await failover(made, "second")
    await store.redis.restore(store.key("batch", batch), 0, kept, replace=True)  # and it does not have the last claim
    three = await store.claim(Step.SUBMIT, batch, ACCOUNT, held=True)
    fences = [each[0].fence if each else None for each in (two, three)]
    print("fences of two holders:", *fences, "SAME" if fences[0] == fences[1] else "")
    return fences[0] == fences[1]


async def main(_how: str) -> Verdict:
    """Both."""
    async with embedded_url() as url:
        async with bench(url, "back") as made:
            waited_s = await step_back(made)
        async with bench(url, "fence") as made:
            same = await two_holders(made)
    what = f"a clock that goes back holds a batch for {waited_s} s, and two holders have one fence {same}"
    return Verdict(what, waited_s <= WAITED_S_MAX and not same)
