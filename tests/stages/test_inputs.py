"""Input files at the provider, with the real stages: they go when their job has ended; what if one is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.inputs import MISSES_MAX
from gemqueue.records import Lane
from gemqueue.states import BatchState, Step
from gemqueue_workers.manage.status import INPUT_NEEDED, read_status
from tests.valkey_server import ValkeyServer
from tests.worlds.stages import ACCOUNT, JOB_S, open_stages

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess
    from tests.worlds.stages import Stages

RUNS_AT_S = JOB_S / 2
NEEDS = [{"on": "job", "do": f"needs_input_{when}"} for when in ("pending", "running")]


async def files(stages: Stages) -> list[str]:
    """The input files that the account stores."""
    return [stored.file async for page in stages.provider.files() for stored in page if not stored.generated]


async def running(stages: Stages, batch: str) -> None:
    """The job is seen running."""
    for clock in (stages.clock, stages.emulator):
        clock.advance(RUNS_AT_S)
    await stages.store.hasten(Step.TRACK, batch, ACCOUNT)
    assert await stages.step(Step.TRACK, batch)


async def answered(stages: Stages) -> None:
    """Everything is answered, and bought once."""
    await stages.drain()
    counts = await stages.store.counts()
    assert (counts["answered"], counts.get("failed", 0), counts.get("returned", 0)) == (len(stages.keys), 0, 0)
    assert stages.emulator.ledger()["bought_twice"] == []
    assert stages.emulator.ledger()["rows_bought"] == len(stages.keys)


@pytest.mark.parametrize(("chosen", "stored"), [("ended", (1, 0)), ("running", (0, 0)), ("never", (1, 1))])
async def test_when_an_input_file_goes(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess, chosen: str, stored: tuple[int, int]
) -> None:
    """When its job has ended; where that is chosen as soon as it runs, or not at all."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files=chosen) as stages:
        await stages.submit("one", "two")
        await running(stages, await stages.submitted())
        before = len(await files(stages))
        await answered(stages)
        assert (before, len(await files(stages))) == stored


@pytest.mark.parametrize("chosen", ["ended", "never"])
async def test_a_job_that_needs_its_input_has_it(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess, chosen: str
) -> None:
    """By default no assumption is needed: nothing is missed where the provider needs the file to the end."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files=chosen) as stages:
        emulator.faults(NEEDS)
        await stages.submit("one", "two")
        await running(stages, await stages.submitted())
        await answered(stages)
        assert (await stages.count("created"), await stages.count("inputs_missed")) == (1, 0)


async def test_a_job_that_misses_its_input_is_replaced(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """It costs no attempt and no requeue; its next file is kept, and those of all the account's jobs from then on."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files="running", requeues_max=1) as stages:
        emulator.faults(NEEDS)
        await stages.submit("one", "two")
        batch = await stages.submitted()
        await running(stages, batch)
        stages.clock.advance(60)
        assert await stages.step(Step.TRACK, batch)
        record = await stages.store.batch(batch)
        assert record is not None
        assert (record.state, record.seen_what, record.held_cause) == (BatchState.SUBMITTED, "file_gone", "doubt")
        stages.clock.advance(61)
        assert await stages.step(Step.TRACK, batch)
        record = await stages.store.batch(batch)
        assert record is not None
        assert (record.state, record.inputs_missed, record.held_reason[:7]) == (BatchState.SEALED, 1, "input: ")
        assert await stages.count("bought_again") == len(stages.keys)
        assert await stages.step(Step.SUBMIT, batch)
        await running(stages, batch)
        assert len(await files(stages)) == 1
        await answered(stages)
        await stages.submit("three")
        await running(stages, await stages.submitted())
        assert len(await files(stages)) == 1
        await answered(stages)
        assert (await stages.count("created"), await stages.count("inputs_missed")) == (3, 1)
        assert (await stages.store.lane(Lane.parse(stages.lane))).ceiling == 0
        assert await files(stages) == []
        status = await read_status(stages.settings)
        assert (status.input_needed, status.counts["inputs_missed"], "delete_files" in INPUT_NEEDED) == (
            [ACCOUNT],
            1,
            True,
        )


async def test_a_create_in_doubt_is_fenced_all_the_same(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """Its job is adopted though it failed because the fence deleted its file; two looks later it is replaced."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files="ended") as stages:
        emulator.faults([*NEEDS, {"on": "create", "do": "lost_after", "nth": [1]}])
        await stages.submit("one", "two")
        batch = await stages.submitted()
        record = await stages.store.batch(batch)
        assert record is not None
        assert record.fenced_at > 0
        await answered(stages)
        assert (await stages.count("adopted"), await stages.count("created"), await stages.count("inputs_missed")) == (
            1,
            1,
            1,
        )
        assert list(await stages.store.input_needed([ACCOUNT])) == [ACCOUNT]
        assert await stages.count("bought_twice") == 0


async def test_a_full_server_does_not_stop_a_replacement(queue_name: str, emulator: EmulatorProcess) -> None:
    """What missed its input, in doubt or not, is begun anew at ``maxmemory`` too: what is under way frees memory."""
    with ValkeyServer() as server:
        async with open_stages(server.url, queue_name, emulator, delete_files="running") as stages:
            emulator.faults([*NEEDS, {"on": "create", "do": "lost_after", "nth": [1]}])
            await stages.submit("one", "two")
            await stages.submitted()
            await stages.store.redis.config_set("maxmemory", 1)
            await answered(stages)
            assert await stages.count("inputs_missed") >= 1


async def test_an_adopted_job_may_miss_its_input(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """One that was adopted and fails only then for want of the file is replaced like any other."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files="ended", settle_s=21.0) as stages:
        emulator.faults(
            [
                {"on": "create", "do": "lost_after", "nth": [1]},
                {"on": "job", "do": "failed", "code": 5, "message": "Requested entity was not found.", "nth": [1]},
            ]
        )
        await stages.submit("one", "two")
        batch = await stages.submitted()
        stages.clock.advance(22)
        assert await stages.step(Step.SUBMIT, batch)
        assert await stages.count("adopted") == 1
        await answered(stages)
        assert (await stages.count("created"), await stages.count("inputs_missed")) == (1, 1)
        assert list(await stages.store.input_needed([ACCOUNT])) == [ACCOUNT]


async def test_a_provider_that_always_says_so_fails_the_prompts(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """After a few jobs it is a failure like any other, charged and told with its reason: nothing loops for ever."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files="ended", requeues_max=0) as stages:
        emulator.faults([{"on": "job", "do": "failed", "code": 5, "message": "Requested entity was not found."}])
        await stages.submit("one", "two")
        await stages.drain()
        counts = await stages.store.counts()
        assert (counts["failed"], counts["inputs_missed"], counts["created"]) == (2, MISSES_MAX, MISSES_MAX + 1)
        (letter, _) = [letter async for letter in stages.store.dead_letters()]
        assert "Requested entity was not found." in letter.message
        assert await stages.store.input_needed([ACCOUNT]) == {}
        assert await files(stages) == []


async def test_a_batch_waits_for_room_at_the_provider(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """What would pass the share of the project's storage is not uploaded before another job has ended, and says why."""
    async with open_stages(valkey.url, queue_name, emulator, delete_files="ended", stored_bytes_max=300) as stages:
        await stages.submit("one", "two")
        await stages.submitted()
        await stages.submit("three", "four")
        second = await stages.submitted()
        status = await read_status(stages.settings)
        (reason,) = (one.held_reason for one in status.batches if one.id == second)
        assert reason.startswith("bytes of stored input files (stored_bytes_max): 20")
        assert len(await files(stages)) == 1
        await answered(stages)
