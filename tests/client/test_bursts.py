"""The tail of a burst does not linger, and everything smaller does."""

from __future__ import annotations

import asyncio

import pytest

from gemqueue.client.bursts import PAUSE_S, PROMPTS_MIN, Bursts
from gemqueue.errors import StoreUnavailable
from tests.worlds.answering import answering, connect, until

pytestmark = pytest.mark.usefixtures("no_leaks")
MODEL = "gemini-3.8-flash"


async def test_the_end_of_a_burst_is_packed_at_once(redis_url: str, queue_name: str) -> None:
    """A map of ten thousand prompts is answered though the lane is not full and would linger for ten minutes."""
    async with answering(redis_url, queue_name), connect(redis_url, queue_name, linger_s=600.0) as queue:
        async with asyncio.timeout(60):
            outcomes = await queue.map([f"{n}" for n in range(PROMPTS_MIN + 500)], model=MODEL)
        assert all(outcome.ok for outcome in outcomes)


async def test_hints_are_few() -> None:
    """A burst gives one hint when it pauses, another when it goes on, and a trickle after it none."""
    told: list[str] = []

    async def hasten(lane: str) -> None:
        told.append(lane)

    bursts = Bursts(hasten)
    bursts.acknowledged("lane", PROMPTS_MIN - 1)
    await asyncio.sleep(2 * PAUSE_S)
    assert told == []
    bursts.acknowledged("lane", 4 * PROMPTS_MIN)
    await until(lambda: len(told) == 1)
    for _ in range(5):
        bursts.acknowledged("lane", 1)
        await asyncio.sleep(2 * PAUSE_S)
    assert len(told) == 3
    await bursts.close()


async def test_a_hint_that_fails_harms_nobody() -> None:
    """A store that does not answer costs the hint; closing in the pause gives none."""
    tried = asyncio.Event()

    async def hasten(_: str) -> None:
        tried.set()
        raise StoreUnavailable("away")

    bursts = Bursts(hasten)
    bursts.acknowledged("lane", PROMPTS_MIN)
    await asyncio.wait_for(tried.wait(), 60)
    tried.clear()
    bursts.acknowledged("lane", PROMPTS_MIN)
    await bursts.close()
    await asyncio.sleep(2 * PAUSE_S)
    assert not tried.is_set()
