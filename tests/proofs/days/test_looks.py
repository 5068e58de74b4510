"""How many requests the looks at jobs cost when many are open: one page of the list serves them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.states import BatchState
from gemqueue_workers.stages import shared_polls
from tests.proofs.days.day import Day, day

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

JOBS = 24


async def looks(made: Day) -> tuple[int, int]:
    """Open many jobs a few seconds apart, and follow them to their end: GETs of jobs, and lists."""
    for _ in range(JOBS):
        await made.submit("gemini-3.8-flash", 1, 40)
        await made.run(made.now_s + 7)
    await made.run(made.now_s + 60)
    before = len(made.stages.emulator.requests())
    await made.run(made.now_s + 3_900)
    assert not [batch for batch in await made.open() if batch.state is BatchState.SUBMITTED]
    log = made.stages.emulator.requests()[before:]
    gets = [each for each in log if each["method"] == "GET" and "/batches/" in each["path"]]
    lists = [each for each in log if each["method"] == "GET" and each["path"].endswith("/batches")]
    return len(gets), len(lists)


async def test_one_page_serves_many_looks(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 24 jobs of an hour open, sharing takes less than half of the requests, and every prompt is answered."""
    async with day(redis_url, tmp_path / "shared", {"linger_s": 1.0}, job_s=3_600.0, answers="echo") as made:
        gets, lists = await looks(made)
        assert (await made.stages.store.counts())["answered"] == JOBS
        await made.no_leaks()
    monkeypatch.setattr(shared_polls, "SHARED_FROM", JOBS + 1)
    async with day(redis_url, tmp_path / "alone", {"linger_s": 1.0}, job_s=3_600.0, answers="echo") as made:
        alone, none = await looks(made)
    assert none == 0
    print(f"{JOBS} jobs of an hour: {gets} GETs and {lists} lists; without sharing {alone} GETs")  # noqa: T201
    assert gets + lists < alone / 2, f"{gets} GETs and {lists} lists, against {alone} GETs"
