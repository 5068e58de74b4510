"""Processes that die: at every effect, and at random."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gemqueue.effects import Effect
from tests.proofs import crash_client, crashpoints
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import ROOT, Processes, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", ["pack", "submit", "track", "resolve", "rescue"])
async def test_a_worker_may_die_before_and_after_each_effect(role: str, valkey: ValkeyServer) -> None:
    """A worker dies exactly there; the next one finishes: every prompt answered, bought once, nothing left behind."""
    verdicts = await crashpoints.run(crashpoints.points(role), valkey)
    assert {point: verdict for point, verdict in verdicts.items() if verdict != "ok"} == {}


async def test_a_client_may_die_before_and_after_each_effect(valkey: ValkeyServer) -> None:
    """The caller's process dies exactly there, and lives again: each prompt is taken and bought once."""
    points = [point for point in crashpoints.points("produce") if point.partition(":")[0] in crash_client.EFFECTS]
    verdicts = await crashpoints.run(points, valkey)
    assert len(points) == 6
    assert {point: verdict for point, verdict in verdicts.items() if verdict != "ok"} == {}


def test_what_covers_the_other_points_is_there() -> None:
    """Each point of a command or of the HTTP server has the test that the table names, and each effect has a way."""
    named = {crashpoints.named_test(f"{effect}:{when}") for effect in crashpoints.TESTS for when in ("before", "after")}
    files = sorted({name.partition("::")[0] for name in named})
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert named <= set(said.stdout.splitlines())
    assert len(crashpoints.points()) == 2 * len(Effect)


async def test_kill_9_of_workers_and_server_loses_nothing_and_buys_nothing_twice(tmp_path: Path) -> None:
    """Workers are killed at random moments, and the server once; all prompts are answered and none is bought twice."""
    dice = random.Random(7)
    with ValkeyServer() as server:
        async with Processes(tmp_path, server, "kill", {"batch_prompts_max": 400}, job_s=0.5) as world:
            await world.submit([f"prompt {n}" for n in range(3000)], segment_prompts=100)
            worker = world.start_worker()
            for kill in range(4):
                settled = (await world.store.counts()).get("answered", 0)

                async def moved(settled: int = settled) -> bool:
                    return (await world.store.counts()).get("answered", 0) > settled or await world.finished()

                await until(moved, what="progress")
                await asyncio.sleep(dice.random() / 20)
                worker.kill()
                if kill == 2:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                worker = world.start_worker()
            await world.drained()
            found = await world.judge()
            assert all("response" in outcome for outcome in found.values())


async def test_the_server_may_die_under_a_running_worker(tmp_path: Path) -> None:
    """A worker outlives the kill of its server: it goes on by itself when the server is back."""
    with ValkeyServer() as server:
        async with Processes(tmp_path, server, "outage", job_s=1.0) as world:
            worker = world.start_worker()
            await world.submit([f"prompt {n}" for n in range(50)])

            async def submitted() -> bool:
                return (await world.store.counts()).get("submitted", 0) == 50

            await until(submitted, what="submitted")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await world.drained()
            await world.judge()
            assert worker.alive
