"""Room for prompts that wait in this process: whatever becomes of a prompt, its room is free again, once."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue import Failed, NameConflict, PromptInvalid, Queue, QueueFull, StoreError, StoreUnavailable
from tests.worlds.answering import answering, connect, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from gemqueue.client.flights import Flight

MODEL = "gemini-3.8-flash"
LARGE = "x" * 1_500
LIMITS: dict[str, Any] = {"flush_ms": 60_000, "prompt_bytes_max": 2_000, "buffer_bytes_max": 2_000}
"""Room for one large prompt, which waits until somebody sends it off."""

CALLS: dict[str, Callable[[Queue], Coroutine[Any, Any, object]]] = {
    "submit": lambda queue: queue.submit(LARGE, model=MODEL),
    "generate": lambda queue: queue.generate(LARGE, model=MODEL),
    "map": lambda queue: queue.map([LARGE], model=MODEL),
    "stream": lambda queue: anext(queue.stream([LARGE], model=MODEL)),
}


@pytest.fixture
async def queue(redis_url: str, queue_name: str, no_leaks: None) -> AsyncGenerator[Queue]:  # noqa: ARG001
    """A queue whose only room is taken; when it is closed all of it must be free."""
    async with connect(redis_url, queue_name, **LIMITS) as queue:
        first = asyncio.create_task(queue.submit(LARGE, model=MODEL))
        await until(lambda: used(queue) > 0)
        yield queue
        await queue.aclose()
        await first
        assert (used(queue), waiting(queue)) == (0, 0)


def used(queue: Queue) -> int:
    """The bytes that are taken."""
    return queue._producer._space.used_bytes


def waiting(queue: Queue) -> int:
    """How many prompts wait for room."""
    return len(queue._producer._space._waiting)


def send_off(queue: Queue) -> None:
    """Have what is buffered written now."""
    for buffer in list(queue._producer._buffers.values()):
        buffer.ripen()


@pytest.mark.parametrize("call", CALLS)
async def test_cancelled_while_waiting(queue: Queue, call: str) -> None:
    """A caller that gives up while there is no room has taken none, and who waits behind it moves up."""
    before = used(queue)
    gone = asyncio.ensure_future(CALLS[call](queue))
    await until(lambda: waiting(queue) == 1)
    small = asyncio.create_task(queue.submit("small", model=MODEL))
    await until(lambda: waiting(queue) == 2)
    gone.cancel()
    await asyncio.wait([gone])
    assert gone.cancelled()
    await until(lambda: waiting(queue) == 0)
    assert used(queue) > before
    send_off(queue)
    assert (await small).key


@pytest.mark.parametrize("call", CALLS)
async def test_closed_while_waiting(queue: Queue, call: str) -> None:
    """Who waits for room of a Queue that is closed is told so, and holds nothing."""
    late = asyncio.ensure_future(CALLS[call](queue))
    await until(lambda: waiting(queue) == 1)
    await queue.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await late
    assert used(queue) == 0
    with pytest.raises(StoreUnavailable, match="closed"):
        await CALLS[call](queue)
    assert used(queue) == 0


async def test_names_that_meet_while_waiting(queue: Queue) -> None:
    """Of those that waited for room under one name the first keeps its room; a twin and another body hold none."""
    first, twin, other = [asyncio.create_task(queue.submit(text * 500, model=MODEL, name="n")) for text in "aab"]
    await until(lambda: waiting(queue) == 3)
    send_off(queue)
    with pytest.raises(NameConflict, match="just being submitted"):
        await other
    await until(lambda: waiting(queue) == 0)
    (buffer,) = queue._producer._buffers.values()
    assert used(queue) == sum(len(prompt.request) for prompt in buffer.prompts)
    assert len(buffer.prompts) == 1
    send_off(queue)
    assert (await first).key == (await twin).key


async def test_refused_at_the_door(queue: Queue) -> None:
    """What is no prompt, and another body under a name that is on its way, take no room, in single and bulk calls."""
    send_off(queue)
    await until(lambda: used(queue) == 0)
    held = asyncio.create_task(queue.submit("a", model=MODEL, name="n"))
    await until(lambda: used(queue) > 0)
    before = used(queue)
    with pytest.raises(PromptInvalid):
        await queue.submit("", model=MODEL)
    for call in (queue.submit, queue.generate):
        with pytest.raises(NameConflict):
            await call("b", model=MODEL, name="n")
    outcomes = await queue.map([{"contents": "b", "name": "n"}, ""], model=MODEL)
    assert [type(outcome.error) for outcome in outcomes if isinstance(outcome, Failed)] == [NameConflict, PromptInvalid]
    assert used(queue) == before
    send_off(queue)
    await held


async def test_no_room_in_time(redis_url: str, queue_name: str) -> None:
    """A single call that finds no room for ``submit_timeout_s`` is QueueFull and names the limit; it holds nothing."""
    async with connect(redis_url, queue_name, submit_timeout_s=0.2, **LIMITS) as queue:
        first = asyncio.create_task(queue.submit(LARGE, model=MODEL))
        await until(lambda: used(queue) > 0)
        before = used(queue)
        for call in (queue.submit, queue.generate):
            with pytest.raises(QueueFull, match=r"buffer_bytes_max.* 0.2 s"):
                await call(LARGE, model=MODEL)
        assert (used(queue), waiting(queue)) == (before, 0)
        send_off(queue)
        assert (await first).key
        assert used(queue) == 0


async def test_the_server_is_full(redis_url: str, queue_name: str) -> None:
    """Prompts that the store does not take in time give their room to those that wait for it."""
    limits = LIMITS | {"memory_bytes_max": 1, "submit_timeout_s": 0.2, "flush_ms": 1}
    async with connect(redis_url, queue_name, **limits) as queue:
        outcomes = await queue.map([LARGE] * 3, model=MODEL)
        assert [type(outcome.error) for outcome in outcomes if isinstance(outcome, Failed)] == [QueueFull] * 3
        with pytest.raises(QueueFull):
            await queue.generate(LARGE, model=MODEL)
        assert used(queue) == 0


async def test_a_flight_that_breaks(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is given back whatever a flight meets, also what nobody has thought of."""

    async def broken(_: Flight) -> None:
        raise RuntimeError("nobody has thought of this")

    send_off(queue)
    await until(lambda: used(queue) == 0)
    monkeypatch.setattr(queue._producer._writer, "write", broken)
    submitting = asyncio.create_task(queue.submit(LARGE, model=MODEL))
    await until(lambda: used(queue) > 0)
    send_off(queue)
    with pytest.raises(StoreError, match="nobody has thought of this"):
        await submitting
    assert used(queue) == 0


async def test_flights_are_bounded_and_in_order(
    redis_url: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much has gathered, at most ``flushes_max`` flights are under way, and they leave in the rows' order."""
    limits = {"segment_prompts_max": 10, "flushes_max": 2}
    async with answering(redis_url, queue_name), connect(redis_url, queue_name, **limits) as queue:
        write, gathered = queue._producer._writer.write, asyncio.Event()
        under_way: list[int] = []
        left: list[int] = []

        async def watched(flight: Flight) -> Any:
            left.append(flight.prompts[0].position)
            under_way.append(len(queue._producer._flights))
            await gathered.wait()
            return await write(flight)

        monkeypatch.setattr(queue._producer._writer, "write", watched)
        mapping = asyncio.create_task(queue.map([f"p{i}" for i in range(100)], model=MODEL))
        await until(lambda: len(left) == 2 and sum(len(b.prompts) for b in queue._producer._buffers.values()) == 80)
        gathered.set()
        assert all(outcome.ok for outcome in await mapping)
        assert left == list(range(0, 100, 10))
        assert max(under_way) <= 2
