"""Cutting segments, waiting for company, sharing room: pure, so checked by property, and on a clock of the test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gemqueue.client.buffer import LINE_BYTES, Buffer, Limits, Space
from gemqueue.client.tickets import Prompt, Route, Ticket
from gemqueue.language.lines import line

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPTS_MAX = 5
BYTES_MAX = 1_000
FLUSH_S = 2.0


def prompt(n_bytes: int, sink: Any = None) -> Prompt:
    """A prompt with a body of that many bytes, of a bulk call where it has a sink."""
    return Prompt(Ticket(), b"x" * n_bytes, (), sink)


class Timer:
    """What a loop's ``call_later`` returns."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """It does not ring."""
        self.cancelled = True


class Loop:
    """A loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        """Now."""
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """A timer."""
        self.timers.append(Timer(self.now + delay_s, call))
        return self.timers[-1]

    def running(self) -> list[Timer]:
        """The timers that will ring."""
        return [timer for timer in self.timers if not timer.cancelled]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and ring what is due."""
        self.now += seconds
        for timer in self.running():
            if timer.at <= self.now:
                self.timers.remove(timer)
                timer.call()


class Waiting:
    """A buffer, its loop, and how often it has said that it is ripe."""

    def __init__(self, prompts_max: int = PROMPTS_MAX) -> None:
        self.loop = Loop()
        self.ripe: list[Buffer] = []
        limits = Limits(prompts_max, BYTES_MAX * prompts_max // PROMPTS_MAX, FLUSH_S)
        self.buffer = Buffer(Route("lane", "default", 0), limits, self.ripe.append, cast("Any", self.loop))


class Cutting(RuleBasedStateMachine):
    """Whatever is added and cut, in whatever order, and however time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting()
        self.buffer = self.waiting.buffer
        self.model: list[Prompt] = []

    @rule(n_bytes=st.integers(1, 1_500))
    def add(self, n_bytes: int) -> None:
        """One more prompt comes."""
        item = prompt(n_bytes)
        self.model.append(item)
        self.buffer.add(item)

    @rule(seconds=st.floats(0.1, 30.0))
    def pass_by(self, seconds: float) -> None:
        """Time passes."""
        self.waiting.loop.pass_by(seconds)

    @rule()
    def cut(self) -> None:
        """A segment is the longest prefix within the limits, or one prompt that no segment could hold beside others."""
        if not self.model:
            return
        self.buffer.ripen()
        self.waiting.ripe.clear()
        got, _ = self.buffer.cut()
        if self.buffer.prompts:
            self.buffer.wait_on()
        expected, self.model = self.model[: len(got)], self.model[len(got) :]
        assert [id(p) for p in got] == [id(p) for p in expected]
        assert got
        assert len(got) == 1 or lines_bytes(got) <= BYTES_MAX
        assert len(got) <= PROMPTS_MAX
        if self.model and len(got) < PROMPTS_MAX:
            assert lines_bytes([*got, self.model[0]]) > BYTES_MAX

    @invariant()
    def bytes_add_up(self) -> None:
        """The buffer knows what it holds."""
        assert self.buffer.bytes == lines_bytes(self.model)
        assert self.buffer.prompts == self.model

    @invariant()
    def somebody_will_come(self) -> None:
        """What waits is ripe, or a timer runs for it: one of the two, once."""
        assert len(self.waiting.ripe) + len(self.waiting.loop.running()) == bool(self.model)


def lines_bytes(prompts: list[Prompt]) -> int:
    """What these prompts count for."""
    return sum(len(p.request) + LINE_BYTES for p in prompts)


TestCutting = Cutting.TestCase


def test_a_buffer_waits_for_company() -> None:
    """Prompts of single calls are ripe one flush after the first of them, whatever comes meanwhile."""
    waiting = Waiting()
    waiting.buffer.add(prompt(1))
    waiting.loop.pass_by(FLUSH_S * 0.6)
    waiting.buffer.add(prompt(1))
    assert waiting.ripe == []
    waiting.loop.pass_by(FLUSH_S * 0.4)
    assert waiting.ripe == [waiting.buffer]
    prompts, since = waiting.buffer.cut()
    assert (len(prompts), since) == (2, 100.0)
    assert waiting.loop.running() == []


def test_a_full_buffer_waits_no_more() -> None:
    """A full segment is ripe at once and says so once, however many prompts come before it is cut; the rest waits."""
    waiting = Waiting()
    for _ in range(2 * PROMPTS_MAX - 1):
        waiting.buffer.add(prompt(1))
    assert waiting.ripe == [waiting.buffer]
    assert waiting.loop.running() == []
    waiting.buffer.cut()
    waiting.buffer.wait_on()
    assert len(waiting.ripe) == 1
    waiting.loop.pass_by(FLUSH_S)
    assert len(waiting.ripe) == 2


@pytest.mark.parametrize(("rows_for", "ripe_after"), [(0, 1), (3, 4), (50, 10)])
def test_a_bulk_call_may_fill_its_buffer(rows_for: int, ripe_after: int) -> None:
    """While rows of a bulk call keep coming a buffer waits, ten flushes at most; when they stop, for one flush more."""
    waiting, sink = Waiting(prompts_max=100), object()
    waiting.buffer.add(prompt(1, sink))
    flushes = 0
    while not waiting.ripe:
        if flushes < rows_for:
            waiting.buffer.add(prompt(1, sink))
        waiting.loop.pass_by(FLUSH_S)
        flushes += 1
    assert flushes == ripe_after


@given(st.integers(0, 999), st.binary(min_size=1, max_size=50))
def test_line_overhead_is_a_bound(index: int, request: bytes) -> None:
    """No line of a segment is longer than what the buffer counts for it."""
    assert len(line(f"{'0' * 22}.{index}", request)) <= len(request) + LINE_BYTES


async def test_room_is_given_in_order() -> None:
    """Whoever waits first gets room first, also past a smaller one that would fit; a cancelled one takes none."""
    space = Space(100)
    assert space.try_take(60)
    order: list[str] = []

    async def take(name: str, n_bytes: int) -> None:
        await space.take(n_bytes)
        order.append(name)

    waiting = [asyncio.create_task(take(name, n)) for name, n in (("large", 80), ("gone", 10), ("small", 10))]
    await asyncio.sleep(0)
    assert not space.try_take(1)
    waiting[1].cancel()
    space.give_back(60)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["large", "small"]
    assert space.used_bytes == 90


async def test_cancelled_in_the_moment_of_the_grant() -> None:
    """A waiter that is cancelled just as it gets its room leaves it to the next."""
    space = Space(100)
    assert space.try_take(100)
    first, second = (asyncio.create_task(space.take(100)) for _ in range(2))
    await asyncio.sleep(0)
    space.give_back(100)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert space.used_bytes == 100


def test_an_oversized_prompt_is_let_in_alone() -> None:
    """A prompt over the whole budget passes when nothing else is there, so that nothing waits for ever."""
    space = Space(10)
    assert space.try_take(50)
    assert not space.try_take(1)
    space.give_back(50)
    assert space.try_take(1)
