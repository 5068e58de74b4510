"""Workers and producers of an earlier version and of this one share one queue.

The versions are those below, where the clone has them; ``python -m tests.upgrades --old REF`` takes another.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue import Queue
from gemqueue.config import load_settings, unknown_env
from gemqueue.policy.workers import why_nobody
from gemqueue.states import Step
from tests.upgrades import asking
from tests.worlds.processes import ROOT, Processes, until

if TYPE_CHECKING:
    from tests.valkey_server import ValkeyServer

OLD_REFS = ("0.1.0", "201880f")
"""A tag, and the commit whose records are those of 0.2.0."""
OLD_ENTRY = "gemqueue_workers.cli"
JOBS = """
import json
from itertools import combinations
from arq.jobs import serialize_job
from gemqueue.config import Settings
from gemqueue.states import Step
from gemqueue_workers import settings

found = {}
for pool in ("", "shared"):
    given = Settings(redis_url="redis://localhost:1", queue="q", account="a", pool=pool)
    for roles in [each for n in range(1, len(Step) + 1) for each in combinations(Step, n)]:
        options = settings.worker_options(given, roles)
        jobs = [serialize_job(of.name, ("00b",), {}, None, 1, serializer=options["job_serializer"])
                for of in options["functions"]]
        found[f"{pool} {'+'.join(roles)}"] = [options["queue_name"], *(job.hex() for job in jobs)]
print(json.dumps(found))
"""
"""The arq queue of each set of roles, and a job there for each of its steps, as they are written."""
EMBEDDED = """
import json
from gemqueue.config import load_settings
try:
    from gemqueue.embedded.local import worker_env
except ModuleNotFoundError:
    from gemqueue.local import worker_env
given = load_settings(env={}, create_timeout_s=40, lease_s=100, settle_s=100, drain_s=50, linger_s=2)
print(json.dumps(worker_env(given, "redis://localhost:1")))
"""
"""The environment in which a producer with the embedded default starts its worker."""
WORKERS = """
import asyncio, json
from gemqueue.config import load_settings
try:
    from gemqueue.store.store import Store
except ModuleNotFoundError:
    from gemqueue.store import Store

async def main():
    settings = load_settings()
    store = Store(settings.redis_url, settings)
    print(json.dumps(await store.workers()))
    await store.aclose()

asyncio.run(main())
"""
"""The workers that a producer of the earlier version sees, by their ids."""


def old_tree(folder: Path, ref: str) -> Path | None:
    """The earlier version: where the environment says, else from this repository; None where there is neither."""
    if os.environ.get("UPGRADE_FROM"):
        return Path(os.environ["UPGRADE_FROM"])
    packed = subprocess.run(["git", "archive", ref], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


def path_of(old: Path) -> str:
    """Where an earlier version's packages are."""
    return os.pathsep.join([str(old), str(old / "workers"), str(old / "adapters")])


def lays_over(old: Path) -> bool:
    """Whether the earlier version lays a row's config over the call's, as this one does; 0.2.0 replaced it."""
    return any((old / "gemqueue").rglob("configs.py"))


async def said_by(path: str, script: str, **env: str) -> Any:
    """What a script prints as JSON where the packages are those on the path."""
    environ = {"PYTHONPATH": path, "GOOGLE_API_KEY": "not-a-key", "PATH": os.environ["PATH"]} | env
    command = [sys.executable, "-P", "-c", script]
    ended = await asyncio.to_thread(subprocess.run, command, env=environ, check=True, capture_output=True, cwd="/")
    return json.loads(ended.stdout)


async def ask_old(old: Path, world: Processes) -> dict[str, str]:
    """What becomes of the named prompts when a producer of the earlier version submits them."""
    command = [sys.executable, "-P", "-m", "tests.upgrades.asking", world.settings.redis_url, world.settings.queue]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([path_of(old), str(ROOT)])}
    ended = await asyncio.to_thread(subprocess.run, command, env=environ, check=True, capture_output=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("old_first", [True, False])
async def test_old_and_new_producers_share_names(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, *, old_first: bool
) -> None:
    """Whoever comes second joins; 0.2.0 is refused what a new one laid over. Nothing is bought twice."""
    (tmp_path / "old").mkdir()
    old = await asyncio.to_thread(old_tree, tmp_path / "old", OLD_REFS[-1])
    if old is None:
        return  # not in this clone: nothing to stand beside
    async with Processes(tmp_path, valkey, queue_name) as world, Queue.connect(settings=world.settings) as queue:
        world.start_worker()
        before = await ask_old(old, world) if old_first else await asking.outcomes(queue)
        after = await asking.outcomes(queue) if old_first else await ask_old(old, world)
        alone = not old_first and not lays_over(old)
        merged = {"row": "NameConflict", "row class": "NameConflict"} if alone else {}
        assert after == before | merged
        assert len(set(before.values())) == (await world.store.counts())["accepted"] == len(asking.NAMED)
        assert world.emulator.ledger()["bought_twice"] == []


async def test_old_and_new_workers_run_each_others_jobs(tmp_path: Path) -> None:
    """An arq job is the same, byte for byte and in the same queue, whichever version enqueues it."""
    old = await asyncio.to_thread(old_tree, tmp_path, OLD_REFS[-1])
    if old is None:
        return  # not in this clone: nothing to stand beside
    before, after = await said_by(path_of(old), JOBS), await said_by(path_of(ROOT), JOBS)
    assert before == after
    assert len(after) == 2 * (2**5 - 1)


async def test_a_worker_starts_from_an_older_producers_embedded_default(tmp_path: Path) -> None:
    """What an older producer hands on is read as it stands: nothing of it is unknown, and nothing is derived anew."""
    old = await asyncio.to_thread(old_tree, tmp_path, OLD_REFS[-1])
    if old is None:
        return  # not in this clone: nothing to stand beside
    handed = await said_by(path_of(old), EMBEDDED)
    assert unknown_env(handed) == []
    given: dict[str, Any] = {"create_timeout_s": 40, "lease_s": 100, "settle_s": 100, "drain_s": 50, "linger_s": 2}
    given |= {"skew_s": 300, "cancel_settle_s": 60, "durability": "local"}  # its defaults
    assert load_settings(env=handed) == load_settings(env={}, redis_url="redis://localhost:1", **given)


async def test_old_and_new_see_each_others_workers(valkey: ValkeyServer, queue_name: str, tmp_path: Path) -> None:
    """An older producer sees new workers with their roles; a new one counts an old worker for every account."""
    (tmp_path / "old").mkdir()
    old = await asyncio.to_thread(old_tree, tmp_path / "old", OLD_REFS[-1])
    if old is None:
        return  # not in this clone: nothing to stand beside
    async with Processes(tmp_path, valkey, queue_name) as world:
        before = world.start_worker("pack", "submit", entry=OLD_ENTRY, PYTHONPATH=path_of(old))
        world.start_worker("track", "resolve")

        async def both() -> bool:
            return len(await world.store.workers()) == 2

        await until(both, what="two workers")
        seen = await said_by(path_of(old), WORKERS, **world.env())
        theirs, ours = sorted(await world.store.workers(), key=lambda worker: worker.beat_at)
        assert seen == {theirs.id: "pack+submit", ours.id: "track+resolve"}
        assert (theirs.accounts, theirs.roles, ours.accounts) == ((), ("pack", "submit"), ("emulated.local",))
        for account in ("emulated.local", "emulated.other"):
            assert why_nobody([theirs, ours], account, Step.SUBMIT, world.settings) == ""
        assert why_nobody([theirs, ours], "emulated.other", Step.TRACK, world.settings).startswith("no worker")
        assert before.stop() == 0
        assert [worker.id for worker in await world.store.workers()] == [ours.id]


@pytest.mark.parametrize("ref", OLD_REFS)
async def test_old_and_new_workers_drain_one_queue(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, ref: str
) -> None:
    """Either takes over what the other has begun: every prompt has one outcome, and none is bought twice."""
    (tmp_path / "old").mkdir()
    old = await asyncio.to_thread(old_tree, tmp_path / "old", ref)
    if old is None:
        return  # no tag in this clone: nothing to stand beside
    path = path_of(old)
    async with Processes(tmp_path, valkey, queue_name, job_s=0.5) as world:
        await world.submit([f"prompt {n}" for n in range(40)], segment_prompts=4)
        first = world.start_worker(entry=OLD_ENTRY, PYTHONPATH=path)

        async def created() -> bool:
            return (await world.store.counts()).get("created", 0) > 0

        await until(created, what="a job of the old worker's")
        second = world.start_worker()
        await world.submit([f"more {n} [[fault:internal:1]]" for n in range(20)], segment_prompts=4)
        first.kill()
        world.start_worker(entry=OLD_ENTRY, PYTHONPATH=path)
        await world.submit([f"most {n}" for n in range(20)], segment_prompts=4)
        await world.drained()
        await world.judge()
        assert second.alive
        assert (await world.store.counts())["answered"] == 80
