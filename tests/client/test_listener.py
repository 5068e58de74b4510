"""What listener and watchdog make good: lost notices, a lost inbox, outcomes that are gone, a server that dies."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import pytest

from gemqueue import Failed, OutcomeExpired, Queue, StoreUnavailable
from gemqueue.client import kept
from gemqueue.store import codec
from tests.valkey_server import ValkeyServer
from tests.worlds.answering import Answering, answering, connect, until, until_counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

MODEL = "gemini-3.8-flash"


@pytest.fixture
async def worker(redis_url: str, queue_name: str, no_leaks: None) -> AsyncGenerator[Answering]:  # noqa: ARG001
    """Somebody who answers."""
    async with answering(redis_url, queue_name) as worker:
        yield worker


def inbox(queue: Queue) -> str:
    """The Redis key of the queue's inbox."""
    return queue._store.key("inbox", queue._listener.producer)


async def test_a_lost_notice_costs_little(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """Outcomes whose notice went nowhere are found by the watchdog."""
    async with connect(redis_url, queue_name) as queue:
        worker.open.clear()
        future = await queue.submit("p", model=MODEL)
        waiting = asyncio.create_task(future.result(60))
        await redis.unlink(inbox(queue))
        worker.open.set()
        assert (await waiting).text == "echo: p"


async def test_a_lost_inbox_is_opened_again(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """An inbox that is gone is opened again when it is due to be renewed, and what was missed is read."""
    async with connect(redis_url, queue_name, watchdog_s=1000, inbox_keep_s=1) as queue:
        worker.open.clear()
        waiting = asyncio.create_task(queue.generate("p", model=MODEL))
        await until(lambda: bool(queue._listener.waited))
        await redis.unlink(inbox(queue))
        worker.open.set()
        assert (await waiting).text == "echo: p"
        assert await redis.exists(inbox(queue)) == 1


async def test_the_server_dies_while_a_future_waits(queue_name: str) -> None:
    """A server that is killed and restarted keeps every prompt, and whoever waits gets the answer."""
    with ValkeyServer() as server:
        async with connect(server.url, queue_name) as queue, connect(server.url, queue_name) as another:
            own = await queue.submit("p", model=MODEL)
            waiting = [asyncio.create_task(each.future(own.key).result(60)) for each in (queue, another)]
            await until(lambda: all(each._listener.waited for each in (queue, another)))
            server.kill()
            server.start()
            async with answering(server.url, queue_name):
                assert [(await task).text for task in waiting] == ["echo: p", "echo: p"]


async def test_a_server_that_is_gone_for_good(queue_name: str) -> None:
    """Whoever waits is told after ``server_gone_s``, in a map too; who asks later is told as late."""
    with ValkeyServer() as server:
        async with connect(server.url, queue_name, server_gone_s=0.2, submit_timeout_s=1.0) as queue:
            future = await queue.submit("p", model=MODEL)
            waiting = asyncio.create_task(future.result())
            mapping = asyncio.create_task(queue.map(["q"], model=MODEL))
            await until(lambda: sum(segment.live for segment in queue._listener.waited.values()) == 2)
            server.kill()
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(waiting, 60)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(mapping, 60)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(future.result(), 60)


async def test_a_listener_that_is_cut_off(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """Its connections are closed under it, again and again: it connects anew, and the answers come."""
    async with connect(redis_url, queue_name) as queue:
        worker.open.clear()
        futures = [await queue.submit(f"p{n}", model=MODEL) for n in range(3)]
        waiting = asyncio.gather(*(future.result(60) for future in futures))
        for _ in range(3):
            await cast("Any", redis).execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            worker.open.set()
        assert [answer.text for answer in await waiting] == ["echo: p0", "echo: p1", "echo: p2"]


async def test_outcomes_that_were_delivered_elsewhere(redis_url: str, queue_name: str, worker: Answering) -> None:
    """Another process that asks while they are kept gets them, though somebody has taken them; later it is told."""
    async with connect(redis_url, queue_name) as queue, connect(redis_url, queue_name) as another:
        future = await queue.submit("p", model=MODEL)
        assert (await future.result(60)).text == "echo: p"
        await queue._listener.deliver()
        assert (await another.future(future.key).result(60)).text == "echo: p"
        names = [queue._store.key(what, future.key.partition(".")[0]) for what in ("segmeta", "settled", "outcomes")]
        await queue._store.redis.unlink(*names)  # as after keep_delivered_s
    async with connect(redis_url, queue_name) as third:
        with pytest.raises(OutcomeExpired):
            await third.future(future.key).result(60)
        assert worker.batches == 1


async def test_an_outcome_that_is_gone(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """A future whose prompt is no longer known raises OutcomeExpired, also while it waits and in a map."""
    async with connect(redis_url, queue_name) as queue:
        worker.open.clear()
        future = await queue.submit("p", model=MODEL)
        waiting = asyncio.create_task(future.result(60))
        mapping = asyncio.create_task(queue.map(["q"], model=MODEL))
        await until(lambda: sum(segment.live for segment in queue._listener.waited.values()) == 2)
        await cast("Any", redis).unlink(*await cast("Any", redis).keys(f"{{gq:{queue_name}:*"))
        with pytest.raises(OutcomeExpired, match="keep_outcome_s"):
            await waiting
        outcome = (await mapping)[0]
        assert isinstance(outcome, Failed)
        assert outcome.failure.kind == "expired"


async def test_an_outcome_that_cannot_be_read(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """A blob that is damaged ends the waits for what it held with an error; no future hangs."""
    async with connect(redis_url, queue_name) as queue:
        first, second = await asyncio.gather(queue.submit("p", model=MODEL), queue.submit("q", model=MODEL))
        await until(lambda: worker.batches == 1)
        segment = first.key.partition(".")[0]
        name = queue._store.key("outcomes", segment)
        await until_counted(queue, "answered", 2)
        good = codec.expand(await cast("Any", redis).lindex(name, 0)).splitlines()
        damaged = [line for line in good if first.key.encode() in line] + [b"{not json", b'{"key":"elsewhere.0"}']
        await cast("Any", redis).lset(name, 0, codec.compress(b"\n".join(damaged)))
        await cast("Any", redis).rpush(name, b"no frame at all")
        assert (await first.result(60)).text == "echo: p"
        with pytest.raises(OutcomeExpired, match="cannot be read"):
            await second.result(60)


async def test_delivered_outcomes_go_sooner(redis_url: str, queue_name: str, worker: Answering, redis: Redis) -> None:
    """Only when the caller's code has taken every outcome of a segment may they go after ``keep_delivered_s``."""
    async with connect(redis_url, queue_name, keep_delivered_s=100) as queue:
        futures = await asyncio.gather(*(queue.submit(f"p{i}", model=MODEL) for i in range(3)))
        segment = futures[0]._ticket.key.partition(".")[0]
        names = [queue._store.key(what, segment) for what in ("outcomes", "segmeta", "settled")]
        await until(lambda: all(future.done() for future in futures))
        for future in futures[:2]:
            await future
            await future
        await queue._listener.deliver()
        assert min([await redis.ttl(name) for name in names]) > 1_000
        await futures[2]
        await queue._listener.deliver()
        assert max([await redis.ttl(name) for name in names]) <= 100
        assert worker.batches == 1


@pytest.mark.parametrize("read", ["before", "after"])
async def test_who_has_read_the_key_finds_the_outcome_days_later(
    redis_url: str, queue_name: str, worker: Answering, redis: Redis, read: str
) -> None:
    """A future's key that the caller's code has read, before or after the answer, is good for as long as others."""
    async with connect(redis_url, queue_name, keep_delivered_s=100, watchdog_s=60.0) as queue:
        future, other = await queue.submit("p", model=MODEL), await queue.submit("q", model=MODEL)
        keys = [future.key] if read == "before" else []
        assert "pending" in repr(other)
        await asyncio.gather(future.result(60), other.result(60))
        keys = keys or [future.key]
        segments = [one._ticket.key.partition(".")[0] for one in (future, other)]
        await queue._listener.deliver()
        ttls = [await redis.ttl(queue._store.key("outcomes", segment)) for segment in segments]
        assert [ttl > 1_000 for ttl in ttls] == [True, segments[0] == segments[1]]
        async with connect(redis_url, queue_name) as another:
            assert (await another.future(keys[0]).result(60)).text == "echo: p"
        assert worker.batches >= 1


async def test_bulk_outcomes_are_delivered_when_taken(
    redis_url: str, queue_name: str, worker: Answering, redis: Redis
) -> None:
    """A map's outcomes are taken when it returns, a stream's when the next one is asked for; named ones are kept."""
    async with connect(redis_url, queue_name, keep_delivered_s=100, segment_prompts_max=1) as queue:
        keys = [outcome.key for outcome in await queue.map(["a", "b"], model=MODEL)]
        outcomes = queue.stream(["c", "d"], model=MODEL)
        keys += [(await anext(outcomes)).key for _ in range(2)]
        keys += [outcome.key for outcome in await queue.map([{"contents": "e", "name": "e"}], model=MODEL)]
        await queue._listener.deliver()
        ttls = [await redis.ttl(queue._store.key("outcomes", key.partition(".")[0])) for key in keys]
        assert [ttl <= 100 for ttl in ttls] == [True, True, True, False, False]
        await outcomes.aclose()
        assert worker.batches >= 3


async def test_bookkeeping_is_dropped(redis_url: str, queue_name: str, worker: Answering) -> None:
    """Nothing is remembered of prompts whose outcomes have been taken and whose futures are gone."""
    async with connect(redis_url, queue_name) as queue:
        await queue.map([f"p{i}" for i in range(100)], model=MODEL)
        await (await queue.submit("q", model=MODEL))
        await queue.submit("nobody waits", model=MODEL)
        listener = queue._listener
        await until(lambda: not listener.waited)
        kept_lines = listener._router._kept
        assert (len(listener._segments), len(kept_lines._segments), kept_lines._bytes) == (0, 0, 0)
        await until(lambda: not queue._producer._flights)
        assert (queue._producer._buffers, len(queue._producer._names), queue._producer._space.used_bytes) == ({}, 0, 0)
        assert worker.batches >= 2


async def test_kept_lines_are_bounded(
    redis_url: str, queue_name: str, worker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that nobody asked for are dropped over the budget, and read again when somebody does ask."""
    monkeypatch.setattr(kept, "_KEPT_BYTES_MAX", 1_000)
    async with connect(redis_url, queue_name) as queue, connect(redis_url, queue_name) as another:
        keys = [outcome.key for outcome in await queue.map([f"p{i}" for i in range(100)], model=MODEL)]
        for i in (50, 3, 99):
            assert (await another.future(keys[i]).result(60)).text == f"echo: p{i}"
            assert another._listener._router._kept._bytes <= 1_000
        assert worker.batches >= 1


async def test_no_worker(redis_url: str, queue_name: str, caplog: pytest.LogCaptureFixture, worker: Answering) -> None:
    """Without a worker's heartbeat a future says so, and a warning is logged once."""
    monkey = pytest.MonkeyPatch()
    monkey.setattr("gemqueue.client.watchdog._WORKER_GRACE_S", 0.0)
    with caplog.at_level(logging.WARNING, "gemqueue"):
        async with connect(redis_url, queue_name) as queue:
            worker.open.clear()
            future = await queue.submit("p", model=MODEL)
            await until(lambda: future.held_reason == "no worker")
            await until(lambda: "No worker" in caplog.text)
            await worker.store.beat("w1", "pack submit track resolve", "emulated.local")
            await until(lambda: future.held_reason is None)
            worker.open.set()
            await future
    monkey.undo()
    assert caplog.text.count("No worker") == 1
