"""A Queue that is used where it does not belong says so at once, with the way out; nothing hangs."""

from __future__ import annotations

import asyncio
import os
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest

from gemqueue import ConfigError, Queue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from typing import Any

MODEL = "gemini-3.8-flash"


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncGenerator[Queue]:
    async with Queue.connect(redis_url, queue=queue_name, settings=None, emulate=True) as queue:
        yield queue


CALLS: dict[str, Callable[[Queue], Coroutine[Any, Any, object]]] = {
    "submit": lambda queue: queue.submit("q", model=MODEL),
    "generate": lambda queue: queue.generate("q", model=MODEL),
    "embed": lambda queue: queue.embed("q", model="gemini-embedding-2"),
    "map": lambda queue: queue.map(["q"], model=MODEL),
    "lookup": lambda queue: queue.lookup("name"),
    "cancel": lambda queue: queue.cancel("00" + "a" * 20 + ".0"),
    "counts": lambda queue: queue.counts(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_another_loop_is_refused(queue: Queue, call: str) -> None:
    """A second asyncio.run, here in a thread of its own: each call says where the queue belongs."""

    def elsewhere() -> str:
        with pytest.raises(ConfigError) as caught:
            asyncio.run(CALLS[call](queue))
        return str(caught.value)

    assert "belongs to another event loop" in await asyncio.to_thread(elsewhere)


async def test_a_forked_child_is_refused(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections are the parent's: a reply that one reads the other waits for."""
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigError, match="before its process forked"):
        await queue.submit("q", model=MODEL)


def test_connect_without_await_says_how_it_is_meant() -> None:
    """The most common slip, and what to write."""
    with pytest.raises(AttributeError, match=r"await Queue.connect\(\.\.\.\)"):
        attrgetter("generate")(Queue.connect(emulate=True))
