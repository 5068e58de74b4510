"""The face on a real server: single answers, futures, map and stream, other processes' prompts."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gemqueue import (
    Answer,
    ConfigError,
    Failed,
    FailureKind,
    OutcomeExpired,
    PromptCancelled,
    PromptFailed,
    PromptInvalid,
    Queue,
    Stopped,
    StoreUnavailable,
)
from tests.worlds.answering import answering, connect, until, until_counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from redis.asyncio import Redis

    from tests.worlds.answering import Answering

MODEL = "gemini-3.8-flash"
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncGenerator[Queue]:
    """A queue of its own for the test."""
    async with connect(redis_url, queue_name) as queue:
        yield queue


@pytest.fixture
async def another(redis_url: str, queue_name: str) -> AsyncGenerator[Queue]:
    """The same queue as another process has it."""
    async with connect(redis_url, queue_name) as queue:
        yield queue


@pytest.fixture
async def worker(redis_url: str, queue_name: str) -> AsyncGenerator[Answering]:
    """Somebody who answers."""
    async with answering(redis_url, queue_name) as worker:
        yield worker


def texts(outcomes: list[Answer | Failed]) -> list[str]:
    """The answers' texts; a failure's message in its place."""
    return [outcome.text if isinstance(outcome, Answer) else outcome.failure.message for outcome in outcomes]


@pytest.mark.usefixtures("worker")
async def test_generate(queue: Queue) -> None:
    """One prompt in, its answer out."""
    answer = await queue.generate("Why?", model=MODEL, name="n", tag={"any": "thing"})
    assert (answer.text, answer.name, answer.tag, answer.ok) == ("echo: Why?", "n", {"any": "thing"}, True)
    assert answer.emulated


@pytest.mark.usefixtures("worker")
async def test_embed(queue: Queue) -> None:
    """One embedding per text, in order; one text has one answer; a bad one is refused before any is bought."""
    answers = await queue.embed(["a", "bcd"], model="gemini-embedding-2")
    assert [answer.values for answer in answers] == [[1.0, 1.0], [3.0, 1.0]]
    assert (await queue.embed("bc", model="gemini-embedding-2")).values == [2.0, 1.0]
    with pytest.raises(PromptInvalid):
        await queue.embed(["a", ""], model="gemini-embedding-2")
    assert (await queue.counts())["accepted"] == 3


@pytest.mark.usefixtures("worker")
async def test_a_failed_prompt_raises(queue: Queue) -> None:
    """A single await of a prompt that failed raises PromptFailed with its kind, code and message."""
    with pytest.raises(PromptFailed, match="blocked: as asked") as caught:
        await queue.generate("fail: blocked", model=MODEL)
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.BLOCKED, 3)


async def test_a_future_is_awaited_many_times(queue: Queue, worker: Answering) -> None:
    """Many tasks may await a future, before and after its outcome has come; each has the same answer."""
    worker.open.clear()
    future = await queue.submit("p", model=MODEL)
    waiting = [asyncio.create_task(future.result(60)) for _ in range(10)]
    await asyncio.sleep(0)
    assert not future.done()
    worker.open.set()
    answers = {id(answer) for answer in await asyncio.gather(*waiting)}
    assert answers == {id(await future)}
    assert future.done()


async def test_giving_up_an_await_is_not_giving_up_the_prompt(queue: Queue, worker: Answering) -> None:
    """An await that is cancelled or times out leaves the prompt as it is."""
    worker.open.clear()
    future = await queue.submit("p", model=MODEL)
    with pytest.raises(TimeoutError):
        await future.result(0.01)
    waiting = asyncio.create_task(future.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    worker.open.set()
    assert (await future).text == "echo: p"
    assert "cancelled" not in await queue.counts()


async def test_done_without_an_await(queue: Queue, worker: Answering) -> None:
    """Asking ``done`` again and again is enough to learn of the outcome."""
    future = await queue.submit("p", model=MODEL)
    await until(future.done)
    assert worker.batches == 1


async def test_cancel(queue: Queue, another: Queue, worker: Answering) -> None:
    """Cancelling settles the prompt for everybody who waits for it, and is too late after the answer."""
    answered = await queue.submit("p", model=MODEL)
    assert (await answered).ok
    assert await answered.cancel() is Stopped.TOO_LATE
    worker.open.clear()
    pending = await queue.submit("q", model=MODEL)
    elsewhere = asyncio.create_task(another.future(pending.key).result(60))
    assert await another.cancel(pending.key) is Stopped.PENDING
    for waiting in (pending.result(60), elsewhere):
        with pytest.raises(PromptCancelled):
            await waiting
    outcome = await pending.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.failure.kind == FailureKind.CANCELLED
    with pytest.raises(OutcomeExpired):
        await queue.cancel("00ffffffffffffffffffff.0")
    worker.open.set()


@pytest.mark.parametrize("landed", [True, False])
async def test_another_process_gets_the_answers(queue: Queue, another: Queue, worker: Answering, landed: bool) -> None:
    """Any process gets any answer by key or by name, whether it had landed before it asked or lands later."""
    if not landed:
        worker.open.clear()
    futures = [await queue.submit(f"p{i}", model=MODEL, name=f"n{i}") for i in range(3)]
    if landed:
        await asyncio.gather(*(future.result(60) for future in futures))
    found = [another.future(futures[0].key), await another.lookup("n1"), another.future(futures[2].key)]
    waiting = [asyncio.create_task(future.result(60)) for future in found if future is not None]
    await asyncio.sleep(0.02)
    worker.open.set()
    assert [answer.text for answer in await asyncio.gather(*waiting)] == ["echo: p0", "echo: p1", "echo: p2"]
    assert await another.lookup("nobody") is None


async def test_answers_one_by_one(queue: Queue, another: Queue, worker: Answering) -> None:
    """Futures of one segment that are asked for one after the other read its outcomes once."""
    outcomes = await queue.map([f"p{i}" for i in range(50)], model=MODEL)
    reads: list[int] = []
    original = another._store.outcomes

    async def counted(cursors: list[tuple[str, int]], blobs_max: int) -> list[list[bytes]]:
        reads.append(len(cursors))
        return await original(cursors, blobs_max)

    another._store.outcomes = counted  # type: ignore[method-assign]
    for i, outcome in enumerate(outcomes):
        assert (await another.future(outcome.key)).text == f"echo: p{i}"
    assert len(reads) <= 2
    assert (await another.future(outcomes[7].key)).text == "echo: p7"  # read again, as nobody kept it
    assert worker.batches >= 1


async def test_a_key_that_never_was(queue: Queue) -> None:
    """A key that this queue never gave out is OutcomeExpired; one that cannot be a key is ConfigError, at once."""
    with pytest.raises(OutcomeExpired):
        await queue.future("00ffffffffffffffffffff.0")
    own = await queue.submit("p", model=MODEL)
    beyond = f"{own.key.partition('.')[0]}.999"
    with pytest.raises(OutcomeExpired):
        await queue.future(beyond)
    with pytest.raises(ConfigError, match="not a key"):
        queue.future("what is this")


async def test_an_emulated_answer_is_not_for_a_real_account(redis_url: str, queue_name: str, queue: Queue) -> None:
    """A future of an emulated prompt raises ConfigError in a queue of a real account, and the reverse."""
    emulated = await queue.submit("p", model=MODEL)
    async with Queue.connect(redis_url, queue=queue_name, account="mine") as real_queue:
        with pytest.raises(ConfigError, match="emulate=True"):
            await real_queue.future(emulated.key)
        with pytest.raises(ConfigError, match="emulate=True"):
            await real_queue.future(emulated.key).outcome()
        real = await real_queue.submit("p", model=MODEL)
        with pytest.raises(ConfigError, match="emulate=False"):
            await queue.future(real.key)


@pytest.mark.usefixtures("worker")
async def test_a_lane_that_cannot_be_read_holds_nobody_else_up(queue: Queue, another: Queue) -> None:
    """A future of a prompt in a lane of a newer version raises ConfigError; the others are answered."""
    futures = [await queue.submit(text, model=MODEL, tenant=text) for text in ("newer", "plain")]
    newer, plain = [(await future).key for future in futures]
    store = another._store
    await store.redis.hset(store.key("segmeta", newer.partition(".")[0]), "lane", f"{queue.account}/m/paint/batch")
    waiting = [asyncio.create_task(another.future(key).result(60)) for key in (newer, plain)]
    assert (await waiting[1]).text == "echo: plain"
    with pytest.raises(ConfigError, match="upgrade this program"):
        await waiting[0]


async def test_map_keeps_the_order(redis_url: str, queue_name: str, queue: Queue) -> None:
    """Outcomes are in the rows' order whatever order they landed in, names and tags with them."""
    rows = [{"contents": f"p{i}", "tag": i, "name": f"n{i}" if i % 3 else None} for i in range(500)]
    async with answering(redis_url, queue_name, rows_max=7, seed=1):
        outcomes = await queue.map(rows, model=MODEL)
    assert texts(outcomes) == [f"echo: p{i}" for i in range(500)]
    assert [outcome.tag for outcome in outcomes] == list(range(500))
    assert [outcome.name for outcome in outcomes] == [row["name"] for row in rows]


@pytest.mark.usefixtures("worker")
async def test_map_never_throws_answers_away(queue: Queue) -> None:
    """Rows that are not valid or that fail have a Failed in their place; the others have their answers."""
    rows: list[object] = ["a", "", {"contents": "b", "nme": "x"}, "fail: empty", {"contents": "c", "name": 5}, "d", 3.5]
    outcomes = await queue.map(rows, model=MODEL)
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, False, True, False]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    kinds = [outcome.failure.kind for outcome in failed]
    assert kinds == ["invalid", "invalid", "empty", "invalid", "invalid"]
    assert 'did you mean "name"' in failed[1].failure.message
    assert isinstance(failed[0].error, PromptInvalid)
    assert await queue.map([], model=MODEL) == []


@pytest.mark.usefixtures("worker")
async def test_map_takes_what_can_be_iterated(queue: Queue) -> None:
    """Rows come from any iterable, also an asynchronous one, and may have their own config, tenant and priority."""

    async def rows() -> AsyncIterator[object]:
        yield "a"
        await asyncio.sleep(0)
        yield {"contents": "b", "config": {"temperature": 0.5}, "tenant": "acme", "priority": 3}
        yield {"role": "user", "parts": [{"text": "c"}]}

    assert texts(await queue.map(rows(), model=MODEL)) == ["echo: a", "echo: b", "echo: c"]


async def test_stream_is_bounded(redis_url: str, queue_name: str, worker: Answering) -> None:
    """A stream asks an endless source only for as many rows as its window holds, taken outcomes making room."""
    pulled = 0

    def rows() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield f"p{pulled}"

    worker.open.clear()
    async with connect(redis_url, queue_name, window_prompts_max=10) as queue:
        outcomes = queue.stream(rows(), model=MODEL)
        first = asyncio.ensure_future(anext(outcomes))
        await until(lambda: pulled == 11)
        worker.open.set()
        seen = {(await first).key}
        async for outcome in outcomes:
            seen.add(outcome.key)
            assert pulled <= len(seen) + 10
            if len(seen) == 100:
                break
        await outcomes.aclose()
    assert len(seen) == 100


@pytest.mark.usefixtures("worker")
async def test_an_error_in_the_rows_comes_after_their_outcomes(queue: Queue) -> None:
    """When the source of a stream fails, the outcomes of what it gave are handed out first."""

    def rows() -> Iterator[str]:
        yield "a"
        yield ""
        raise RuntimeError("the source broke")

    outcomes = queue.stream(rows(), model=MODEL)
    assert sorted([(await anext(outcomes)).ok for _ in range(2)]) == [False, True]
    with pytest.raises(RuntimeError, match="the source broke"):
        await anext(outcomes)


async def test_a_closed_queue_lets_nobody_hang(redis_url: str, queue_name: str) -> None:
    """Closing writes what is buffered and ends every wait with a clear error; the prompts go on."""
    queue = await connect(redis_url, queue_name, flush_ms=10_000)
    waiting = [
        asyncio.create_task(queue.generate("p", model=MODEL)),
        asyncio.create_task(queue.map(["q"], model=MODEL)),
        asyncio.ensure_future(anext(queue.stream(["r"], model=MODEL))),
    ]
    await until(
        lambda: len(queue._producer._buffers) == 1 and len(next(iter(queue._producer._buffers.values())).prompts) == 3
    )
    submitting = asyncio.create_task(queue.submit("s", model=MODEL, name="s"))
    await asyncio.sleep(0)
    await queue.aclose()
    for task in waiting:
        with pytest.raises(StoreUnavailable, match="closed"):
            await task
    future = await submitting
    for later in (future.result(), queue.submit("t", model=MODEL), queue.map(["t"], model=MODEL)):
        with pytest.raises(StoreUnavailable, match="closed"):
            await later
    await queue.aclose()
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as another:
        assert (await another.future(future.key)).text == "echo: s"
        await until_counted(another, "answered", 4)


async def test_a_stream_ends_when_its_queue_is_closed(redis_url: str, queue_name: str) -> None:
    """A stream whose Queue is closed between two rows raises; it does not wait for a row that never went in."""
    more = asyncio.Event()

    async def rows() -> AsyncGenerator[str]:
        yield "first"
        await more.wait()
        yield "second"

    async with answering(redis_url, queue_name):
        queue = await connect(redis_url, queue_name)
        stream = queue.stream(rows(), model=MODEL)
        assert (await anext(stream)).ok
        await queue.aclose()
        more.set()
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(60):
                await anext(stream)


async def test_a_segment_is_not_delivered_by_one_prompt_taken_twice(
    queue: Queue, redis: Redis, store_prefix: str, worker: Answering
) -> None:
    """Taking one answer again and again does not count as taking its neighbour's, which keeps its long life."""
    first, second = await asyncio.gather(queue.submit("one", model=MODEL), queue.submit("two", model=MODEL))
    assert first.key.partition(".")[0] == second.key.partition(".")[0]
    key = first.key
    await first
    del first
    for _ in range(3):
        await queue.future(key)
    await queue.aclose()
    ttl = await redis.ttl(f"{store_prefix}00}}:outcomes:{key.partition('.')[0]}")
    assert ttl > queue.settings.keep_delivered_s
    assert worker is not None
