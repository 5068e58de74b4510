"""Steps without arq: slots, what follows when one is free, ends, and workers as processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.states import Step
from gemqueue_workers.settings import ROLES
from gemqueue_workers.worker.own_loop import OwnLoop
from gemqueue_workers.worker.sweeper import Sweeper
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import Processes, until
from tests.worlds.stages import ACCOUNT, open_stages, start_emulator

if TYPE_CHECKING:
    from pathlib import Path


class Steps:
    """Steps that run until they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.rooms = 0
        self.gate = asyncio.Event()

    async def run(self, _step: Step, id_: str) -> None:
        """Wait for the gate."""
        self.begun.append(id_)
        await self.gate.wait()
        self.ended.append(id_)

    def on_room(self) -> None:
        """A slot is free that was asked for."""
        self.rooms += 1


async def test_slots_are_filled_and_no_step_runs_twice() -> None:
    """No more than ``steps_max`` run, none twice at once, and who was refused is told when a slot is free."""
    steps = Steps()
    loop = OwnLoop(steps.run, 2, steps.on_room)
    asked = [loop.begin(Step.TRACK, id_) for id_ in ("a", "a", "b", "c")]
    assert asked == [True, False, True, False]
    steps.gate.set()

    async def ended() -> bool:
        return steps.ended == ["a", "b"]

    await until(ended, what="both have ended")
    assert (steps.begun, steps.rooms) == (["a", "b"], 1)
    assert loop.begin(Step.TRACK, "a")
    await loop.drain(60)
    assert (steps.ended, steps.rooms) == (["a", "b", "a"], 1)


async def test_a_drain_begins_nothing_and_cancels_what_does_not_end() -> None:
    """What runs may end within ``drain_s``; what does not is cancelled, and nothing follows it."""
    steps = Steps()
    loop = OwnLoop(steps.run, 2, steps.on_room)
    assert loop.begin(Step.PACK, "stuck")
    await asyncio.sleep(0)
    await loop.drain(0)
    assert not loop.begin(Step.PACK, "late")
    assert (steps.begun, steps.ended, steps.rooms) == (["stuck"], [], 0)


async def test_steps_that_nobody_can_claim_hold_no_slot(valkey: ValkeyServer, queue_name: str, tmp_path: Path) -> None:
    """Each overdue step is tried once in ``sweep_s``: those at the front let the others through, and nothing spins."""
    emulator = start_emulator(tmp_path)
    async with open_stages(valkey.url, queue_name, emulator) as stages:
        tried: list[str] = []

        async def unclaimed(_: Step, id_: str) -> None:
            tried.append(id_)

        kit = msgspec.structs.replace(stages.kit, settings=msgspec.structs.replace(stages.settings, steps_max=2))
        sweeper = Sweeper(kit, None, "", ROLES, unclaimed)
        await stages.store.redis.zadd(stages.store.key("due", ACCOUNT), {f"track {n}": n + 1 for n in range(5)})
        for _ in range(4):
            await sweeper.sweep()
            await asyncio.sleep(0)
        assert tried == ["0", "1", "2", "3", "4"]
        stages.clock.advance(stages.settings.sweep_s)
        await sweeper.sweep()
        await sweeper.drain()
        assert tried[5:] == ["0", "1"]
    emulator.kill()


async def test_two_workers_without_arq_answer_everything_once(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Two processes share the due index: nothing is bought twice, arq has no key, and SIGTERM ends them with 0."""
    async with Processes(tmp_path, valkey, queue_name, {"steps_max": 3}) as world:
        workers = [world.start_worker("--companion") for _ in range(2)]

        async def both_beat() -> bool:
            return len(await world.store.workers()) == 2

        await until(both_beat, what="two heartbeats")
        await world.submit([f"prompt {n}" for n in range(200)], segment_prompts=5)
        await world.drained()
        await world.judge()
        redis: Any = world.store.redis
        assert await redis.keys(f"gq:{queue_name}:*") == []
        assert [worker.stop() for worker in workers] == [0, 0]
        assert await world.store.workers() == []


async def test_a_worker_without_arq_outlives_its_server(tmp_path: Path, queue_name: str) -> None:
    """The server is killed and comes back, and the same process goes on with what is due."""
    with ValkeyServer() as valkey:
        async with Processes(tmp_path, valkey, queue_name) as world:
            worker = world.start_worker("--companion")
            await world.submit(["before"])
            await world.drained()
            valkey.kill()
            valkey.start()
            await world.submit(["after"])
            await world.drained()
            await world.judge()
            assert worker.stop() == 0
