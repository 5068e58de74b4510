"""What a client does when a failover has lost outcomes that it had read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from gemqueue.store import bitmap, codec
from gemqueue.store.groups import Landing
from gemqueue.tasks import end_tasks
from tests.worlds.answering import Answering, connect, outcome_line, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gemqueue import Answer, Queue
    from gemqueue.store.batches import Claim


class Failover(Answering):
    """Loses the first outcome once the client has read it; the second lands in its place, and then the first again."""

    def __init__(self, url: str, name: str, redis: Redis, queue: Queue) -> None:
        super().__init__(url, name)
        self._redis: Any = redis
        self._queue = queue

    async def _settle(self, claim: Claim, segment: str) -> None:
        (body,) = await self.store.bodies([segment])
        assert body is not None
        first, second = (codec.compress(outcome_line(line)) for line in codec.expand(body).splitlines())
        outcomes = self.store.key("outcomes", segment)
        waited = self._queue._listener.waited  # pyright: ignore[reportPrivateUsage] - a test may look inside
        await self.store.settle(claim, [Landing(segment, bitmap.of([0], 2), 1, first)])
        await until(lambda: waited[segment].cursor == 1)
        await self._redis.lpop(outcomes)
        await self.store.settle(claim, [Landing(segment, bitmap.of([1], 2), 1, second)])
        await self._redis.rpush(outcomes, first)


@pytest.mark.usefixtures("no_leaks")
async def test_what_stands_where_a_lost_outcome_was_is_read(redis_url: str, queue_name: str, redis: Redis) -> None:
    """Both prompts have their answers, though the second's stands where the client has read the first's."""
    async with connect(redis_url, queue_name) as queue:
        worker = Failover(redis_url, queue_name, redis, queue)
        task = asyncio.create_task(worker.run())
        outcomes = await queue.map(["a", "b"], model="gemini-3.8-flash")
        await end_tasks([task])
        await worker.store.aclose()
    assert [cast("Answer", outcome).text for outcome in outcomes] == ["echo: a", "echo: b"]
