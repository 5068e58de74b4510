"""A job that nobody waits for any more is cancelled, and that is found without reading every batch again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.language.lines import cancelled_line
from gemqueue.policy.cancels import UNPLACED_S
from gemqueue.states import Step
from gemqueue.store import codec

if TYPE_CHECKING:
    from tests.worlds.stages import Stages

pytestmark = pytest.mark.usefixtures("no_leaks")


async def cancel(stages: Stages, segment: str, index: int) -> str:
    """Cancel one prompt; where it was."""
    return await stages.store.cancel(segment, index, codec.compress(cancelled_line(f"{segment}.{index}")))


async def poll(stages: Stages, batch: str) -> tuple[int, int]:
    """A poll of the job: when its batch was last read, and when the provider was asked to cancel it."""
    stages.clock.advance(stages.settings.poll_max_s)
    assert await stages.step(Step.TRACK, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    return record.looked_at, record.cancel_at


async def test_a_batch_is_read_for_its_own_cancels_alone(stages: Stages) -> None:
    """Two of three prompts cancelled: one reading; the third: the job is, too. Another batch is never read."""
    segment, running = await stages.submit("one", "two", "three"), await stages.submitted()
    await stages.submit("other")
    other = await stages.submitted()
    assert await poll(stages, running) == (0, 0)
    assert await cancel(stages, segment, 0) == "submitted"
    first, _ = await poll(stages, running)
    assert first > 0
    await cancel(stages, segment, 1)
    assert await poll(stages, running) == (first, 0)
    assert await poll(stages, other) == (0, 0)
    await cancel(stages, segment, 2)
    last, cancelled_at = await poll(stages, running)
    assert last == cancelled_at > first
    await stages.drain()
    assert stages.emulator.ledger()["rows_bought"] <= 4


async def test_what_an_older_client_cancels_is_found(stages: Stages) -> None:
    """It raises the queue's counter alone: the batch is read then, at most every ten minutes, and its job cancelled."""
    segment, running = await stages.submit("one", "two"), await stages.submitted()

    async def by_an_older_client(index: int) -> None:
        await cancel(stages, segment, index)
        await stages.store.redis.hdel(stages.store.key("batch", running), "cancels")
        await stages.store.redis.hincrby(stages.store.key("counts"), "cancels_placed", -1)

    await by_an_older_client(0)
    first, _ = await poll(stages, running)
    assert first > 0
    await by_an_older_client(1)
    seen, cancelled_at = [first], 0
    for _ in range(1 + int(UNPLACED_S / stages.settings.poll_max_s)):
        looked_at, cancelled_at = await poll(stages, running)
        seen.append(looked_at)
    assert seen[-1] == cancelled_at >= first + UNPLACED_S * 1000
    await stages.drain()
