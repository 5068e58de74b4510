"""A future says "no worker" whenever nobody takes its next step, whoever else works on the queue."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from tests.worlds.answering import ACCOUNT, connect, until
from tests.worlds.bench import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue import Queue

MODEL = "gemini-3.8-flash"
LANE = f"{ACCOUNT}/{MODEL}/generate/batch"
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncGenerator[Queue]:
    """The producer; its watchdog looks often."""
    async with connect(redis_url, queue_name, watchdog_s=0.02) as queue:
        yield queue


async def test_workers_of_another_account_hide_nothing(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """They beat, and the prompt has no worker: the future says so, and so does a warning, once."""
    monkey = pytest.MonkeyPatch()
    monkey.setattr("gemqueue.client.watchdog._WORKER_GRACE_S", 0.0)
    await queue._store.heartbeat("w1", "pack+submit+track+resolve+rescue", "emulated.other")
    async with connect(queue._store.url, queue.settings.queue, watchdog_s=0.02) as late:
        future = await late.submit("Why?", model=MODEL)
        said = f"no worker: those that run do not serve {ACCOUNT}"
        await until(lambda: future.held_reason == said)
        assert future.eta is None
        await until(lambda: said.removeprefix("no") in caplog.text)
        await queue._store.heartbeat("w2", "pack+submit+track+resolve", ACCOUNT)
        await until(lambda: future.held_reason is None)
        await future.cancel()
    monkey.undo()
    assert caplog.text.count("No worker: those that run do not serve") == 1


async def test_the_role_that_is_due_needs_a_worker(queue: Queue, redis_url: str, queue_name: str) -> None:
    """Workers that only pack serve a prompt that waits to be packed, and no longer once it is."""
    await queue._store.heartbeat("w1", "pack", ACCOUNT)
    future = await queue.submit("Why?", model=MODEL)
    await future.look()
    assert future.held_reason is None
    bench = Bench(redis_url, queue_name)
    lane = await bench.claim(Step.PACK, LANE)
    await bench.pack_one(lane)
    await bench.store.rest(lane)
    await bench.store.aclose()
    await until(lambda: future.held_reason == f"no worker: none of {ACCOUNT} has the role submit")
    await queue._store.heartbeat("w2", "submit", ACCOUNT)
    await until(lambda: future.held_reason is None)
    await future.cancel()


async def test_a_worker_of_an_older_version_counts(queue: Queue) -> None:
    """One of 0.2.0 says its roles alone, and counts for every account."""
    future = await queue.submit("Why?", model=MODEL)
    await until(lambda: future.held_reason == "no worker")
    store = queue._store
    until_ms = await store.server_now_ms() + 60_000
    await store.redis.zadd(store.key("workers"), {"0123456789ab pack+submit+track+resolve": until_ms})
    await until(lambda: future.held_reason is None)
    await future.cancel()
