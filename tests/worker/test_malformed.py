"""Malformed records of every kind at once, with a real worker and the commands as processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from gemqueue.ids import new_batch_id
from gemqueue.states import Step
from gemqueue.store.runs import RunEntry, RunStore, pack_entry
from gemqueue_workers.settings import ROLES, worker_queue
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.cli.command import gemqueue
from tests.stages.broken.test_unreadable import KINDS
from tests.worlds.processes import Processes, until
from tests.worlds.stages import ACCOUNT, LANE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

COMMANDS = [
    ("status", "--json"), ("status",), ("admin", "batches", "--json"), ("admin", "metrics"), ("doctor", "--json"),
    ("belief", "show", "--json"), ("admin", "dead", "list", "--json"), ("admin", "dead", "replay", "--all", "--json"),
    ("admin", "reconcile", "--json"), ("show", "a-run", "--json"), ("cancel", "--run", "a-run", "--json"),
]  # fmt: skip
PURGE = ("admin", "purge", "--run", "a-run", "--json")
NAMING = {("status", "--json"), ("status",), ("admin", "batches", "--json"), ("doctor", "--json"), COMMANDS[4]}
"""These look at open batches, and so name the one that cannot be read."""


async def break_all(world: Processes, batch: str, segment: str) -> None:
    """One record of every kind, each in the first of its ways."""
    for kind, (_, ways) in KINDS.items():
        del kind
        for name, key, *words in next(iter(ways.values())):
            said = [_said(word, batch, segment) for word in (world.store.key(key), *words)]
            await world.store.redis.execute_command(name, *said)


def _said(word: Any, batch: str, segment: str) -> Any:
    return word if isinstance(word, bytes) else str(word).replace("BATCH", batch).replace("SEGMENT", segment)


async def sealed(world: Processes, *texts: str) -> tuple[str, str]:
    """A batch of these prompts that nobody has submitted, and its segment."""
    (key, *_) = await world.submit(texts)
    taken: list[Any] = []

    async def claimed() -> bool:
        taken[:] = await world.store.claim(Step.PACK, LANE, ACCOUNT) or []
        return bool(taken)

    await until(claimed, what="a claim")
    batch = new_batch_id()
    assert (await world.store.pack(taken[0], batch, {}))[0] == "sealed"
    await world.store.rest(taken[0])
    return batch, key.partition(".")[0]


async def broken_run(world: Processes) -> None:
    """A run with an entry that can be read, and one that cannot."""
    store = RunStore(world.settings.redis_url, world.settings)
    entry = pack_entry(RunEntry("00" + "f" * 20, ["k"], b"12345678"))
    await store.open_run(ACCOUNT, "a-run", "{}", "{}", [entry, b"junk"])
    await store.aclose()


async def junk_jobs(world: Processes) -> None:
    """Jobs in arq's queue that are no jobs, and one that is not there."""
    pool = make_arq_client(world.settings.redis_url, worker_queue(world.settings, ROLES))
    for name, value in (("junk", b"\xff\xfe"), ("pickle", b"\x80\x04N."), ("gone", b"")):
        if value:
            await pool.psetex(f"arq:job:{name}", 600_000, value)
        await pool.zadd(worker_queue(world.settings, ROLES), {name: 1})
    await pool.aclose()
    await cast("Any", pool.connection_pool).disconnect()


async def test_a_worker_and_every_command_go_on(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """What is whole is answered; each broken record is said once, without a traceback; every command ends well."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        batch, segment = await sealed(world, "never", "answered")
        await break_all(world, batch, segment)
        await broken_run(world)
        await junk_jobs(world)
        keys = await world.submit(["one", "two", "three"])
        world.start_worker()

        async def answered() -> bool:
            return set(keys) <= set(await world.outcomes())

        await until(answered, what="the others' answers")
        swept = await world.store.server_now_ms()
        await until(partial(_swept_since, world, swept + 3_000), what="more sweeps")
        log = (world.folder / "workers.log").read_text()
        said = [line for line in log.splitlines() if "record.unreadable" in line]
        assert f"batch {batch}" in log
        assert len(said) == len(set(said)) < len(KINDS)
        assert "Traceback" not in log, log[-5000:]
        env = {name: value for name, value in world.env().items() if name != "GEMQUEUE_DATA_DIR"}
        for command in (*COMMANDS, PURGE):
            ended = gemqueue(*command, **env)
            words = ended.stdout + ended.stderr
            assert "defect" not in words, (command, words)
            assert "Traceback" not in words, (command, words)
            assert ended.returncode in {0, 1 if command[0] == "doctor" else 0}, (command, words)
            if command in NAMING:
                assert f"batch {batch}" in words, (command, words)


async def _swept_since(world: Processes, since_ms: int) -> bool:
    return any(worker.last_good_sweep_at > since_ms for worker in await world.store.workers())
