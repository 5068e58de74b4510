"""Deadlines: what a caller may say, which way a prompt goes, and the transitions that carry it there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import StaleFence, WrongState
from gemqueue.ids import rescue_segment_id
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store.batches import JobEnd
from gemqueue.store.deadlines import RescueSegment
from tests.policy.test_deadlines import NOW
from tests.worlds.bench import ACCOUNT, LANE, Bench, body, landing, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


FLEX = str(Lane(ACCOUNT, "m", Kind.GENERATE, "flex"))
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def bench(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    """A store whose deadlines are watched."""
    here = Bench(redis_url, queue_name, deadline_policy="standard", keep_outcome_s=100_000.0)
    yield here
    await here.store.aclose()


def rescued(id_: str, segment: str, batch: str, lines: bytes, indices: list[int]) -> RescueSegment:
    """Lines of a segment on their way to Flex."""
    return RescueSegment(
        id=id_, lane=Lane.parse(FLEX), tenant="default", priority=0, count=len(indices), raw_bytes=10, tokens=1,
        attempt=0,
        deadline_at=NOW + 10**7, keys=[(segment, indices)], segment=segment, lines=lines, batch=batch,
    )  # fmt: skip


async def looked_at(bench: Bench, count: int) -> str:
    """A segment with a deadline that the rescue step has looked at, and left where it is until later."""
    segment = await bench.enqueue(count, deadline_at=NOW + 10**7)
    await bench.store.defer(await bench.claim(Step.RESCUE), {segment: NOW + 10**6}, 0.0)
    return segment


async def test_waiting_prompts_go_over_as_they_are(bench: Bench) -> None:
    """A segment is diverted once, from wherever it waits; its lane is empty then, and the other packs it at once."""
    watched = await bench.enqueue(4, deadline_at=NOW + 10**7)
    plain = await bench.enqueue(2)
    claim = await bench.claim(Step.RESCUE)
    assert await bench.store.watched(Lane.parse(LANE), bench.clock.now_ms(), 10) == [watched]
    assert await bench.store.divert(claim, watched, Lane.parse(FLEX)) == 4
    assert await bench.store.divert(claim, plain, Lane.parse(FLEX)) == 2
    assert await bench.store.divert(claim, plain, Lane.parse(FLEX)) is None
    await bench.store.defer(claim, {}, 0.0)
    lanes = {lane.lane: lane.prompts for lane in await bench.store.lanes()}
    assert lanes[Lane.parse(LANE)] == 0
    assert await bench.store.watched(Lane.parse(LANE), bench.clock.now_ms(), 10) == []
    assert [member for member, _ in await bench.store.overdue(ACCOUNT, tuple(Step))] == [f"pack {FLEX}"]


async def test_packed_prompts_are_copied_out_of_their_batch(bench: Bench) -> None:
    """Lines leave their batch once; it closes without them, and whoever answers first answers for both."""
    segment = await looked_at(bench, 3)
    batch = await bench.submitted()
    bench.advance(2000)
    claim = await bench.claim(Step.RESCUE)
    out = rescued(rescue_segment_id(batch, claim.fence, 0), segment, batch, b"\xa0", [0, 2])
    await bench.store.rescue(claim, out, body(2))
    await bench.store.rescue(claim, out, body(2))  # asked again
    with pytest.raises(WrongState):
        await bench.store.rescue(claim, rescued("00other", segment, batch, b"\x80", [0]), body(1))
    with pytest.raises(WrongState):
        await bench.store.rescue(claim, rescued("00other", segment, "00bnone", b"\x40", [1]), body(1))
    await bench.store.defer(claim, {}, 0.0)
    assert (await bench.store.counts())["rescued"] == 2

    track = await bench.claim(Step.TRACK, batch)
    await bench.store.end(track, JobEnd(job_state="succeeded"))
    resolve = await bench.claim(Step.RESOLVE, batch)
    await bench.store.settle(resolve, [landing(segment, [1])])
    assert await bench.close(resolve) == ("closed", [])
    lane = await bench.claim(Step.PACK, FLEX)
    flex = await bench.pack_one(lane)
    await bench.store.rest(lane)
    submit = await bench.claim(Step.SUBMIT, flex)
    await bench.store.end(submit, JobEnd(job_state="interactive"))
    resolve = await bench.claim(Step.RESOLVE, flex)
    assert await bench.store.count_doubt(resolve, 1, 5) == 5
    assert await bench.store.count_doubt(resolve, 1, 5) == 0
    await bench.store.settle(resolve, [landing(segment, [0, 2])])
    assert await bench.close(resolve) == ("closed", [])


async def test_what_its_batch_has_closed_is_not_rescued(bench: Bench) -> None:
    """A rescuer that read a segment before its line went on into a retry and the batch closed copies it no more."""
    segment = await looked_at(bench, 2)
    resolve = await bench.ended()
    bench.advance(2000)
    claim = await bench.claim(Step.RESCUE)
    await bench.store.settle(resolve, [landing(segment, [1])])
    await bench.store.requeue(resolve, retry("00retry", segment, [0]), body(1))
    assert await bench.close(resolve) == ("closed", [])
    with pytest.raises(WrongState):
        await bench.store.rescue(claim, rescued("00other", segment, resolve.id, b"\x80", [0]), body(1))
    assert not await bench.store.redis.exists(bench.store.key("moved", segment))
    await bench.store.defer(claim, {}, 0.0)
    resolve = await bench.ended()
    await bench.store.settle(resolve, [landing(segment, [0])])
    assert await bench.close(resolve) == ("closed", [])


async def test_the_last_outcome_ends_the_watch(bench: Bench) -> None:
    """When nothing is left to watch over, the rescue step leaves the due index, whoever settled the last prompt."""
    segment = await looked_at(bench, 1)
    await bench.closed([segment], 1)
    assert await bench.store.redis.exists(bench.store.key("deadlines", LANE)) == 0
    bench.advance(10**5)
    assert await bench.store.overdue(ACCOUNT, (Step.RESCUE,)) == []


async def test_a_stale_rescuer_changes_nothing(bench: Bench) -> None:
    """Whoever lost the rescue step to somebody else can neither divert nor defer."""
    segment = await bench.enqueue(1, deadline_at=NOW + 10**7)
    stale = await bench.claim(Step.RESCUE)
    bench.advance(bench.settings.lease_s + 1)
    claim = await bench.claim(Step.RESCUE)
    with pytest.raises(StaleFence):
        await bench.store.divert(stale, segment, Lane.parse(FLEX))
    with pytest.raises(StaleFence):
        await bench.store.defer(stale, {segment: 0}, 0.0)
    await bench.store.defer(claim, {segment: 0}, 0.0)
    await bench.closed([segment], 1)


async def test_who_is_wanted_first_is_packed_first(bench: Bench) -> None:
    """Within a priority the earliest deadline goes first; a prompt without one counts as wanted in a day."""
    by_hour = await bench.enqueue(1, deadline_at=NOW + 3_600_000)
    plain = await bench.enqueue(1)
    by_minute = await bench.enqueue(1, deadline_at=NOW + 60_000)
    by_week = await bench.enqueue(1, deadline_at=NOW + 7 * 86_400_000)
    urgent = await bench.enqueue(1, priority=1)
    claim = await bench.claim(Step.RESCUE)
    looked = dict.fromkeys((by_hour, by_minute, by_week), NOW + 10**9)
    await bench.store.defer(claim, looked, 0.0)
    bench.advance(10)
    batch = await bench.sealed()
    assert await bench.store.manifest(batch) == [urgent, by_minute, by_hour, plain, by_week]


async def test_a_segment_is_not_packed_before_its_first_look(bench: Bench) -> None:
    """The packer gives the rescuer one chance to look first, and goes on without it if nobody does."""
    segment = await bench.enqueue(1, deadline_at=NOW + 3_600_000)
    claim = await bench.claim(Step.PACK)
    assert await bench.pack_one(claim) == ""
    await bench.store.rest(claim)
    bench.advance(10)
    assert await bench.store.manifest(await bench.sealed()) == [segment]


async def test_the_pace_is_kept_by_all(bench: Bench) -> None:
    """Permits are spaced evenly for one account and service, after a second's worth at once."""
    waits = [await bench.store.permit_s(ACCOUNT, "flex") for _ in range(25)]
    assert waits[:5] == [0.0] * 5
    assert [round(later - earlier, 3) for earlier, later in itertools.pairwise(waits[10:])] == [0.2] * 14
    assert await bench.store.permit_s(ACCOUNT, "standard") == 0.0
    bench.advance(60)
    assert await bench.store.permit_s(ACCOUNT, "flex") == 0.0
