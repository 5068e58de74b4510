"""Rows of bulk calls without tickets: by spans, wherever they travel, each has its own outcome once."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import Answer, QueueFull
from gemqueue.client.listener import Listener
from gemqueue.client.tickets import Prompt, Segment, Ticket
from gemqueue.language.lines import own_copy, read_lines
from tests.worlds.answering import answering, connect, until, until_counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gemqueue import Failed, GemqueueError
    from gemqueue.client.tickets import Span
    from gemqueue.language.outcomes import Outcome

MODEL = "gemini-3.8-flash"


class Recorded:
    """A call that notes what lands where."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tags: dict[int, object] = {}
        self.found: list[tuple[int, str, object]] = []

    def land(self, span: Span, indices: list[int], outcomes: list[Outcome]) -> None:
        """As ``map`` does."""
        for index, outcome in zip(indices, outcomes, strict=True):
            self.found.append((span.position + index - span.start, outcome.key, outcome.tag))

    def landed(self, ticket: Ticket) -> None:
        """A named row."""
        self.found.append((ticket.position, ticket.key, ticket.tag))

    def refused(self, position: int, outcome: Outcome) -> None:
        """Never here."""
        raise AssertionError(position, outcome)

    def abandon(self, error: GemqueueError) -> None:
        """Never here."""
        raise AssertionError(error)


def line(segment: str, index: int) -> bytes:
    """An outcome line."""
    return b'{"key":"%b.%d","response":{"n":%d}}' % (segment.encode(), index, index)


# Per prompt: whose it is (two calls, a named row of the first, a single call), and how many of its call's rows lie
# between it and the one before.
ROWS = st.tuples(st.sampled_from(["a", "b", "named", "single"]), st.integers(0, 1))


@given(st.lists(ROWS, min_size=1, max_size=30), st.data())
def test_every_row_gets_its_own_outcome_once(given_prompts: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whatever shares a segment, and in whatever order and however often its lines come."""
    calls = {name: Recorded(name) for name in "ab"}
    positions = dict.fromkeys(calls, -1)
    segment = Segment("00s", own=True, count=len(given_prompts))
    prompts: list[Prompt] = []
    singles: list[tuple[int, Ticket]] = []
    expected: dict[str, list[tuple[int, str, object]]] = {"a": [], "b": []}
    for index, (whose, gap) in enumerate(given_prompts):
        if whose == "single":
            singles.append((index, Ticket()))
            prompts.append(Prompt(singles[-1][1], b"{}"))
            continue
        name = "a" if whose == "named" else whose
        call, key = calls[name], f"00s.{index}"
        positions[name] = position = positions[name] + 1 + gap
        tag = f"{name}{position}" if position % 2 else None
        expected[name].append((position, key, tag))
        if whose == "named":
            prompts.append(Prompt(Ticket(key, tag, call, position), b"{}"))
            continue
        if tag is not None:
            call.tags[position] = tag
        prompts.append(Prompt(None, b"{}", (), call, position))
    listener = Listener(cast("Any", None), "emulated.local", cast("Any", None))
    segment.place_all(prompts)
    listener.expect(segment)
    order = data.draw(st.permutations([*range(len(prompts))] * 2))
    for index in order:
        lines, bad = read_lines(line("00s", index), segment.prefix, segment.count)
        assert not bad
        listener._router.give(segment, lines)
    assert {name: sorted(call.found) for name, call in calls.items()} == expected
    assert not any(call.tags for call in calls.values())
    assert not segment.waiting
    assert [ticket.outcome.key for _, ticket in singles if ticket.outcome] == [f"00s.{i}" for i, _ in singles]


@given(st.lists(st.sampled_from([b"", b"{", b'{"key":"00t.1"}', b'{"key":"00s.7"}', b'{"key":"00s.01"}', b"\xff"])))
def test_lines_that_cannot_be_read_cost_no_other(broken: list[bytes]) -> None:
    """Garbage, foreign keys, indices that are none: counted, and the lines beside them are read."""
    text = b"\n".join([line("00s", 1), *broken, line("00s", 0)])
    lines, bad = read_lines(text, "00s.", 2)
    assert [(index, found.key) for index, found in lines] == [(1, "00s.1"), (0, "00s.0")]
    assert bad == len([raw for raw in broken if raw])
    kept = own_copy(lines[0][1])
    assert (kept.key, bytes(kept.response)) == ("00s.1", b'{"n":1}')


def texts(outcomes: list[Answer | Failed]) -> list[str]:
    """What was answered."""
    return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]


@pytest.mark.usefixtures("no_leaks")
async def test_calls_at_once_share_segments(redis_url: str, queue_name: str) -> None:
    """Maps, a stream and single prompts at once, some rows named, tagged or refused: each row its own outcome."""
    rows: list[object] = [f"r{n}" for n in range(300)]
    rows[7], rows[50] = {"contents": "r7", "tag": "t7"}, {"contents": "r50", "name": "fifty", "tag": "t50"}
    rows[120] = ""
    async with answering(redis_url, queue_name, rows_max=37, seed=1), connect(redis_url, queue_name) as queue:
        streamed: list[Answer | Failed] = []

        async def stream() -> None:
            streamed.extend([outcome async for outcome in queue.stream(rows, model=MODEL)])

        single, first, second, _ = await asyncio.gather(
            queue.generate("alone", model=MODEL), queue.map(rows, model=MODEL), queue.map(rows, model=MODEL), stream()
        )
    assert single.text == "echo: alone"
    for outcomes in (first, second):
        assert [outcome.ok for outcome in outcomes] == [n != 120 for n in range(300)]
        assert texts(outcomes) == [f"echo: r{n}" for n in range(300) if n != 120]
        assert [(n, outcome.tag) for n, outcome in enumerate(outcomes) if outcome.tag] == [(7, "t7"), (50, "t50")]
    assert sorted(texts(streamed)) == sorted(texts(first))


@pytest.mark.usefixtures("no_leaks")
async def test_a_row_of_a_map_is_a_future_too(redis_url: str, queue_name: str) -> None:
    """Its key is good for a future before and after it lands, and the map misses nothing by it."""
    async with answering(redis_url, queue_name) as worker, connect(redis_url, queue_name) as queue:
        worker.open.clear()
        bulk = asyncio.create_task(queue.map(["a", "b"], model=MODEL))
        await until(lambda: any(segment.live for segment in queue._listener.waited.values()))
        (segment,) = queue._listener.waited
        early = asyncio.create_task(queue.future(f"{segment}.1").result())
        await asyncio.sleep(0)
        worker.open.set()
        assert texts(await bulk) == ["echo: a", "echo: b"]
        assert (await early).text == "echo: b"
        assert (await queue.future(f"{segment}.0")).text == "echo: a"


@pytest.mark.usefixtures("no_leaks")
async def test_what_a_call_gives_slowly_does_not_wait_to_be_filled(redis_url: str, queue_name: str) -> None:
    """A row goes on its way though the segment is not full and the call has not ended."""
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as queue:

        async def rows() -> AsyncIterator[str]:
            yield "first"
            await until_counted(queue, "answered", 1)
            yield "second"

        assert texts(await queue.map(rows(), model=MODEL)) == ["echo: first", "echo: second"]


@pytest.mark.usefixtures("no_leaks")
async def test_a_segment_that_is_being_filled_is_waited_for(redis_url: str, queue_name: str) -> None:
    """Rows that follow each other travel together though their buffer's time is up: for ten times as long."""
    async with answering(redis_url, queue_name), connect(redis_url, queue_name, flush_ms=50.0) as queue:
        now = asyncio.get_running_loop().time

        async def rows() -> AsyncIterator[str]:
            started = now()
            for n in range(16):
                yield f"r{n}"
                while now() < started + 0.010 * n:  # noqa: ASYNC110 - a row every 10 ms, on a loop that never rests
                    await asyncio.sleep(0)

        segments = {outcome.key.partition(".")[0] for outcome in await queue.map(rows(), model=MODEL)}
        assert len(segments) == 1


@pytest.mark.usefixtures("no_leaks")
async def test_a_map_that_is_given_up_keeps_nothing(redis_url: str, queue_name: str) -> None:
    """What lands afterwards is dropped as it comes; the prompts themselves go on."""
    async with answering(redis_url, queue_name) as worker, connect(redis_url, queue_name) as queue:
        worker.open.clear()
        bulk = asyncio.create_task(queue.map(["a", "b"], model=MODEL))
        await until(lambda: any(segment.live for segment in queue._listener.waited.values()))
        (segment,) = queue._listener.waited.values()
        call = cast("Any", segment.spans[0].sink)
        bulk.cancel()
        await asyncio.wait([bulk])
        worker.open.set()
        await until(lambda: not queue._listener.waited)
        assert (call._outcomes, call._spans) == ([], {})
        assert (await queue.future(f"{segment.id}.0")).text == "echo: a"


@pytest.mark.usefixtures("no_leaks")
async def test_who_has_given_up_keeps_no_refusal_from_others(redis_url: str, queue_name: str) -> None:
    """Where a full queue refuses a segment, a map that was given up is told nothing, and the one beside it all."""
    async with connect(redis_url, queue_name, memory_bytes_max=1, submit_timeout_s=0.2) as queue:
        given_up, other = (asyncio.create_task(queue.map([row], model=MODEL)) for row in "ab")
        await until(lambda: len(queue._producer._flights) == 1)
        given_up.cancel()
        assert [outcome.ok for outcome in await other] == [False]


@pytest.mark.parametrize("way", ["map", "stream"])
async def test_what_landed_is_not_refused(redis_url: str, queue_name: str, way: str) -> None:
    """Rows whose answers come while no reply to their submit does are answered, once; the others are refused, once."""
    settings: dict[str, Any] = {"durability": "replicated", "replicate_s": 0.1, "submit_timeout_s": 1.0}
    async with answering(redis_url, queue_name) as worker, connect(redis_url, queue_name, **settings) as queue:

        async def rows() -> AsyncIterator[str]:
            for n in range(10):
                yield f"r{n}"
            await until_counted(queue, "answered", 10)
            await until(lambda: not queue._listener.waited)
            worker.open.clear()
            for n in range(10, 25):
                yield f"r{n}"

        if way == "map":
            outcomes = await queue.map(rows(), model=MODEL)
        else:
            outcomes = [outcome async for outcome in queue.stream(rows(), model=MODEL)]
        assert texts(outcomes) == [f"echo: r{n}" for n in range(10)]
        assert [outcome.ok for outcome in outcomes] == [True] * 10 + [False] * 15


async def test_refused_prompts_are_forgotten(redis_url: str, queue_name: str) -> None:
    """Nothing is kept of prompts that a full queue has refused: not the tickets, and not what their errors know."""
    async with connect(redis_url, queue_name, memory_bytes_max=1, submit_timeout_s=0.05) as queue:
        for n in range(3):
            with pytest.raises(QueueFull):
                await queue.submit("p", model=MODEL)
            assert not (await queue.map([{"contents": "p", "name": f"n{n}"}], model=MODEL))[0].ok
        await until(lambda: not queue._producer._flights)
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Ticket)]
