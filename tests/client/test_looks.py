"""The future talks: where a prompt is, in which batch and lane, and why it waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from gemqueue import Look, PromptState, Queue
from gemqueue.client.looks import look_of
from gemqueue.policy import turnaround
from gemqueue.policy.turnaround import Histogram
from gemqueue.records import Hold, Lane
from gemqueue.states import BatchState, Step
from gemqueue.store import codec
from gemqueue.store.batches import JobEnd
from gemqueue.store.looks import Place
from tests.worlds.answering import connect, until
from tests.worlds.bench import Bench, landing, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

MODEL = "gemini-3.8-flash"
LANE = f"emulated.local/{MODEL}/generate/batch"
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def bench(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    """The stages, by hand."""
    here = Bench(redis_url, queue_name)
    yield here
    await here.store.aclose()


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncGenerator[Queue]:
    """The producer; its watchdog looks often."""
    async with connect(redis_url, queue_name, watchdog_s=0.02) as queue:
        yield queue


async def test_a_future_tells_its_whole_life(queue: Queue, bench: Bench) -> None:
    """From submit to answer, a look names the state in the words of the batch, the batch, and the lane."""
    future = await queue.submit("Why?", model=MODEL)
    assert (future.state, future.batch, future.lane) == (PromptState.PENDING, None, LANE)
    lane = await bench.claim(Step.PACK, LANE)
    batch = await bench.pack_one(lane)
    await bench.store.rest(lane)
    assert await future.look() == Look(state=PromptState.SEALED, lane=LANE, batch=batch)
    assert (future.state, future.batch) == (PromptState.SEALED, batch)

    claim = await bench.claim(Step.SUBMIT, batch)
    claim = await bench.store.begin(claim, "token", "files/f")
    assert (await future.look()).state is PromptState.SUBMITTING
    await bench.store.accept(claim, "batches/j", "created", 0)
    assert (await future.look()).state is PromptState.SUBMITTED
    claim = await bench.claim(Step.TRACK, batch)
    await bench.store.end(claim, JobEnd(job_state="succeeded"))
    assert (await future.look()).state is PromptState.ENDED

    claim = await bench.claim(Step.RESOLVE, batch)
    segment, index = future.key.split(".")
    answer = b'{"key":"%b","response":{}}' % future.key.encode()
    settled = landing(segment, [int(index)], codec.compress(answer))
    await bench.store.settle(claim, [settled])
    assert (await future.look()).state is PromptState.SETTLED
    await future
    assert (future.state, future.batch, future.held_reason) == (PromptState.SETTLED, batch, None)
    await bench.close(claim)

    other = await queue.submit("And?", model=MODEL)
    lane = await bench.claim(Step.PACK, LANE)
    sealed = await bench.pack_one(lane)
    await bench.store.rest(lane)
    await until(lambda: other.batch == sealed)
    assert (future.state, future.batch) == (PromptState.SETTLED, batch)  # however often the watchdog has looked since


async def test_asking_has_the_watchdog_look(queue: Queue, bench: Bench) -> None:
    """Properties never block; whoever asks once is kept up to date by the watchdog."""
    future = await queue.submit("Why?", model=MODEL)
    assert future.state is PromptState.PENDING
    lane = await bench.claim(Step.PACK, LANE)
    batch = await bench.pack_one(lane)
    await bench.store.rest(lane)
    await until(lambda: future.state is PromptState.SEALED)
    assert future.batch == batch
    claim = await bench.claim(Step.SUBMIT, batch)
    await bench.store.release(claim, 5.0, hold=Hold(text="quota (create): enqueued tokens"))
    await until(lambda: queue.future(future.key).held_reason in {"quota (create): enqueued tokens", "no worker"})
    assert (await future.look()).held_reason == "quota (create): enqueued tokens"


async def test_a_look_follows_retries_and_finds_prompts_of_others(bench: Bench, queue: Queue) -> None:
    """A prompt that went on into retry segments is found where it is now; by key, from any process."""
    segment = await bench.enqueue(3)
    stranger = queue.future(f"{segment}.1")
    assert (stranger.state, stranger.lane) == (PromptState.UNKNOWN, None)
    first = await bench.ended()
    await bench.store.requeue(first, retry("00r1", segment, [0, 1]), b"b")
    assert (await stranger.look()).state is PromptState.PENDING
    second = await bench.ended()
    assert (await stranger.look()).batch == second.id
    again = retry("00r2", segment, [1], moves=[("00r1", b"\x40")])
    await bench.store.requeue(second, again, b"b")
    third = await bench.sealed()
    assert await stranger.look() == Look(state=PromptState.SEALED, lane=bench_lane(), batch=third)
    assert (await queue.future(f"{segment}.0").look()).batch == second.id
    assert (await queue.future(f"{segment}.2").look()).batch == first.id


async def test_what_is_not_there_is_unknown(queue: Queue, bench: Bench, redis: Redis) -> None:
    """A key of nobody is unknown; a prompt whose way was not kept is somewhere behind a move."""
    assert await queue.future("00feed.7").look() == Look(state=PromptState.UNKNOWN)
    segment = await bench.enqueue(3)
    claim = await bench.ended()
    await bench.store.requeue(claim, retry("00r3", segment, [0]), b"b")
    await cast("Any", redis).hdel(bench.store.key("segmeta", segment), "went")
    assert (await queue.future(f"{segment}.0").look()).state is PromptState.MOVED


def bench_lane() -> str:
    """The lane that a bench writes to."""
    return "emulated.local/m/generate/batch"


PLACED = Lane.parse(bench_lane())


def test_every_state_of_a_batch_has_a_word() -> None:
    """A prompt in a batch of any state has a state of its own."""
    assert {str(state) for state in BatchState} - {str(state) for state in PromptState} == {"closing", "closed"}


async def test_the_eta_comes_from_the_history(queue: Queue, bench: Bench) -> None:
    """Without a history there is no ETA; with one it is the median job, then what such a job still takes at its age."""
    segment = await bench.enqueue(3)
    future = queue.future(f"{segment}.0")
    assert (await future.look()).eta is None
    assert future.eta is None
    history = turnaround.known({0: Histogram(0, {turnaround.sample(3, 600.0)[1]: 1.0})}, 3, 0)
    assert history is not None
    now_ms = 1_800_000_000_000
    waiting = look_of(Place(lane=PLACED), history, now_ms)
    running = Place(lane=PLACED, batch="b", batch_state="submitted", accepted_at=now_ms - 300_000)
    assert waiting.eta is not None
    assert abs(waiting.eta.timestamp() - now_ms / 1000 - 600) < 60
    halfway = look_of(running, history, now_ms).eta
    assert halfway is not None
    assert abs(halfway.timestamp() - now_ms / 1000 - 300) < 60
    assert look_of(Place(lane=PLACED, settled=True), history, now_ms).eta is None


async def test_a_pool_expects_what_its_accounts_take(redis_url: str, queue_name: str, bench: Bench) -> None:
    """A prompt that waits in a pool's lane is expected after the median job of the accounts that take from it."""
    await bench.enqueue(3)
    claim = await bench.claim(Step.TRACK, await bench.submitted())
    await bench.store.end(claim, JobEnd(job_state="succeeded", sample=turnaround.sample(3, 600.0)))
    async with connect(redis_url, queue_name, pool="shared") as queue:
        future = await queue.submit("Why?", model="m")
        assert (await future.look()).eta is None
        for account in ("emulated.local", "emulated.other"):
            await bench.store.join_pool("emulated.pool.shared", account)
        seen = await future.look()
    assert (seen.state, seen.lane) == (PromptState.PENDING, "emulated.pool.shared/m/generate/batch")
    assert seen.eta is not None
    assert abs((seen.eta - datetime.now(UTC)).total_seconds() - 600) < 120


async def test_nothing_is_expected_of_what_is_held(queue: Queue, bench: Bench) -> None:
    """A batch that waits for a quota has a reason and a time since when, and no ETA; a job that runs has one again."""
    await bench.enqueue(3)
    batch = await bench.sealed()
    claim = await bench.claim(Step.SUBMIT, batch)
    since_ms = await bench.store.server_now_ms()
    await bench.store.release(claim, 5.0, hold=Hold(text="enqueued tokens: 9 of 9 in use", since_ms=since_ms))
    segment = (await bench.store.manifest(batch))[0]
    future = queue.future(f"{segment}.0")
    seen = await future.look()
    assert seen.held_reason == "enqueued tokens: 9 of 9 in use"
    assert seen.held_since is not None
    assert round(seen.held_since.timestamp() * 1000) == since_ms
    history = turnaround.known({0: Histogram(0, {turnaround.sample(3, 600.0)[1]: 1.0})}, 3, 0)
    held = Place(
        lane=Lane.parse(bench_lane()),
        batch="b",
        batch_state="sealed",
        held_reason="enqueued tokens",
        held_since=since_ms,
    )
    assert look_of(held, history, since_ms).eta is None
    running = Place(
        lane=Lane.parse(bench_lane()), batch="b", batch_state="submitted", held_reason="the key", accepted_at=since_ms
    )
    assert look_of(running, history, since_ms).eta is not None


async def test_without_a_worker_nothing_is_expected(queue: Queue) -> None:
    """Whatever such jobs used to take: while nobody works there is a reason and no ETA."""
    future = await queue.submit("Why?", model=MODEL)
    assert future.eta is None
    await until(lambda: future.held_reason == "no worker")
    assert (future.eta, future.held_since) == (None, None)
