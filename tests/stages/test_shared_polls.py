"""What a page of the provider's list that cannot be had costs those who wait for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gemqueue.states import BatchState, Step
from gemqueue_workers.stages import shared_polls
from tests.worlds.lying import KINDS, LyingTransport
from tests.worlds.stages import Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import pytest

JOBS = shared_polls.SHARED_FROM + 4


@asynccontextmanager
async def open_jobs(url: str, queue: str, folder: Path) -> AsyncGenerator[tuple[Stages, list[str]]]:
    """Stages with many jobs under way, all of which are due for a look."""
    emulator = start_emulator(folder)
    try:
        async with open_stages(url, queue, emulator) as stages:
            batches: list[str] = []
            for n in range(JOBS):
                await stages.submit(f"prompt {n}")
                batches.append(await stages.submitted())
            stages.clock.advance(1000)
            yield stages, batches
    finally:
        emulator.kill()


async def looked(stages: Stages, batches: list[str]) -> tuple[int, int]:
    """All of them are looked at, at the same time: how many lists and how many GETs by name that took."""
    before = len(stages.emulator.requests())
    assert all(await asyncio.gather(*[stages.step(Step.TRACK, batch) for batch in batches]))
    log = [each for each in stages.emulator.requests()[before:] if each["method"] == "GET"]
    lists = sum(each["path"].endswith("/batches") for each in log)
    for batch in batches:
        record = await stages.store.batch(batch)
        assert record is not None
        assert (record.held_reason, record.tries) == ("", 0)
        assert record.polls > 0
    return lists, sum("/batches/" in each["path"] for each in log)


async def test_a_page_that_fails_is_asked_for_once(redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """One refused list serves all who wait: each looks by name, none is held, and the next page comes after a pause."""
    async with open_jobs(redis_url, queue_name, tmp_path / "e") as (stages, batches):
        stages.emulator.faults([{"on": "list", "do": "503"}])
        assert await looked(stages, batches) == (1, JOBS)
        stages.emulator.faults([])
        stages.clock.advance(stages.settings.poll_max_s)
        assert await looked(stages, batches) == (1, 0)


async def test_an_end_is_not_believed_of_a_page(redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """A page that shows every job as failed ends none of them: each is looked at by name, and runs."""
    async with open_jobs(redis_url, queue_name, tmp_path / "e") as (stages, batches):
        lying = LyingTransport.before(stages.provider, stages.clock.monotonic)
        lying.tell("list:1", KINDS["list"]["failed"], 60.0)
        assert await looked(stages, batches) == (1, JOBS)
        assert lying.told == 1
        records = [await stages.store.batch(batch) for batch in batches]
        assert {record.state for record in records if record is not None} == {BatchState.SUBMITTED}


async def test_young_jobs_are_looked_at_by_name(redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """A page stands for a twentieth of a job's age; while that is no second nobody else comes in time for it."""
    emulator = start_emulator(tmp_path / "e")
    try:
        async with open_stages(redis_url, queue_name, emulator, poll_first_s=1.0) as stages:
            batches: list[str] = []
            for n in range(JOBS):
                await stages.submit(f"prompt {n}")
                batches.append(await stages.submitted())
            stages.clock.advance(3)
            assert await looked(stages, batches) == (0, JOBS)
    finally:
        emulator.kill()


async def test_a_page_that_hangs_holds_nobody_up(
    redis_url: str, queue_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who wait for a list that trickles look by name after the same short while, together and not in turn."""
    monkeypatch.setattr(shared_polls, "PAGE_S_MAX", 0.3)
    async with open_jobs(redis_url, queue_name, tmp_path / "e") as (stages, batches):
        stages.emulator.faults([{"on": "list", "do": "slow", "bytes_per_s": 1}])
        async with asyncio.timeout(60):
            assert await looked(stages, batches) == (1, JOBS)
