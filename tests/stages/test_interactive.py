"""Calls at interactive services that get no reply: each may be billed, and no prompt is asked for without end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.errors import StaleFence
from gemqueue.language.lines import cancelled_line
from gemqueue.policy.doubts import PROBE_FIRST_S, RETRY_S
from gemqueue.records import Lane
from gemqueue.states import Cause, Step
from gemqueue.store import codec
from tests.worlds.processes import until
from tests.worlds.stages import ACCOUNT, LANE, Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue.records import Batch
    from tests.emulator_process import EmulatorProcess
    from tests.valkey_server import ValkeyServer

FLEX = str(Lane.parse(LANE).of("flex"))
LOST = [{"on": "generate", "do": "lost_after"}]
HOURS_MS = 10 * 3600 * 1000


@pytest.fixture
async def flex(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    """Stages whose prompts go straight into the Flex lane, and are asked for one after the other."""
    policy: dict[str, Any] = {"deadline_policy": "flex", "interactive_per_min_max": 60_000, "interactive_calls_max": 1}
    async with open_stages(valkey.url, queue_name, emulator, **policy) as made:
        made.lane = FLEX
        yield made


async def with_deadline(stages: Stages, *texts: str) -> str:
    """Prompts that came from the batch lane; their segment."""
    return await stages.submit(*texts, deadline_at=stages.clock.now_ms() + HOURS_MS)


async def resolve(stages: Stages, batch: str) -> bool:
    """The batch's resolve step, whose waits are over at once; whether it was due."""
    step = asyncio.create_task(stages.step(Step.RESOLVE, batch))

    async def done() -> bool:
        stages.clock.advance(0)
        return step.done()

    await until(done)
    return await step


async def ended(stages: Stages) -> str:
    """A batch of what waits in the Flex lane, also of what waits a while, ready to be asked for."""
    stages.clock.advance(50)
    batch = await stages.submitted()
    assert (await record_of(stages, batch)).lane == Lane.parse(FLEX)
    return batch


async def asked(stages: Stages) -> str:
    """The same, asked for."""
    batch = await ended(stages)
    assert await resolve(stages, batch)
    return batch


async def record_of(stages: Stages, batch: str) -> Batch:
    found = await stages.store.batch(batch)
    assert found is not None
    return found


def calls(stages: Stages) -> int:
    """How many calls were answered and billed."""
    n: int = stages.emulator.ledger()["interactive"]["calls"]
    return n


async def by_batch(stages: Stages) -> int:
    """Have the batch lane do its work; how many rows were bought there."""
    stages.lane = LANE
    stages.emulator.faults([])
    await stages.drain()
    rows: int = stages.emulator.ledger()["rows_bought"]
    return rows


async def test_two_lost_replies_and_the_batch_has_it(flex: Stages) -> None:
    """A prompt whose replies are lost is billed for two calls and one row of a batch, and each is counted."""
    flex.emulator.faults(LOST)
    await with_deadline(flex, "one")
    await asked(flex)
    await asked(flex)
    assert await by_batch(flex) == 1
    assert calls(flex) == 2
    assert await flex.count("interactive_in_doubt") == 2
    assert await flex.count("bought_again") == 2
    assert await flex.count("answered") == 1


async def test_calls_of_a_worker_that_dies_are_in_doubt(flex: Stages) -> None:
    """Two workers that die in a prompt's call have made two calls: it goes to its batch, and is asked for no more."""
    segment = await with_deadline(flex, "one", "two")
    batch = await ended(flex)
    for calls_made in (1, 2):
        taken = await flex.store.claim(Step.RESOLVE, batch, ACCOUNT)
        assert taken is not None
        assert not (await flex.store.ask(taken[0], f"{segment}.0", calls_made, again=calls_made > 1)).settled
        flex.clock.advance(flex.settings.lease_s + 1)
    assert await resolve(flex, batch)
    assert calls(flex) == 1  # the other prompt's
    assert await by_batch(flex) == 1
    assert await flex.count("answered") == 2
    assert await flex.count("bought_again") == 2


async def test_a_lost_reply_and_a_dead_worker_are_two(flex: Stages) -> None:
    """A doubt goes with a prompt into its next batch, where a worker that dies adds the second one."""
    segment = await with_deadline(flex, "one")
    flex.emulator.faults(LOST)
    await asked(flex)
    batch = await ended(flex)
    (retry,) = await flex.store.manifest(batch)
    (meta,) = await flex.store.segment_metas([retry])
    assert meta is not None
    assert (meta.doubts, meta.keys) == (1, (f"{segment}.0",))
    taken = await flex.store.claim(Step.RESOLVE, batch, ACCOUNT)
    assert taken is not None
    await flex.store.ask(taken[0], f"{segment}.0", 1, again=True)
    flex.clock.advance(flex.settings.lease_s + 1)
    assert await resolve(flex, batch)
    assert await by_batch(flex) == 1
    assert calls(flex) == 1


async def test_what_no_batch_may_have_is_tried_hourly_and_fails_in_the_end(flex: Stages) -> None:
    """Without a deadline the caller asked for Flex: two calls, four more an hour apart, then it fails as in doubt."""
    flex.emulator.faults(LOST)
    segment = await flex.submit("one")
    await asked(flex)
    batch = await asked(flex)
    for made in (2, 3, 4, 5):
        record = await record_of(flex, batch)
        assert (record.held_cause, record.v) == (Cause.DOUBT, 3)
        assert f"{made} calls to flex for one prompt got no reply" in record.held_reason
        assert calls(flex) == made
        flex.clock.advance(RETRY_S - 60)
        assert not await resolve(flex, batch)
        flex.clock.advance(61)
        assert await resolve(flex, batch)
    assert calls(flex) == 6
    assert await flex.store.batch(batch) is None or (await record_of(flex, batch)).state == "closed"
    (blob,) = await flex.store.redis.lrange(flex.store.key("outcomes", segment), 0, -1)
    assert f'{{"key":"{segment}.0","failure":{{"kind":"doubt"'.encode() in codec.expand(blob)
    assert await flex.count("failed") == 1
    assert await flex.count("interactive_in_doubt") == 6
    assert await by_batch(flex) == 0


async def test_a_lane_without_replies_stops_and_probes(flex: Stages) -> None:
    """After five lost replies in a row the rest go to their batch unasked; a minute later one call is tried."""
    flex.emulator.faults(LOST)
    await with_deadline(flex, *"abcdefgh")
    await asked(flex)
    assert calls(flex) == 5
    assert await flex.count("requeued") == 8
    flex.clock.advance(PROBE_FIRST_S)
    await asked(flex)  # those of the five lost calls: one is tried, the others are not
    assert calls(flex) == 6
    flex.emulator.faults([])
    await with_deadline(flex, "i")
    await asked(flex)
    assert calls(flex) == 6
    flex.clock.advance(2 * PROBE_FIRST_S)
    await with_deadline(flex, "j", "k")
    await asked(flex)
    assert calls(flex) == 8
    assert await by_batch(flex) == 9
    assert await flex.count("answered") == 11


async def test_what_no_batch_may_have_waits_for_its_lane(flex: Stages) -> None:
    """Prompts of a silent lane that no batch may have stay where they are, held since then, and are asked for later."""
    flex.emulator.faults(LOST)
    await with_deadline(flex, *"abcde")
    await asked(flex)
    flex.emulator.faults([])
    await flex.submit("one", "two")
    batch = await flex.submitted()
    assert await resolve(flex, batch)
    record = await record_of(flex, batch)
    assert record.held_reason.startswith("doubt: calls to flex get no replies since")
    assert record.held_cause == Cause.DOUBT
    assert record.held_since > 0
    assert calls(flex) == 5
    flex.clock.advance(PROBE_FIRST_S)
    assert await resolve(flex, batch)
    assert calls(flex) == 7
    await by_batch(flex)


async def test_a_refusal_is_no_doubt(flex: Stages) -> None:
    """A call that the service refuses has billed nothing, and ends the silence of its lane."""
    flex.emulator.faults([{"on": "generate", "do": "503"}])
    await with_deadline(flex, "one")
    batch = await asked(flex)
    assert await flex.store.asked(batch) == {}
    flex.emulator.faults([{"on": "generate", "do": "lost_after", "nth": [1]}])
    await asked(flex)
    lost = await flex.store.redis.hmget(flex.store.key("lane", FLEX), "lost_calls", "probe_at")
    assert lost == [b"1", None]
    await asked(flex)
    assert await flex.store.redis.hget(flex.store.key("lane", FLEX), "lost_calls") is None
    assert calls(flex) == 2
    assert await by_batch(flex) == 0


async def test_what_has_its_outcome_is_not_asked_for(flex: Stages) -> None:
    """A prompt that is cancelled while its call waits for leave costs nothing."""
    segment = await with_deadline(flex, "one", "two", "three")
    batch = await ended(flex)
    pace, until_ms = flex.store.key("pace", ACCOUNT, "flex"), flex.clock.now_ms() + 5000
    await flex.store.redis.set(pace, until_ms, ex=60)
    step = asyncio.create_task(flex.step(Step.RESOLVE, batch))

    async def waits() -> bool:
        return float(await flex.store.redis.get(pace)) > until_ms

    await until(waits)
    for index in (0, 2):
        await flex.store.cancel(segment, index, codec.compress(cancelled_line(f"{segment}.{index}")))

    async def done() -> bool:
        flex.clock.advance(1)
        return step.done()

    await until(done)
    assert calls(flex) == 1
    assert await flex.count("answered") == 1


async def test_who_was_overtaken_asks_for_nothing(flex: Stages) -> None:
    """A worker whose lease ran out gets no leave for a call, and says nothing of one that it made."""
    segment = await with_deadline(flex, "one")
    batch = await ended(flex)
    late = await flex.store.claim(Step.RESOLVE, batch, ACCOUNT)
    assert late is not None
    flex.clock.advance(flex.settings.lease_s + 1)
    assert await resolve(flex, batch)
    with pytest.raises(StaleFence):
        await flex.store.ask(late[0], f"{segment}.0", 1, again=False)
