"""The turnaround history: what it says of jobs that have ended, and of one that has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.turnaround import sample
from gemqueue.states import Step
from gemqueue.store.batches import JobEnd
from tests.worlds.bench import ACCOUNT, bench

if TYPE_CHECKING:
    from tests.worlds.bench import Bench


async def _end(made: Bench, seconds: float, count: int = 3) -> None:
    await made.enqueue(count)
    claim = await made.claim(Step.TRACK, await made.submitted())
    end = JobEnd(job_state="succeeded", sample=sample(count, seconds))
    await made.store.end(claim, end)
    await made.store.end(claim, end)  # asked again: counted once


async def test_the_store_learns_each_job_once(redis_url: str, queue_name: str) -> None:
    """``end`` records a job's turnaround once, however often it is asked for; an account and model of their own."""
    async with bench(redis_url, queue_name) as made:
        assert await made.store.turnaround(ACCOUNT, "m", 3) is None
        for seconds in (60, 70, 80):
            await _end(made, seconds)
        found = await made.store.turnaround(ACCOUNT, "m", 3)
        assert found is not None
        assert found.jobs == 3
        assert found.p50_s == pytest.approx(70, rel=0.2)
        assert list(await made.store.turnarounds(ACCOUNT, "m")) == ["1-9"]
        assert await made.store.turnaround(ACCOUNT, "other", 3) is None
        assert await made.store.turnaround("emulated.b", "m", 3) is None


async def test_the_history_stays_small(redis_url: str, queue_name: str) -> None:
    """After many jobs a size class stands for at most 200 of them, and the newest hundred decide."""
    async with bench(redis_url, queue_name) as made:
        for n in range(260):
            await _end(made, 60 if n < 150 else 6_000, 1)
        found = await made.store.turnaround(ACCOUNT, "m", 1)
        assert found is not None
        assert found.jobs <= 200
        assert found.p50_s == pytest.approx(6_000, rel=0.2)
        assert await made.store.redis.hlen(made.store.key("turnaround", ACCOUNT, "m")) == 1
