"""Heartbeats and clocks: does a worker whose clock is ahead wipe out the others, and a producer ahead see none?

One clock decides, the server's; a heartbeat that goes by a worker's own would not be read so.
"""

from __future__ import annotations

import asyncio
import time

from gemqueue.config import Settings
from gemqueue.store.store import Store
from tests.proofs.contradictions.common import Verdict, embedded_url


class Ahead:
    """A clock that is ahead of the machine's."""

    virtual = False

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def now_ms(self) -> int:
        """The wrong time."""
        return int((time.time() + self._ahead_s) * 1000)

    def monotonic(self) -> float:
        """The right one."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def main(_how: str) -> Verdict:
    """Who sees whom."""
    async with embedded_url() as url:
        settings = Settings(emulate=True)
        stores = [Store(url, settings, Ahead(ahead_s)) for ahead_s in (0, 60, 20)]
        right, ahead, producer = stores
        await right.greet("a")
        await right.beat("right", "all", "a")
        print("seen by itself:", await right.workers())
        seen = await producer.workers()
        print("seen by a producer 20 s ahead:", seen)
        await ahead.beat("ahead", "all", "a")
        both = await right.workers()
        print("after the beat of a worker 60 s ahead:", both)
        for store in stores:
            await store.aclose()
        what = f"workers seen by a clock that is ahead {len(seen)} of 1, beside one that is ahead {len(both)} of 2"
        return Verdict(what, (len(seen), len(both)) == (1, 2))
