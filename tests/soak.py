"""Kill workers at random moments, and the server too, while prompts go through; then judge.

    python -m tests.soak --prompts 20000 --kills 10 --server-kills 1 --seed 1 --json FILE

The moments are drawn from the seed. Between the kills, two workers run. At the end faults stop, everything must
drain, and ``World.judge`` holds outcomes, answers, ledger and keys against the promises.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.valkey_server import ValkeyServer
from tests.world import World


class Soak:
    """One run."""

    def __init__(self, world: World, server: ValkeyServer, options: argparse.Namespace) -> None:
        self._world = world
        self._server = server
        self._options = options
        self._dice = random.Random(options.seed)
        self.kills: list[str] = []

    async def run(self) -> dict[str, Any]:
        """Submit, kill, drain, judge; the report. Raises AssertionError where a promise is broken."""
        world, options = self._world, self._options
        started = time.monotonic()
        workers = [world.start_worker(), world.start_worker()]
        submitting = asyncio.create_task(self._submit())
        victims = ["worker"] * options.kills + ["server"] * options.server_kills
        self._dice.shuffle(victims)
        for victim in victims:
            await asyncio.sleep(self._dice.uniform(0.2, options.pause_s))
            self.kills.append(victim)
            if victim == "server":
                await asyncio.to_thread(self._server.kill)
                await asyncio.to_thread(self._server.start)
            else:
                n = self._dice.randrange(len(workers))
                workers[n].kill()
                workers[n] = world.start_worker()
        await submitting
        await world.drained(300)
        outcomes = await world.judge()
        counts = await world.store.counts()
        return {
            "prompts": len(outcomes),
            "answered": sum("response" in outcome for outcome in outcomes.values()),
            "kills": len(self.kills),
            "seconds": round(time.monotonic() - started, 1),
            "bought_twice": len(world.emulator.ledger()["bought_twice"]),
            "counts": counts,
        }

    async def _submit(self) -> None:
        size = self._options.prompts // 40 or 1
        for start in range(0, self._options.prompts, size):
            stop = min(start + size, self._options.prompts)
            await self._world.submit([f"prompt {n}" for n in range(start, stop)], segment_prompts=200)
            await asyncio.sleep(self._options.pause_s / 8)


async def _main(options: argparse.Namespace) -> dict[str, Any]:
    settings = {"batch_prompts_max": options.batch}
    with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
        async with World(Path(folder), server, f"soak{options.seed}", settings, job_s=1.0) as world:
            return await Soak(world, server, options).run()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--server-kills", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--pause-s", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = asyncio.run(_main(options))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
