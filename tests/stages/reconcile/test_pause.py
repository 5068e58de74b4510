"""After a server lost its last writes nothing goes on before the jobs have been compared; else nobody is held."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from gemqueue_workers.worker.recovery import Recovery
from tests.stages.reconcile.past import all_answered_once, goes_on, lose, noticed
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import Processes, until
from tests.worlds.stages import ACCOUNT, open_stages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess
    from tests.stages.reconcile.past import Past
    from tests.worlds.stages import Stages


async def test_the_pause_waits_for_creates_in_flight(stages: Stages, lossy: Past) -> None:
    """A create that was sent before the server went may still show up: before ``settle_s`` nothing is lifted."""
    await stages.submit("one")
    lossy.save()
    await lose(stages, lossy)
    await noticed(stages)
    recovery = Recovery(stages.kit)
    looking = asyncio.create_task(recovery.check())

    async def waits() -> bool:
        return stages.clock.sleepers == 1

    await until(waits, what="waiting out settle_s")
    stages.clock.advance(stages.settings.settle_s - 61)
    assert stages.clock.sleepers == 1
    stages.clock.advance(2)
    assert await looking
    stages.clock.advance(55)
    assert await recovery.check()
    assert not await stages.step(Step.PACK)
    stages.clock.advance(6)
    assert not await recovery.check()
    await all_answered_once(stages)


async def test_a_server_that_forgot_the_beginning_is_watched_again(stages: Stages) -> None:
    """The account's own record is lost as well: a heartbeat makes it anew, and a later change is noticed."""
    await stages.submit("one")
    batch = await stages.sealed()
    old = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert old is not None
    server = stages.store.key("server", ACCOUNT)
    await stages.store.redis.unlink(server)
    assert not await stages.store.beat("w", "pack", ACCOUNT)
    found = await stages.store.server(ACCOUNT)
    assert (bool(found.home), bool(found.run_id), found.held_reason) == (True, True, "")
    stages.clock.advance(stages.settings.lease_s + 1)
    new = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert new is not None
    assert (new[0].home, new[0].fence > old[0].fence + 1_000_000) == (found.home, True)
    await stages.store.release(new[0], 0.0)
    await stages.store.redis.hset(server, "run_id", "another")
    assert await stages.store.beat("w", "pack", ACCOUNT)
    await stages.store.redis.hset(server, "run_id", found.run_id)
    await stages.drain()


async def test_no_fence_is_given_twice(stages: Stages, lossy: Past) -> None:
    """A holder from before the loss is stale after it, even where the server forgot that it ever was one."""
    await stages.submit("one")
    batch = await stages.sealed()
    lossy.save()
    old = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert old is not None
    await lose(stages, lossy)
    await noticed(stages)
    await stages.store.resume(ACCOUNT, (await stages.store.server(ACCOUNT)).noticed)
    new = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert new is not None
    assert new[0].fence > old[0].fence + 1_000_000
    assert (await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)) is None
    await stages.store.release(new[0], 0.0)
    await all_answered_once(stages)


async def test_a_server_that_writes_through_is_not_held(emulator: EmulatorProcess) -> None:
    """Started again it has lost nothing that anybody was told: a worker goes on at once, and asks nobody."""
    with ValkeyServer() as server:
        async with open_stages(server.url, "tlossless", emulator) as stages:
            assert not (await stages.store.greet(ACCOUNT))[1]
            await stages.submit("one")
            server.kill()
            server.start()
            await stages.reconnect()
            assert not await stages.step(Step.PACK)  # noticed, in the very script
            assert await stages.store.beat("w", "pack", ACCOUNT)
            before = len(emulator.requests())
            assert not await goes_on(stages)
            assert len(emulator.requests()) == before
            await all_answered_once(stages)


@pytest.mark.parametrize(
    "extra", [("--appendfsync", "everysec"), ("--appendfsync", "no"), ("--no-appendfsync-on-rewrite", "yes")]
)
async def test_a_server_that_may_lose_a_write_is_held(extra: tuple[str, str], emulator: EmulatorProcess) -> None:
    """Unless every write is on the disk before its answer, a server that was started again is compared first."""
    with ValkeyServer(extra=extra) as server:
        async with open_stages(server.url, "tlossy", emulator) as stages:
            assert not (await stages.store.greet(ACCOUNT))[1]
            server.kill()
            server.start()
            await stages.reconnect()
            assert await stages.store.beat("w", "pack", ACCOUNT)
            assert (await stages.store.greet(ACCOUNT))[1]


async def test_a_promoted_replica_is_held(emulator: EmulatorProcess) -> None:
    """However it writes to its disk, a replica may not have had everything: the provider's jobs are compared first."""
    with ValkeyServer(extra=("--repl-diskless-sync-delay", "0")) as master, ValkeyServer() as replica:
        port = free_port()
        async with open_stages(master.url, "tpromoted", emulator) as stages:
            await stages.store.redis.config_set("port", port)
            assert not (await stages.store.greet(ACCOUNT))[1]
            await stages.submit("one")
            async with open_stages(replica.url, "tpromoted", emulator) as after:
                await after.store.redis.execute_command("REPLICAOF", "127.0.0.1", port)
                assert await stages.store.redis.wait(1, 25_000) == 1
                await after.store.redis.execute_command("REPLICAOF", "NO", "ONE")
                after.clock.advance(5)
                assert (await after.store.greet(ACCOUNT))[1]
                assert not await after.step(Step.PACK)
                after.clock.advance(after.settings.settle_s)
                assert not await goes_on(after)
                after.keys += stages.keys
                await all_answered_once(after)


async def test_workers_do_it_by_themselves(lossy: Past, tmp_path: Path, queue_name: str) -> None:
    """Workers on a server that is thrown back under them hold, compare, adopt and go on; nothing is bought twice."""
    async with Processes(tmp_path, lossy.server, queue_name, job_s=2.0) as world:
        await world.submit([f"prompt {n}" for n in range(20)], segment_prompts=4)
        await world.store.greet(ACCOUNT)  # as the first worker did, long ago
        await asyncio.to_thread(lossy.save)
        world.start_worker()

        async def created() -> bool:
            return (await world.store.counts()).get("created", 0) > 0

        await until(created, what="a job")
        await asyncio.to_thread(lossy.come_back)
        await world.drained()
        await world.judge()
        counts = await world.store.counts()
        assert (counts["server_changes"], counts["reconciled"]) == (1, 1)
        assert counts["adopted"] >= 1
