"""Workers as the store knows them: who is alive goes by the server's clock, and what they say of themselves is kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from gemqueue.config import Settings
from gemqueue.records import Sign, Worker
from gemqueue.store.store import Store
from tests.worlds.bench import ACCOUNT, bench

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = pytest.mark.usefixtures("no_leaks")


class OtherClock:
    """A machine whose clock is wrong by so many seconds."""

    virtual = False

    def __init__(self, wrong_s: float) -> None:
        self._wrong_s = wrong_s

    def now_ms(self) -> int:
        """What it believes."""
        return int((time.time() + self._wrong_s) * 1000)

    def monotonic(self) -> float:
        """Right, as such clocks are."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As everywhere."""
        await asyncio.sleep(seconds)


async def test_no_clock_of_a_worker_or_producer_decides(redis_url: str, queue_name: str) -> None:
    """A worker a minute ahead drops nobody, one a minute behind is seen, and so are all by producers of any clock."""
    settings = Settings(queue=queue_name, emulate=True)
    stores = {wrong_s: Store(redis_url, settings, OtherClock(wrong_s)) for wrong_s in (0, 60, -60)}
    for wrong_s, store in stores.items():
        await store.beat(f"w{wrong_s}", "pack", ACCOUNT)
    for store in stores.values():
        assert {worker.id for worker in await store.workers()} == {"w0", "w60", "w-60"}
        await store.aclose()


async def test_what_a_worker_says_of_itself(redis_url: str, queue_name: str) -> None:
    """Its record says who it is, whom it serves and how it gets on; a beat renews it, and it keeps when it began."""
    async with bench(redis_url, queue_name) as made:
        began_at = made.clock.now_ms()
        sign = Sign(
            accounts=(ACCOUNT, "emulated.pool.p"), host="h", pid=7, version="1.2", last_good_sweep_at=began_at - 5,
            waiting_for="account (poll): no",
        )  # fmt: skip
        await made.store.beat("w", "pack+track", ACCOUNT)
        made.advance(5)
        await made.store.beat("w", "pack+track", ACCOUNT, sign)
        assert await made.store.workers() == [
            Worker(
                id="w", roles=("pack", "track"), accounts=(ACCOUNT, "emulated.pool.p"), host="h", pid=7, version="1.2",
                began_at=began_at, beat_at=began_at + 5000, last_good_sweep_at=began_at - 5,
                waiting_for="account (poll): no",
            )
        ]  # fmt: skip


async def test_a_worker_of_an_older_version_is_a_member_alone(redis_url: str, queue_name: str) -> None:
    """0.2.0 writes ``<id> <roles>`` and no record: it is seen, and reads ours by the same form."""
    async with bench(redis_url, queue_name) as made:
        until_ms = made.clock.now_ms() + 15_000
        await made.store.redis.zadd(made.store.key("workers"), {"0123456789ab pack+submit": until_ms})
        await made.store.beat("w", "track", ACCOUNT)
        old, new = sorted(await made.store.workers(), key=lambda worker: worker.id)
        assert old == Worker(id="0123456789ab", roles=("pack", "submit"))
        assert (new.id, new.accounts) == ("w", (ACCOUNT,))
        members = await made.store.redis.zrangebyscore(made.store.key("workers"), made.clock.now_ms(), "+inf")
        assert sorted(members) == [b"0123456789ab pack+submit", b"w track"]


async def test_a_worker_that_is_gone(redis_url: str, queue_name: str, redis: Redis) -> None:
    """Three beats later it is not seen, and its record outlives its member, or it would look like one of 0.2.0.

    Who says goodbye leaves nothing.
    """
    async with bench(redis_url, queue_name) as made:
        record = made.store.key("worker", "w")
        await made.store.beat("w", "pack", ACCOUNT)
        member_ms = int(3000 * made.settings.heartbeat_s)
        assert member_ms < await redis.pttl(record) <= 2 * member_ms
        made.advance(15)
        assert await made.store.workers() == []
        await made.store.beat("w", "pack", ACCOUNT)
        await made.store.goodbye("w", "pack")
        assert (await made.store.workers(), await redis.exists(record)) == ([], 0)
