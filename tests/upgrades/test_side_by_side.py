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
from typing import TYPE_CHECKING

import pytest

from gemqueue import Queue
from tests.upgrades import asking
from tests.worlds.processes import ROOT, Processes, until

if TYPE_CHECKING:
    from tests.valkey_server import ValkeyServer

OLD_REFS = ("0.1.0", "201880f")
"""A tag, and the commit whose records are those of 0.2.0."""
OLD_ENTRY = "gemqueue_workers.cli"


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
    """Whoever comes second joins; an old one is refused what a new one laid over. Nothing is bought twice."""
    (tmp_path / "old").mkdir()
    old = await asyncio.to_thread(old_tree, tmp_path / "old", OLD_REFS[-1])
    if old is None:
        return  # not in this clone: nothing to stand beside
    async with Processes(tmp_path, valkey, queue_name) as world, Queue.connect(settings=world.settings) as queue:
        world.start_worker()
        before = await ask_old(old, world) if old_first else await asking.outcomes(queue)
        after = await asking.outcomes(queue) if old_first else await ask_old(old, world)
        merged = {} if old_first else {"row": "NameConflict", "row class": "NameConflict"}
        assert after == before | merged
        assert len(set(before.values())) == (await world.store.counts())["accepted"] == len(asking.NAMED)
        assert world.emulator.ledger()["bought_twice"] == []


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
