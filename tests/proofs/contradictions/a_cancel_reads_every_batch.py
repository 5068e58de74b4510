"""One cancelled prompt anywhere: does the next look at every running job read all of its batch's segments again?

``cancels_seen`` is compared with a counter; where that is the queue's own, each look costs a HMGET and two bitmaps a
segment: 50,000 for a batch of prompts that came one by one.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from gemqueue import Queue
from tests.proofs.contradictions.common import MODEL, Verdict, at_emulator, let_pass
from tests.worlds.processes import until

if TYPE_CHECKING:
    from gemqueue import Future

QUICK: dict[str, Any] = {
    "linger_s": 2,
    "poll_max_s": 1,
    "poll_first_s": 0.5,
    "flush_ms": 0.01,
    "segment_prompts_max": 1,
    "flushes_max": 64,
}
PROMPTS = 4000
SECONDS = 8


async def calls(queue: Queue) -> list[int]:
    """Commands of the server so far, and the microseconds that they took."""
    found = (await queue._store.redis.info("commandstats")).values()
    return [sum(each["calls"] for each in found), sum(each["usec"] for each in found)]


async def spent(queue: Queue, cancelled: list[Future]) -> list[int]:
    """Commands and microseconds a second, while one of these is cancelled each second."""
    before = await calls(queue)
    for _ in range(SECONDS):
        if cancelled:
            await cancelled.pop().cancel()
        await let_pass(1)
    return [round((now - then) / SECONDS) for then, now in zip(before, await calls(queue), strict=True)]


async def all_submitted(queue: Queue) -> bool:
    """Whether every prompt is in a job."""
    return (await queue.counts()).get("submitted", 0) >= PROMPTS


async def main(_how: str) -> Verdict:
    """With and without."""
    with at_emulator(job_s=3600) as emulator:
        async with Queue.connect(emulate=True, base_url=emulator.url, **QUICK) as queue:
            for start in range(0, PROMPTS, 200):
                await asyncio.gather(*(queue.submit(f"q {start + n}", model=MODEL) for n in range(200)))
            await until(partial(all_submitted, queue), what="submitted")
            others = [await queue.submit(f"other {n}", model="gemini-2.5-pro", priority=n) for n in range(20)]
            await let_pass(8)
            idle = await spent(queue, [])
            print("idle:                 commands and us a second", idle)
            cancelling = await spent(queue, others)
            print("one cancel a second:  commands and us a second", cancelling)
            what = f"commands a second: idle {idle[0]}, with one cancel a second {cancelling[0]}"
            return Verdict(what, cancelling[0] < 2 * idle[0] + 100)
