"""Cutting segments and sharing room: pure, so checked by property."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gemqueue.client.buffer import LINE_BYTES, Buffer, Space
from gemqueue.client.tickets import Prompt, Route, Ticket
from gemqueue.language.lines import line

PROMPTS_MAX = 5
BYTES_MAX = 1_000


def prompt(n_bytes: int) -> Prompt:
    """A prompt with a body of that many bytes."""
    return Prompt(Ticket(), b"x" * n_bytes)


class Cutting(RuleBasedStateMachine):
    """Whatever is added and cut, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer(Route("lane", "default", 0))
        self.model: list[Prompt] = []

    @rule(n_bytes=st.integers(1, 1_500))
    def add(self, n_bytes: int) -> None:
        """One more prompt comes."""
        item = prompt(n_bytes)
        self.model.append(item)
        self.buffer.add(item)

    @rule()
    def cut(self) -> None:
        """A segment is the longest prefix within the limits, or one prompt that no segment could hold beside others."""
        got = self.buffer.cut(PROMPTS_MAX, BYTES_MAX)
        expected, self.model = self.model[: len(got)], self.model[len(got) :]
        assert [id(p) for p in got] == [id(p) for p in expected]
        assert bool(got) or not self.model
        assert len(got) == 1 or lines_bytes(got) <= BYTES_MAX
        assert len(got) <= PROMPTS_MAX
        if self.model and len(got) < PROMPTS_MAX:
            assert lines_bytes([*got, self.model[0]]) > BYTES_MAX

    @invariant()
    def bytes_add_up(self) -> None:
        """The buffer knows what it holds."""
        assert self.buffer.bytes == lines_bytes(self.model)
        assert self.buffer.prompts == self.model


def lines_bytes(prompts: list[Prompt]) -> int:
    """What these prompts count for."""
    return sum(len(p.request) + LINE_BYTES for p in prompts)


TestCutting = Cutting.TestCase


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
