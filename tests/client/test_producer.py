"""Submitting on a real server: group commit, names, lost replies, a full queue, a server that dies."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, cast

import pytest

from gemqueue import (
    Failed,
    NameConflict,
    PromptInvalid,
    PromptTooLarge,
    Queue,
    QueueFull,
    Stopped,
    StoreUnavailable,
)
from gemqueue.states import FailureKind
from tests.valkey_server import ValkeyServer
from tests.worlds.answering import answering, connect, until
from tests.worlds.lossy import lossy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from redis.asyncio import Redis

MODEL = "gemini-3.8-flash"


@pytest.fixture
async def queue(redis_url: str, queue_name: str, no_leaks: None) -> AsyncGenerator[Queue]:  # noqa: ARG001
    """A queue of its own for the test, which must leave nothing behind."""
    async with connect(redis_url, queue_name) as queue:
        yield queue


@pytest.fixture
def own_server() -> Generator[ValkeyServer]:
    """A server that the test may kill or fill."""
    with ValkeyServer() as server:
        yield server


def segments_of(keys: list[str]) -> set[str]:
    """The segments in which these prompts travelled."""
    return {key.partition(".")[0] for key in keys}


async def test_concurrent_submits_share_a_segment(queue: Queue) -> None:
    """Prompts that are submitted at about the same time travel in one segment, each with a key of its own."""
    futures = await asyncio.gather(*(queue.submit(f"p{i}", model=MODEL) for i in range(300)))
    keys = [future.key for future in futures]
    assert len(segments_of(keys)) == 1
    assert len(set(keys)) == 300


async def test_segments_are_cut_at_their_limits(redis_url: str, queue_name: str) -> None:
    """A segment holds no more prompts and bytes than the settings allow; a larger prompt travels alone."""
    async with connect(redis_url, queue_name, segment_prompts_max=10, segment_bytes_max=5_000) as queue:
        small = await asyncio.gather(*(queue.submit(f"p{i}", model=MODEL) for i in range(35)))
        assert len(segments_of([future.key for future in small])) == 4
        large = await asyncio.gather(*(queue.submit("x" * n, model=MODEL) for n in (2_000, 2_000, 9_000, 2_000)))
        keys = [future.key for future in large]
        assert len(segments_of(keys)) == 3
        assert [key.partition(".")[2] for key in keys] == ["0", "1", "0", "0"]


async def test_lanes_tenants_and_priorities_do_not_mix(queue: Queue) -> None:
    """A segment belongs to one model, kind, tenant and priority."""
    futures = await asyncio.gather(
        queue.submit("p", model=MODEL),
        queue.submit("p", model="gemini-other"),
        queue.submit("p", model="gemini-embedding-2", kind="embed"),
        queue.submit("p", model=MODEL, tenant="acme"),
        queue.submit("p", model=MODEL, priority=5),
    )
    assert len(segments_of([future.key for future in futures])) == 5


@pytest.mark.parametrize("given", [{"priority": [1]}, {"priority": True}, {"tenant": {}}, {"model": [MODEL]}])
async def test_defaults_of_any_type_are_refused_in_words(queue: Queue, given: dict[str, Any]) -> None:
    """What cannot be looked up among the known doors is refused like any other value, also when a like one is known."""
    await queue.submit("p", model=MODEL, priority=1)
    arguments: dict[str, Any] = {"model": MODEL, **given}
    with pytest.raises(PromptInvalid):
        await queue.submit("p", **arguments)


async def test_a_cancelled_submitter_disturbs_nobody(queue: Queue) -> None:
    """Cancelling one submit neither cancels its neighbours in the segment nor its own prompt."""
    tasks = [asyncio.create_task(queue.submit(f"p{i}", model=MODEL)) for i in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first, gone, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(gone, asyncio.CancelledError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert (first.key.partition(".")[2], last.key.partition(".")[2]) == ("0", "2")
    assert (await queue.counts())["accepted"] == 3


async def test_one_name_from_twenty_queues(redis_url: str, queue_name: str) -> None:
    """The same prompt under one name, from twenty queues at once, is one prompt, and all of them get its answer."""
    async with answering(redis_url, queue_name):
        queues = await asyncio.gather(*(connect(redis_url, queue_name) for _ in range(20)))
        futures = await asyncio.gather(*(queue.submit("same", model=MODEL, name="doc-42") for queue in queues))
        assert len({future.key for future in futures}) == 1
        answers = await asyncio.gather(*(future.result(60) for future in futures))
        assert {answer.text for answer in answers} == {"echo: same"}
        counts = await queues[0].counts()
        assert (counts["accepted"], counts["answered"]) == (1, 1)
        await asyncio.gather(*(queue.aclose() for queue in queues))


async def test_the_same_name_in_one_process_is_merged(queue: Queue, redis_url: str, queue_name: str) -> None:
    """Submits of the same prompt under the same name merge before they leave, in the buffer and in flight."""
    async with answering(redis_url, queue_name):
        outcomes = await queue.map([{"contents": "a", "name": "n", "tag": i} for i in range(5)], model=MODEL)
        assert [outcome.tag for outcome in outcomes] == [0, 1, 2, 3, 4]
        assert len({outcome.key for outcome in outcomes}) == 1
        assert (await queue.counts())["accepted"] == 1


async def test_another_body_under_a_name_is_refused(queue: Queue, redis_url: str, queue_name: str) -> None:
    """A name that belongs to another body, model or config is a NameConflict that names the key; nothing is written."""
    first = await queue.submit("a", model=MODEL, name="n")
    for other in ({"contents": "b", "model": MODEL}, {"contents": "a", "model": "gemini-other"}):
        async with connect(redis_url, queue_name) as another:
            with pytest.raises(NameConflict, match="n") as caught:
                await another.submit(other["contents"], model=other["model"], name="n")
            assert caught.value.key == first.key
    same = await asyncio.gather(
        queue.submit("x", model=MODEL, name="m"), queue.submit("y", model=MODEL, name="m"), return_exceptions=True
    )
    assert [type(each).__name__ for each in same] == ["Future", "NameConflict"]
    assert (await queue.counts())["accepted"] == 2


async def test_taken_names_leave_the_rest_of_the_segment(queue: Queue, redis_url: str, queue_name: str) -> None:
    """Rows whose names are taken get the outcomes of the prompts that have them; the others go on in a new segment."""
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as another:
        held = await asyncio.gather(*(queue.submit(f"p{i}", model=MODEL, name=f"n{i}") for i in range(3)))
        rows: list[object] = [{"contents": f"p{i}", "name": f"n{i}"} for i in range(5)]
        rows += ["plain", {"contents": "another body", "name": "n1"}]
        outcomes = await another.map(rows, model=MODEL)
        assert [outcome.key for outcome in outcomes[:3]] == [future.key for future in held]
        texts = [outcome.text for outcome in outcomes if not isinstance(outcome, Failed)]
        assert texts == [f"echo: p{i}" for i in range(5)] + ["echo: plain"]
        refused = outcomes[-1]
        assert isinstance(refused, Failed)
        assert refused.failure.kind == "invalid"
        assert isinstance(refused.error, NameConflict)
        assert (await queue.counts())["accepted"] == 6


async def test_a_lost_reply_registers_once(own_server: ValkeyServer, queue_name: str) -> None:
    """When the store's reply is lost, the retry finds the segment registered: one segment, however often."""
    async with (
        lossy(own_server.socket_path, own_server.folder, b":segment:") as (proxy, url),
        connect(url, queue_name) as queue,
    ):
        proxy.lose = 3
        futures = await asyncio.gather(*(queue.submit(f"p{i}", model=MODEL, name=f"n{i}") for i in range(50)))
        assert proxy.lose == 0
        assert len(segments_of([future.key for future in futures])) == 1
        assert (await queue.counts())["accepted"] == 50


async def test_a_full_queue_is_waited_for(redis_url: str, queue_name: str) -> None:
    """While the queue is full a submit waits, and goes through as soon as there is room."""
    async with connect(redis_url, queue_name, memory_bytes_max=3_000) as queue:
        first = await queue.submit(secrets.token_hex(2_500), model=MODEL)
        second = asyncio.create_task(queue.submit(secrets.token_hex(2_500), model=MODEL))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        assert await first.cancel() is Stopped.PENDING
        assert (await second).key


async def test_a_full_queue_refuses_in_the_end(redis_url: str, queue_name: str, redis: Redis) -> None:
    """After ``submit_timeout_s`` a full queue is QueueFull, a Failed row in a map, and leaves nothing behind."""
    async with connect(redis_url, queue_name, memory_bytes_max=1, submit_timeout_s=0.2) as queue:
        with pytest.raises(QueueFull, match="memory_bytes_max"):
            await queue.submit("p", model=MODEL)
        with pytest.raises(QueueFull):
            await queue.generate("p", model=MODEL)
        outcome = (await queue.map(["p"], model=MODEL))[0]
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, QueueFull)
        assert outcome.failure is not None
        assert outcome.failure.kind is FailureKind.REFUSED
        assert await cast("Any", redis).keys(f"{{gq:{queue_name}:*segment*") == []


async def test_a_server_at_its_memory_limit_is_waited_for(own_server: ValkeyServer, queue_name: str) -> None:
    """A server that refuses writes for want of memory is a full queue: waited for, then QueueFull."""
    async with connect(own_server.url, queue_name, submit_timeout_s=0.3) as queue:
        server: Any = queue._store.redis
        await server.config_set("maxmemory", "1mb")
        with pytest.raises(QueueFull, match="maxmemory"):
            await queue.submit("p", model=MODEL)
        waiting = asyncio.create_task(queue.submit("p", model=MODEL))
        await server.config_set("maxmemory", "0")
        assert (await waiting).key


async def test_the_buffer_is_bounded(redis_url: str, queue_name: str) -> None:
    """No more than ``buffer_bytes_max`` waits in the process, and everything gets through nevertheless."""
    limits = {"buffer_bytes_max": 20_000, "prompt_bytes_max": 5_000, "segment_bytes_max": 4_000}
    async with answering(redis_url, queue_name), connect(redis_url, queue_name, **limits) as queue:
        outcomes = await queue.map(["x" * 1_500 for _ in range(200)], model=MODEL)
        assert all(outcome.ok for outcome in outcomes)
        assert queue._producer._space.used_bytes == 0


async def test_the_server_dies_while_rows_are_submitted(own_server: ValkeyServer, queue_name: str) -> None:
    """A server that is killed and comes back in the midst of a map loses nothing and takes nothing twice."""
    async with connect(own_server.url, queue_name, segment_prompts_max=20) as queue:

        def rows() -> Generator[str]:
            for i in range(600):
                if i == 300:
                    own_server.kill()
                if i == 500:
                    own_server.start()
                yield f"p{i}"

        async with answering(own_server.url, queue_name) as worker:
            worker.open.clear()
            mapping = asyncio.create_task(queue.map(rows(), model=MODEL))
            await until(lambda: not queue._producer._flights and len(queue._listener.waited) == 30)
            worker.open.set()
            outcomes = await mapping
        assert [outcome.text for outcome in outcomes if not isinstance(outcome, Failed)] == [
            f"echo: p{i}" for i in range(600)
        ]
        assert (await queue.counts())["accepted"] == 600


async def test_a_server_that_stays_away(own_server: ValkeyServer, queue_name: str) -> None:
    """A submit to a server that stays away is StoreUnavailable after ``submit_timeout_s``: nobody knows its fate."""
    async with connect(own_server.url, queue_name, submit_timeout_s=0.3) as queue:
        own_server.kill()
        with pytest.raises(StoreUnavailable, match="nobody knows"):
            await queue.submit("p", model=MODEL)
        own_server.start()
        assert (await queue.submit("p", model=MODEL)).key


async def test_refused_at_the_door(queue: Queue) -> None:
    """What is not a prompt is refused before anything is written, with an error that names the field."""
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"contents": ""}, "contents"),
        ({"contents": "p", "model": "no model!"}, "model"),
        ({"contents": "p", "config": {"temprature": 1}}, "temperature"),
        ({"contents": "p", "kind": "chat"}, "kind"),
        ({"contents": "p", "name": ""}, "name"),
        ({"contents": "p", "tenant": "a b"}, "tenant"),
        ({"contents": "p", "priority": 1_000}, "priority"),
    ]
    for call, field in refusals:
        given: dict[str, Any] = {"model": MODEL, **call}
        with pytest.raises(PromptInvalid, match=field):
            await queue.submit(**given)
    with pytest.raises(PromptTooLarge, match="prompt_bytes_max"):
        await queue.submit("x" * 17_000_000, model=MODEL)
    for rows in ("one", b"one", {"contents": "one"}):
        with pytest.raises(PromptInvalid, match="list"):
            await queue.map(rows, model=MODEL)
    assert await queue.counts() == {}
