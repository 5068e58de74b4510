"""Workers as processes: roles, signals, accounts, and the loss of everything that arq knows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.clock import FileClock
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from tests.worlds.processes import ROOT, Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


@pytest.fixture
async def world(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> Processes:
    """A world that the test enters."""
    return Processes(tmp_path, valkey, queue_name)


async def test_roles_may_run_apart_and_double(world: Processes) -> None:
    """One process per role, two of some: the prompts are answered and bought once."""
    async with world:
        for role in ("pack", "submit", "submit", "track", "resolve", "resolve"):
            world.start_worker(role)
        await world.submit([f"prompt {n}" for n in range(300)], segment_prompts=20)
        await world.drained()
        await world.judge()


async def test_steps_follow_each_other_without_the_sweep(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """With a process per role and a sweep once an hour, prompts still go through: by the bell and the due times."""
    async with Processes(tmp_path, valkey, queue_name, {"sweep_s": 3600.0}) as world:
        for role in ("pack", "submit", "track", "resolve"):
            world.start_worker(role)
        await until(lambda: _are_listening(world, 4), what="four workers listen")
        await world.submit([f"prompt {n}" for n in range(100)], segment_prompts=20)
        await world.drained()
        await world.judge()


async def _are_listening(world: Processes, count: int) -> bool:
    channel = world.store.key("bell", "emulated.local")
    (_, listeners), *_ = await world.store.redis.pubsub_numsub(channel)
    return bool(listeners == count)


async def test_sigterm_lets_steps_end_and_exits_cleanly(world: Processes) -> None:
    """SIGTERM ends a worker with exit code 0, its heartbeat goes, and the work is finished by the next one."""
    async with world:
        worker = world.start_worker()
        await world.submit([f"prompt {n}" for n in range(200)], segment_prompts=20)

        async def beating() -> bool:
            return bool(await world.store.workers())

        await until(beating, what="heartbeat")
        assert worker.stop() == 0
        assert await world.store.workers() == []
        world.start_worker()
        await world.drained()
        await world.judge()


async def test_arqs_own_command_runs_the_roles(world: Processes) -> None:
    """``arq gemqueue_workers.settings.<Role>Settings`` runs each role, and the prompts are answered."""
    async with world:
        path = os.pathsep.join([str(ROOT), str(ROOT / "workers"), str(ROOT / "adapters")])
        env = os.environ | {"PYTHONPATH": path} | world.env()
        names = ("PackSettings", "SubmitSettings", "TrackSettings", "ResolveSettings")
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "arq", f"gemqueue_workers.settings.{name}"],
                env=env,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        try:
            await world.submit(["one", "two"])
            await world.drained()
            await world.judge()
        finally:
            for process in processes:
                process.terminate()
            codes = [process.wait(20) for process in processes]
        assert codes == [0, 0, 0, 0]


async def test_losing_every_key_of_arq_costs_seconds(world: Processes) -> None:
    """``DEL arq:*`` at any time loses nothing: the due index is the truth."""
    async with world:
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(100)], segment_prompts=5)
        redis: Any = world.store.redis

        async def finished_while_arq_forgets() -> bool:
            keys = await redis.keys("arq:*") + await redis.keys(f"gq:{world.settings.queue}:*")
            if keys:
                await redis.delete(*keys)
            return await world.finished()

        await until(finished_while_arq_forgets, 60, "finished")
        await world.drained()
        await world.judge()


async def test_two_virtual_days_pass_in_a_moment(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """Under the test clock a job PENDING for 48 h expires at once for everybody, and its prompts are bought anew."""
    clock = tmp_path / "clock"
    env = {"GEMQUEUE_TEST_CLOCK": f"file://{clock}"}
    world = Processes(tmp_path, valkey, queue_name, clock=FileClock(clock), emulator_env=env)
    async with world:
        world.emulator.faults([{"on": "job", "do": "pending", "seconds": 1e6, "nth": [1]}])
        world.start_worker(**env)
        await world.submit([f"prompt {n}" for n in range(10)])

        async def submitted() -> bool:
            return (await world.store.counts()).get("submitted", 0) == 10

        await until(submitted, what="submitted")
        world.emulator.advance(49 * 3600)
        await world.drained()
        found = await world.judge()
        assert all("response" in outcome for outcome in found.values())
        assert (await world.store.counts())["ended_expired"] == 1


async def test_a_refused_key_holds_the_batch_with_the_reason(world: Processes) -> None:
    """A key without permission delays and says so; nothing fails, and it goes on when the key works."""
    async with world:
        world.emulator.faults([{"on": "upload_start", "do": "403", "times": 4, "message": "API key lacks permission."}])
        world.start_worker()
        await world.submit(["one"])
        reasons: set[str] = set()

        async def held_then_finished() -> bool:
            batches = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
            reasons.update(batch.held_reason for batch in batches if batch is not None and batch.held_reason)
            return await world.finished()

        await until(held_then_finished, what="finished")
        assert any("account (upload)" in reason and "lacks permission" in reason for reason in reasons)
        await world.drained()
        assert all("response" in outcome for outcome in (await world.judge()).values())


async def test_a_worker_of_a_real_account_takes_nothing_from_an_emulator(world: Processes) -> None:
    """A worker that was not told to emulate refuses an emulator before any prompt has left: nothing is bought."""
    async with world:
        real = msgspec.structs.replace(world.settings, emulate=False, account="prod")
        world.settings = real
        lane = str(Lane("127.0.0.1.prod", "gemini-3.8-flash", Kind.GENERATE))
        await _submit_to(world, lane)
        env = {"GEMQUEUE_EMULATE": "", "GEMQUEUE_ACCOUNT": "prod", "GOOGLE_API_KEY": "key-of-a-test"}
        world.start_worker(**env)

        async def held() -> bool:
            batches = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
            return any(batch is not None and "emulator" in batch.held_reason for batch in batches)

        await until(held, what="held with the reason")
        assert world.emulator.ledger()["rows_bought"] == 0
        assert not any(request["path"].startswith("/upload") for request in world.emulator.requests())
        assert (await world.store.counts()).get("answered", 0) == 0


async def test_an_emulated_worker_never_touches_prompts_of_a_real_account(world: Processes) -> None:
    """Prompts of a real account stay where they are while an emulated worker serves its own lanes of the same queue."""
    async with world:
        real = str(Lane("generativelanguage.googleapis.com.prod", "gemini-3.8-flash", Kind.GENERATE))
        await _submit_to(world, real)
        world.start_worker()
        await world.submit(["emulated prompt"])

        async def answered() -> bool:
            return (await world.store.counts()).get("answered", 0) == 1

        await until(answered, what="the emulated prompt's answer")
        lanes = {lane.lane: lane.prompts for lane in await world.store.lanes()}
        assert lanes[Lane.parse(real)] == 1
        assert await world.store.overdue("generativelanguage.googleapis.com.prod", tuple(Step)) != []


async def _submit_to(world: Processes, lane: str) -> None:
    id_ = new_segment_id()
    body = line(f"{id_}.0", generate_request("a real prompt"))
    segment = SegmentWrite(
        id=id_, lane=lane, producer=new_producer_id(), count=1, raw_bytes=len(body), tokens=len(body) // 4
    )
    await world.store.enqueue(segment, codec.compress(body))


async def test_a_step_that_fails_is_put_back_for_later_and_logs_no_prompt(world: Processes) -> None:
    """A defect in a step neither spins nor shows prompt text; the step is tried again and succeeds once it can."""
    async with world:
        await world.submit(["a secret prompt"])
        tenants = world.store.key("tenants", str(Lane("emulated.local", "gemini-3.8-flash", Kind.GENERATE)))
        redis: Any = world.store.redis
        await redis.rename(tenants, f"{tenants}:aside")
        await redis.set(tenants, "of the wrong type")
        world.start_worker()
        log = world.folder / "workers.log"

        async def failed() -> bool:
            return log.exists() and "step.failed" in log.read_text()

        await until(failed, what="a failed step")
        await redis.rename(f"{tenants}:aside", tenants)
        await world.drained()
        await world.judge()
        text = log.read_text()
        assert "a secret prompt" not in text
        assert text.count("step.failed") < 20
