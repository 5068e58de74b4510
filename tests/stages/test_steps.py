"""What becomes of a step whose handler finds that the records have moved on under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.ids import rescue_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.policy.deadlines import Service
from gemqueue.records import Lane
from gemqueue.states import Step
from gemqueue.store import bitmap, codec
from gemqueue.store.deadlines import RescueSegment
from tests.worlds.stages import ACCOUNT, LANE, Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from gemqueue.provider import JobStatus


async def outrun(stages: Stages, segment: str, batch: str) -> None:
    """The rescuer takes the segment's first prompt out of its batch."""
    taken = await stages.store.claim(Step.RESCUE, LANE, ACCOUNT)
    assert taken is not None
    body = line(f"{segment}.0", generate_request("one"))
    flex = str(Lane.parse(LANE).of(Service.FLEX))
    rescued = RescueSegment(
        id=rescue_segment_id(batch, taken[0].fence, 0), lane=Lane.parse(flex), tenant="default", priority=0, count=1,
        raw_bytes=len(body), tokens=1, attempt=0, deadline_at=stages.clock.now_ms() + 10**6, keys=[(segment, [0])],
        segment=segment, lines=bitmap.of([0], 1), batch=batch,
    )  # fmt: skip
    await stages.store.rescue(taken[0], rescued, codec.compress(body))
    await stages.store.defer(taken[0], {}, 0.0)


async def test_a_step_that_meets_what_has_moved_on_is_tried_again_at_once(
    redis_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A rescue between a resolver's look and its requeue costs another reading, no lease, and counts as no crash."""
    emulator = start_emulator(tmp_path / "e")
    try:
        async with open_stages(redis_url, queue_name, emulator, deadline_policy="flex") as stages:
            segment = await stages.submit("[[fault:internal:1]]", "two", deadline_at=stages.clock.now_ms() + 10**7)
            first = await stages.store.claim(Step.RESCUE, LANE, ACCOUNT)
            assert first is not None
            await stages.store.defer(first[0], {segment: stages.clock.now_ms() + 60_000}, 0.0)
            stages.clock.advance(30)
            batch = await stages.submitted()
            stages.jobs_end()
            await stages.step(Step.TRACK, batch)
            results = stages.provider.results

            async def results_later(status: JobStatus) -> AsyncGenerator[list[bytes], None]:
                await outrun(stages, segment, batch)
                async for lines in results(status):
                    yield lines

            stages.provider.results = results_later  # type: ignore[method-assign]
            assert await stages.step(Step.RESOLVE, batch)
            stages.provider.results = results  # type: ignore[method-assign]
            record = await stages.store.batch(batch)
            assert record is not None
            assert (record.state, record.crashes, record.held_reason) == ("ended", 0, "")
            assert await stages.step(Step.RESOLVE, batch)
            assert await stages.store.open_batches() == []
            assert await stages.count("rescued") == 1
            assert await stages.count("requeued") == 0
    finally:
        emulator.kill()


@pytest.mark.parametrize("confirmed", [False, True])
async def test_results_stay_until_a_replica_has_what_they_brought(
    redis_url: str, queue_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confirmed: bool
) -> None:
    """Where no replica confirms that the batch is closed, its results stay: after a failover they are read again."""
    deleted: list[str] = []

    async def word_of_a_replica(_batch: str) -> bool:
        return confirmed

    async def delete_file(file: str) -> bool:
        deleted.append(file)
        return True

    emulator = start_emulator(tmp_path / "e")
    try:
        async with open_stages(redis_url, queue_name, emulator, delete_files="ended") as stages:
            await stages.submit("one")
            batch = await stages.submitted()
            stages.jobs_end()
            await stages.step(Step.TRACK, batch)
            record = await stages.store.batch(batch)
            assert record is not None
            monkeypatch.setattr(stages.store, "confirm_closed", word_of_a_replica)
            monkeypatch.setattr(stages.provider, "delete_file", delete_file)
            await stages.step(Step.RESOLVE, batch)
            assert (record.output_file in deleted) == confirmed
            assert await stages.count("answered") == 1
    finally:
        emulator.stop()
