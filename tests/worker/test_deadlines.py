"""Prompts with a deadline, end to end: real workers, the emulator, a clock of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.clock import FileClock
from gemqueue.states import Kind
from tests.proofs import deadlines
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

POLICY: dict[str, Any] = {"deadline_policy": "standard", "deadline_margin_s": 5.0, "interactive_per_min_max": 6000}


def services(found: dict[str, dict[str, Any]]) -> list[str]:
    """How each was bought, sorted."""
    return sorted({outcome.get("service", "batch") for outcome in found.values()})


async def test_what_a_batch_cannot_make_goes_to_flex_at_once(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Without a history, a deadline within a day is asked for by Flex, at half price, and never put into a batch."""
    async with Processes(tmp_path, valkey, queue_name, POLICY) as world:
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(25)], segment_prompts=10, deadline_s=7200)
        await world.drained()
        found = await world.judge()
        assert services(found) == ["flex"]
        counts, ledger = await world.store.counts(), world.emulator.ledger()
        assert (counts["diverted"], counts["answered"], counts.get("created", 0)) == (25, 25, 0)
        assert (ledger["interactive"]["calls"], ledger["rows_bought"]) == (25, 0)


async def test_without_a_policy_a_deadline_orders_and_no_more(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """By default a prompt stays in the batch lane whatever its deadline."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        world.start_worker()
        await world.submit(["a", "b"], deadline_s=1)
        await world.drained()
        assert services(await world.judge()) == ["batch"]
        assert world.emulator.ledger()["interactive"]["calls"] == 0


async def test_a_batch_that_dawdles_is_outrun(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """Prompts of a job that runs past the last moment for Flex are asked for one by one, and it is cancelled."""
    policy = POLICY | {"flex_lead_s": 3600.0, "standard_lead_s": 60.0}
    clock = tmp_path / "clock"
    env = {"GEMQUEUE_TEST_CLOCK": f"file://{clock}"}
    async with Processes(
        tmp_path, valkey, queue_name, policy, clock=FileClock(clock), emulator_env=env, job_s=30 * 3600
    ) as world:
        world.start_worker(**env)
        await world.submit([f"prompt {n}" for n in range(25)], segment_prompts=10, deadline_s=25 * 3600)
        await until(lambda: submitted(world, 25), what="submitted")
        clock.write_text(str(23.9 * 3600))
        await until(lambda: submitted(world, 25), what="still there")
        assert (await world.store.counts()).get("rescued", 0) == 0
        clock.write_text(str(24.01 * 3600))
        await world.drained()
        found = await world.judge()
        assert services(found) == ["flex"]
        counts = await world.store.counts()
        assert (counts["rescued"], counts["answered"]) == (25, 25)
        assert counts["ended_cancelled"] == counts["created"]


async def test_flex_that_refuses_is_followed_by_standard(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """503 and 429 of Flex are tried again until only the standard tier can make it; that is asked for at its price."""
    policy = POLICY | {"flex_lead_s": 20.0, "standard_lead_s": 3.0}
    async with Processes(tmp_path, valkey, queue_name, policy) as world:
        world.emulator.faults([{"on": "generate", "do": "503"}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(8)], deadline_s=6)
        end_ms = world.store.clock.now_ms() + 6000

        async def moved_on() -> bool:
            lanes = {lane.lane: lane for lane in await world.store.lanes()}
            return any(lane.service == "standard" for lane in lanes)

        await until(moved_on, what="standard")
        world.emulator.faults([])
        await world.drained()
        assert world.store.clock.now_ms() < end_ms
        found = await world.judge()
        assert services(found) == ["standard"]


async def test_what_no_service_knows_goes_back_to_the_batch(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A prompt that Flex refuses for good is not failed for it: the batch lane has the last word."""
    async with Processes(tmp_path, valkey, queue_name, POLICY | {"deadline_policy": "flex"}) as world:
        world.emulator.faults([{"on": "generate", "do": "400"}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(8)], deadline_s=3600)
        await world.drained()
        assert services(await world.judge()) == ["batch"]


async def test_lost_replies_are_asked_for_again_and_counted(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A call whose reply is lost may have been paid for: it is made again, and counted as in doubt."""
    async with Processes(tmp_path, valkey, queue_name, POLICY) as world:
        world.emulator.faults([{"on": "generate", "do": "lost_after", "nth": [1, 2]}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(8)], deadline_s=3600)
        await world.drained()
        assert services(await world.judge()) == ["flex"]
        assert (await world.store.counts())["interactive_in_doubt"] == 2
        assert world.emulator.ledger()["interactive"]["calls"] == 10


async def test_embeddings_have_no_flex(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """An embedding that a batch cannot make is asked for at the standard price, where the policy allows it."""
    async with Processes(tmp_path, valkey, queue_name, POLICY) as world:
        world.start_worker()
        await world.submit(["a", "b"], kind=Kind.EMBED, deadline_s=3600)
        await world.drained()
        assert services(await world.judge()) == ["standard"]


async def test_a_day_of_deadlines(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Jobs that stall and a Flex that refuses: every prompt is in time, for hardly more than the least possible.

    The short form of ``python -m tests.deadlines``.
    """
    report = await deadlines.run(tmp_path, valkey, waves=1)
    assert report.in_time == report.with_deadline == 100
    assert report.ratio < 1.25
    assert {"batch", "flex"} <= {lane for lane, cost in report.lanes.items() if cost["answers"]}


async def submitted(world: Processes, prompts: int) -> bool:
    """Whether so many prompts are at the provider."""
    return (await world.store.counts()).get("submitted", 0) == prompts


async def test_want_of_money_sends_nothing_to_a_dearer_way(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A Flex call that is refused for want of money is made again after a pause; the standard tier costs money, too."""
    policy = POLICY | {"backoff_max_s": 0.1, "quota_backoff_s": 0.1}
    async with Processes(tmp_path, valkey, queue_name, policy) as world:
        world.emulator.faults([{"on": "generate", "do": "spend_cap", "nth": [1]}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(4)], deadline_s=3600)
        await world.drained()
        assert services(await world.judge()) == ["flex"]
        counts = await world.store.counts()
        assert (counts["spend_refused"], counts["answered"], counts.get("failed", 0)) == (1, 4, 0)
        assert not [lane.lane for lane in await world.store.lanes() if lane.lane.service == "standard"]
