"""What an idle set of workers costs, and one that has open batches to look after.

    python benchmarks/idle.py --seconds 20 --open 100 [--json FILE]

CPU milliseconds per second of the worker and of the server, and Redis commands per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from harness import Pipeline, machine

from gemqueue import Queue


def measure(pipeline: Pipeline, seconds: float) -> dict[str, float]:
    """Costs per second over ``seconds``."""
    commands = sum(pipeline.commands().values())
    cpu = {role: getattr(pipeline, role).cpu_s() for role in ("worker", "server")}
    started = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    used = {role: getattr(pipeline, role).cpu_s() - before for role, before in cpu.items()}
    figures = {f"{role}_cpu_ms_per_s": 1000 * value / passed for role, value in used.items()}
    return figures | {"commands_per_s": (sum(pipeline.commands().values()) - commands) / passed}


async def _open_batches(pipeline: Pipeline, count: int) -> None:
    async with Queue.connect(pipeline.env()["GEMQUEUE_REDIS_URL"], emulate=True, **pipeline.settings) as queue:
        futures = await asyncio.gather(*(queue.submit(f"prompt {n}", model="gemini-3.5-flash") for n in range(count)))
        while (await queue.counts()).get("created", 0) < count:
            await asyncio.sleep(0.1)
        assert len(futures) == count  # noqa: S101 - a benchmark that measures something else is worse than none


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--open", type=int, default=100, help="open batches in the second part")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    with Pipeline(segment_prompts_max=1, batch_prompts_max=1, linger_s=0.01, job_s=86_400.0) as pipeline:
        time.sleep(5)
        report["idle"] = measure(pipeline, options.seconds)
        asyncio.run(_open_batches(pipeline, options.open))
        report[f"{options.open} open batches"] = measure(pipeline, options.seconds)
    for what, figures in report.items():
        print(what, {name: round(value, 1) for name, value in figures.items()})
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **report}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
