"""Deadlines: what a caller may say, which way a prompt goes, and the transitions that carry it there."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import PromptInvalid, Queue
from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError, StaleFence, WrongState
from gemqueue.ids import rescue_segment_id
from gemqueue.policy.deadlines import (
    Next,
    Prospect,
    Service,
    Verdict,
    Where,
    after_failure,
    after_refusal,
    deadline_at_ms,
    judge,
    way_now,
    ways,
)
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store.batches import JobEnd
from gemqueue.store.deadlines import RescueSegment
from tests.worlds.answering import connect
from tests.worlds.bench import ACCOUNT, LANE, Bench, body, landing, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NOW = 1_800_000_000_000
FLEX = str(Lane(ACCOUNT, "m", Kind.GENERATE, "flex"))
SETTINGS = Settings(deadline_policy="standard")
BOTH = (Service.FLEX, Service.STANDARD)
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def bench(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    """A store whose deadlines are watched."""
    here = Bench(redis_url, queue_name, deadline_policy="standard", keep_outcome_s=100_000.0)
    yield here
    await here.store.aclose()


# --- what a caller may say ---


@pytest.mark.parametrize(
    "said",
    [3600, 3600.0, timedelta(hours=1), datetime.fromtimestamp(NOW / 1000 + 3600, UTC)],
)
def test_a_deadline_is_seconds_a_timedelta_or_a_time(said: object) -> None:
    """Every way of saying "in an hour" means the same time."""
    assert deadline_at_ms(said, NOW) == NOW + 3_600_000


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (0, "has passed"),
        (-5, "has passed"),
        (timedelta(seconds=-1), "has passed"),
        (float("nan"), "not within the next year"),
        (float("inf"), "not within the next year"),
        (1e12, "not within the next year"),
        (True, "must not be a bool"),
        ("tomorrow", "must not be a str"),
        (datetime(2030, 1, 1), "without a time zone"),  # noqa: DTZ001 - that is the point
        (datetime(1999, 1, 1, tzinfo=UTC), "has passed"),
    ],
)
def test_a_bad_deadline_is_refused_with_a_way_out(said: object, problem: str) -> None:
    """What cannot be meant is refused at the door, with what to give instead."""
    with pytest.raises(PromptInvalid, match=problem) as refused:
        deadline_at_ms(said, NOW)
    assert "time zone" in str(refused.value)


@given(st.floats(0.001, 10**7), st.integers(NOW, NOW + 10**6))
def test_a_deadline_is_never_in_the_past_nor_later_than_said(said_s: float, now_ms: int) -> None:
    """Cutting to the second, which lets prompts share segments, moves a deadline forward by less than a second."""
    at_ms = deadline_at_ms(said_s, now_ms)
    assert now_ms < at_ms <= now_ms + said_s * 1000 + 1
    assert at_ms > now_ms + said_s * 1000 - 1000


async def test_prompts_of_one_call_share_one_deadline(redis_url: str, queue_name: str) -> None:
    """A bulk call has one absolute deadline; a row may have its own, and a bad one costs only that row."""
    async with connect(redis_url, queue_name) as queue:
        futures = [await queue.submit(f"p{n}", model="m", deadline=3600) for n in range(3)]
        segments = {future.key.split(".")[0] for future in futures}
        found = await metas(queue, segments)
        assert {meta.deadline_at % 1000 for meta in found} == {0}
        with pytest.raises(PromptInvalid):
            await queue.submit("p", model="m", deadline="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(PromptInvalid, match="deadline"):
            await queue.map([{"contents": "x"}], model="m", deadline=-1)
        outcome = (await queue.map([{"contents": "x", "deadline": "never"}], model="m"))[0]
        assert not outcome.ok
        for future in futures:
            await future.cancel()


async def metas(queue: Queue, segments: set[str]) -> list[Any]:
    """What the store knows of the queue's segments."""
    return [meta for meta in await queue._store.segment_metas(sorted(segments)) if meta is not None]  # pyright: ignore[reportPrivateUsage]


# --- the decision ---


def prospect(slack_s: float, where: Where = Where.WAITING, batch_s: float | None = 600.0, ahead: int = 1) -> Prospect:
    """A segment whose deadline is so far away."""
    return Prospect(NOW + round(slack_s * 1000), NOW, where, batch_s, ahead)


@pytest.mark.parametrize(
    ("seen", "service"),
    [
        (prospect(3600 * 5), None),
        (prospect(3600 * 5, batch_s=None), Service.FLEX),
        (prospect(3600 * 25, batch_s=None), None),
        (prospect(3600 * 5, batch_s=3600 * 6.0), Service.FLEX),
        (prospect(100), Service.STANDARD),
        (prospect(3600 * 5, Where.UNDER_WAY, 3600 * 40.0), None),
        (prospect(1750, Where.UNDER_WAY), Service.FLEX),
        (prospect(150, Where.UNDER_WAY), Service.STANDARD),
        (prospect(1750, Where.ENDED), None),
        (prospect(150, Where.ENDED), Service.STANDARD),
        (prospect(-1), None),
        (prospect(1750, Where.UNDER_WAY, ahead=1_000_000), None),
    ],
)
def test_which_way_a_segment_goes(seen: Prospect, service: Service | None) -> None:
    """Waiting, it leaves once a batch cannot be expected to make it; packed, at the last moment; never in vain."""
    assert judge(seen, BOTH, SETTINGS).service == service


@given(
    st.floats(-10, 200_000),
    st.sampled_from(list(Where)),
    st.one_of(st.none(), st.floats(0, 200_000)),
    st.integers(0, 100_000),
    st.sampled_from([(), (Service.FLEX,), (Service.STANDARD,), BOTH]),
)
def test_a_verdict_sends_waits_or_gives_up_and_always_gets_on(
    slack_s: float, where: Where, batch_s: float | None, ahead: int, allowed: tuple[Service, ...]
) -> None:
    """A segment goes only where it may; one that waits is looked at later than now and before its deadline."""
    seen = prospect(slack_s, where, batch_s, ahead)
    verdict = judge(seen, allowed, SETTINGS)
    if verdict.service is not None:
        assert verdict.service in allowed
        assert seen.deadline_at > seen.now_ms
    elif verdict.again_at:
        assert seen.now_ms <= verdict.again_at
        if ahead * 60 / SETTINGS.interactive_per_min_max <= slack_s:
            assert verdict.again_at <= seen.deadline_at
    else:
        assert not allowed or slack_s <= 0.001


def test_a_policy_names_the_dearest_way() -> None:
    """Batch allows none, flex Flex, standard both; embeddings know no Flex."""
    assert [ways(policy, Kind.GENERATE) for policy in ("batch", "flex", "standard")] == [(), (Service.FLEX,), BOTH]
    assert [ways(policy, Kind.EMBED) for policy in ("flex", "standard")] == [(), (Service.STANDARD,)]
    assert judge(prospect(1), (), SETTINGS) == Verdict()
    assert way_now(1.0, (Service.FLEX,), SETTINGS) is Service.FLEX
    with pytest.raises(ConfigError, match="deadline_policy"):
        load_settings(env={}, deadline_policy="cheap")


def test_what_follows_a_call_without_an_answer() -> None:
    """Flex is tried again until only standard can make it; what is refused too often goes back to the batch lane."""
    here = Next("flex", 40.0)
    assert after_failure(here, 1000.0, 0, BOTH, 180.0) == here
    assert after_failure(here, 200.0, 0, BOTH, 180.0) == Next("flex", 20.0)
    assert after_failure(here, 180.0, 0, BOTH, 180.0) == Next("standard")
    assert after_failure(here, 10.0, 0, (Service.FLEX,), 180.0) == here
    assert after_failure(here, None, 0, BOTH, 180.0) == here
    assert after_failure(here, 1000.0, 30, BOTH, 180.0) == Next("batch")
    assert after_failure(Next("standard", 3.0), 1.0, 1, BOTH, 180.0) == Next("standard", 3.0)
    assert after_refusal("flex", BOTH) == Next("standard")
    assert after_refusal("flex", (Service.FLEX,)) == Next("batch")
    assert after_refusal("standard", BOTH) == Next("batch")


# --- the transitions ---


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
    await bench.store.settle(resolve, [landing(segment, [1])], {"answered": 1}, [])
    assert await bench.close(resolve) == ("closed", [])
    lane = await bench.claim(Step.PACK, FLEX)
    flex = await bench.pack_one(lane)
    await bench.store.rest(lane)
    submit = await bench.claim(Step.SUBMIT, flex)
    await bench.store.end(submit, JobEnd(job_state="interactive"))
    resolve = await bench.claim(Step.RESOLVE, flex)
    assert await bench.store.doubt(resolve, 1, 5) == 5
    assert await bench.store.doubt(resolve, 1, 5) == 0
    await bench.store.settle(resolve, [landing(segment, [0, 2])], {"answered": 2}, [])
    assert await bench.close(resolve) == ("closed", [])


async def test_what_its_batch_has_closed_is_not_rescued(bench: Bench) -> None:
    """A rescuer that read a segment before its line went on into a retry and the batch closed copies it no more."""
    segment = await looked_at(bench, 2)
    resolve = await bench.ended()
    bench.advance(2000)
    claim = await bench.claim(Step.RESCUE)
    await bench.store.settle(resolve, [landing(segment, [1])], {"answered": 1}, [])
    await bench.store.requeue(resolve, retry("00retry", segment, [0]), body(1))
    assert await bench.close(resolve) == ("closed", [])
    with pytest.raises(WrongState):
        await bench.store.rescue(claim, rescued("00other", segment, resolve.id, b"\x80", [0]), body(1))
    assert not await bench.store.redis.exists(bench.store.key("moved", segment))
    await bench.store.defer(claim, {}, 0.0)
    resolve = await bench.ended()
    await bench.store.settle(resolve, [landing(segment, [0])], {"answered": 1}, [])
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
