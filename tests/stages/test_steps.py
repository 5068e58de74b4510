"""What becomes of a step whose handler finds that the records have moved on under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.ids import rescue_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.policy.deadlines import Service
from gemqueue.records import Lane
from gemqueue.states import Step
from gemqueue.store import bitmap, codec
from gemqueue.store.deadlines import RescueSegment
from tests.worlds.stages import ACCOUNT, LANE, Shop, shop, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from gemqueue.provider import JobStatus


async def outrun(made: Shop, segment: str, batch: str) -> None:
    """The rescuer takes the segment's first prompt out of its batch."""
    taken = await made.store.claim(Step.RESCUE, LANE, ACCOUNT)
    assert taken is not None
    body = line(f"{segment}.0", generate_request("one"))
    flex = str(Lane.parse(LANE).of(Service.FLEX))
    rescued = RescueSegment(
        id=rescue_segment_id(batch, taken[0].fence, 0), lane=Lane.parse(flex), tenant="default", priority=0, count=1,
        raw_bytes=len(body), tokens=1, attempt=0, deadline_at=made.clock.now_ms() + 10**6, keys=[(segment, [0])],
        segment=segment, lines=bitmap.of([0], 1), batch=batch,
    )  # fmt: skip
    await made.store.rescue(taken[0], rescued, codec.compress(body))
    await made.store.defer(taken[0], {}, 0.0)


async def test_a_step_that_meets_what_has_moved_on_is_tried_again_at_once(
    redis_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A rescue between a resolver's look and its requeue costs another reading, no lease, and counts as no crash."""
    emulator = start_emulator(tmp_path / "e")
    try:
        async with shop(redis_url, queue_name, emulator, deadline_policy="flex") as made:
            segment = await made.submit("[[fault:internal:1]]", "two", deadline_at=made.clock.now_ms() + 10**7)
            first = await made.store.claim(Step.RESCUE, LANE, ACCOUNT)
            assert first is not None
            await made.store.defer(first[0], {segment: made.clock.now_ms() + 60_000}, 0.0)
            made.clock.advance(30)
            batch = await made.submitted()
            made.jobs_end()
            await made.step(Step.TRACK, batch)
            results = made.provider.results

            async def results_later(status: JobStatus) -> AsyncGenerator[list[bytes], None]:
                await outrun(made, segment, batch)
                async for lines in results(status):
                    yield lines

            made.provider.results = results_later  # type: ignore[method-assign]
            assert await made.step(Step.RESOLVE, batch)
            made.provider.results = results  # type: ignore[method-assign]
            record = await made.store.batch(batch)
            assert record is not None
            assert (record.state, record.crashes, record.held_reason) == ("ended", 0, "")
            assert await made.step(Step.RESOLVE, batch)
            assert await made.store.open_batches() == []
            assert await made.count("rescued") == 1
            assert await made.count("requeued") == 0
    finally:
        emulator.kill()
