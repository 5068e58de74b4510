"""A worker's record: who it is, how it gets on, and what it waits for."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from gemqueue_workers.manage.status import read_status
from gemqueue_workers.settings import ROLES, worker_queue
from gemqueue_workers.worker.arq_client import make_arq_client
from gemqueue_workers.worker.sweeper import Sweeper
from tests.cli.command import gemqueue
from tests.worker.test_accounts import Hand, submit_to
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gemqueue.records import Worker
    from tests.valkey_server import ValkeyServer


async def seen(world: Processes, what: Callable[[Worker], bool]) -> Worker:
    """The one worker, once its record says so."""
    found: list[Worker] = []

    async def says() -> bool:
        found[:] = await world.store.workers()
        return len(found) == 1 and what(found[0])

    await until(says, what="the worker's record")
    return found[0]


async def _nothing(*_: object) -> None:
    """Run no step."""


async def test_a_process_says_who_it_is(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """Host, pid, roles, accounts and its last good sweep are in its record, in status and in doctor."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        process = world.start_worker("pack", "track")
        worker = await seen(world, lambda one: one.last_good_sweep_at > 0)
        assert (worker.host, worker.pid) == (socket.gethostname(), process.process.pid)
        assert (worker.roles, worker.accounts, worker.waiting_for) == (("pack", "track"), ("emulated.local",), "")
        assert worker.began_at <= worker.beat_at
        env = {name: value for name, value in world.env().items() if name != "GEMQUEUE_DATA_DIR"}
        (shown,) = json.loads(gemqueue("status", "--json", **env).stdout)["working"]
        assert (shown["id"], shown["pid"], shown["roles"], shown["stuck"]) == (
            worker.id, worker.pid, ["pack", "track"], False,
        )  # fmt: skip
        said = gemqueue("doctor", **env).stdout
        assert "no worker: none of emulated.local has the role submit" in said


async def test_sweeps_that_fail_are_seen(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """A worker that beats and cannot sweep says what it waits for, and its last good sweep stays where it was."""
    async with Processes(tmp_path, valkey, queue_name) as world, Hand(world, "emulated.a", "key-a") as hand:
        name = worker_queue(world.settings, ROLES)
        pool: Any = make_arq_client(valkey.url, name)
        sweeper = Sweeper(hand.kit, pool, name, ROLES, _nothing)
        sweeper.start()
        try:
            await seen(world, lambda one: one.last_good_sweep_at > 0 and not one.waiting_for)
            await pool.set(name, "not a sorted set")
            await submit_to(world, "emulated.a")
            broken = await seen(world, lambda one: one.waiting_for.startswith("server: "))
            later = await seen(world, lambda one: one.beat_at > broken.beat_at)
            assert later.last_good_sweep_at == broken.last_good_sweep_at
            (shown,) = (await read_status(world.settings)).working
            assert shown.waiting_for == broken.waiting_for
            await pool.delete(name)
            await seen(world, lambda one: one.last_good_sweep_at > broken.beat_at and not one.waiting_for)
        finally:
            await sweeper.stop()
            await pool.delete(name)
            await pool.connection_pool.disconnect()
        assert await world.store.workers() == []


async def test_a_refused_key_is_waited_for(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """The worker says that its key is refused, without the key, until a step of a batch goes well."""
    async with (
        Processes(tmp_path, valkey, queue_name) as world,
        Hand(world, "emulated.b", "invalid-key") as wrong,
        Hand(world, "emulated.b", "good-key") as right,
    ):
        await submit_to(world, "emulated.b")

        async def refused() -> bool:
            await wrong.work()
            return bool(wrong.kit.waits.text)

        await until(refused, what="a refusal")
        assert wrong.kit.waits.text.startswith("account (upload")
        assert "invalid-key" not in wrong.kit.waits.text
        right.kit.waits.step_failed(ValueError("a batch's own fault"))
        assert not right.kit.waits.text

        async def answered() -> bool:
            await right.work()
            return len(await world.outcomes()) == 3

        await until(answered, what="answers")
