"""The server forgets the queue while somebody awaits answers: what futures say, and when they end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue import Failed, PromptFailed, Queue
from gemqueue.config import Settings
from gemqueue.states import FailureKind
from gemqueue.store.store import Store
from tests.valkey_server import ValkeyServer
from tests.worlds.answering import connect, until, until_counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from gemqueue import Future

MODEL = "gemini-3.8-flash"
PROD = "generativelanguage.googleapis.com.prod"


@pytest.fixture
def server() -> Generator[ValkeyServer]:
    """One to be emptied."""
    with ValkeyServer() as server:
        yield server


@asynccontextmanager
async def taken(server: ValkeyServer, account: str, **settings: Any) -> AsyncGenerator[tuple[Queue, Future, Store]]:
    """A prompt that the server took under the home of an account, in a process that goes on; and the server's store."""
    store = Store(server.url, Settings(queue="q"))
    await store.greet(account)
    real = {"emulate": False, "account": "prod"} if account == PROD else {"emulate": True}
    async with connect(server.url, "q", **(settings | real)) as queue:
        assert queue.account == account
        yield queue, await queue.submit("hello", model=MODEL), store
    await store.aclose()


def real(server: ValkeyServer, **settings: Any) -> Any:
    """The same of a real account."""
    return taken(server, PROD, **settings)


async def flush(store: Store) -> None:
    """FLUSHALL, and a worker that remembers nothing begins there."""
    await store.redis.flushall()
    store.memory.clear()
    await store.greet(PROD)


async def test_a_forgotten_prompt_waits_for_a_person(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """Its future says why and with which command, and ends as lost once somebody has said that the queue goes on."""
    async with real(server) as (_, future, store):
        home = store.known(PROD).home
        await flush(store)
        waiting = asyncio.ensure_future(future.outcome())
        await until(lambda: "has forgotten this queue" in (future.held_reason or ""))
        assert f"gemqueue admin reconcile --home {home}" in (future.held_reason or "")
        assert not waiting.done()
        await store.rehome(PROD, home)
        outcome = await asyncio.wait_for(waiting, 60)
        assert isinstance(outcome, Failed)
        assert outcome.failure.kind is FailureKind.LOST
        assert "the server has forgotten this queue" in outcome.failure.message
        assert f"--home {home}" in outcome.failure.message
        assert "may be bought again" in caplog.text


async def test_it_does_not_wait_for_ever(server: ValkeyServer) -> None:
    """After ``server_gone_s`` without a word from anybody its future ends."""
    async with real(server, server_gone_s=0.2) as (_, future, store):
        await flush(store)
        with pytest.raises(PromptFailed, match="the server has forgotten this queue"):
            await future.result(60)


async def test_an_emulated_one_ends_at_once(server: ValkeyServer) -> None:
    """Nothing was paid for it, so nobody has to decide anything."""
    async with taken(server, "emulated.local") as (queue, future, store):
        await store.redis.flushall()
        with pytest.raises(PromptFailed, match="the server has forgotten this queue"):
            await future.result(60)
        assert (await queue.submit("again", model=MODEL)).key


async def test_the_right_database_comes_back(server: ValkeyServer) -> None:
    """While another database answers its future waits, and says so; then it waits for its answer as before."""
    async with real(server) as (_, future, store):
        await store.redis.swapdb(0, 1)
        waiting = asyncio.ensure_future(future.outcome())
        await until(lambda: "has forgotten" in (future.held_reason or ""))
        await store.redis.swapdb(0, 1)
        await until(lambda: future.held_reason is None or "has forgotten" not in future.held_reason)
        assert not waiting.done()
        await future.cancel()
        outcome = await asyncio.wait_for(waiting, 60)
        assert isinstance(outcome, Failed)
        assert outcome.failure.kind is FailureKind.CANCELLED


async def test_a_bulk_call_gets_its_rows_back(server: ValkeyServer) -> None:
    """Every row of ``map`` that the server has forgotten is a Failed that says so, and the call ends."""
    async with connect(server.url, "q") as queue:
        store = Store(server.url, Settings(queue="q"))
        await store.greet("emulated.local")
        rows = asyncio.ensure_future(queue.map(["a", "b"], model=MODEL))
        await until_counted(queue, "accepted", 2)
        await store.redis.flushall()
        outcomes = await asyncio.wait_for(rows, 60)
        assert [o.failure.kind for o in outcomes if isinstance(o, Failed)] == [FailureKind.LOST] * 2
        await store.aclose()


async def test_who_awaits_nothing_is_told_too(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """A process that only submits says that the server has forgotten what it took, and goes on submitting."""
    async with real(server) as (queue, _, store):
        await flush(store)
        await until(lambda: "the server has forgotten this queue" in caplog.text)
        assert (await queue.submit("again", model=MODEL)).key
