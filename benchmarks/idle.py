"""What an idle set of workers costs, and one that has open batches to look after.

    python benchmarks/idle.py --seconds 20 --open 100 [--json FILE]

The batches are two hours old, by a clock that all processes share, so that looks at them are ``poll_max_s`` apart. As
they were made together they are looked at together: what a round of looks takes is counted over a window into which
the clock puts exactly one, and spread over ``poll_max_s``. CPU milliseconds per second (10 are 1 % of a core) of the
worker and of the server, and Redis commands per second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from harness import Pipeline, Report

from gemqueue import Queue
from gemqueue.config import Settings


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


def looked_at(pipeline: Pipeline, now_s: float, count: int, seconds: float) -> dict[str, float]:
    """Costs per second of ``count`` open batches: one round of looks, spread over the pause between two."""
    resting = measure(pipeline, seconds)
    polls = _polls(pipeline)
    pipeline.advance(now_s + Settings().poll_max_s + 1)
    round_ = measure(pipeline, seconds)
    looks = (_polls(pipeline) - polls) / count
    share = seconds / Settings().poll_max_s
    mean = {name: value + max(0.0, round_[name] - value) * share for name, value in resting.items()}
    extra = (round_["commands_per_s"] - resting["commands_per_s"]) * seconds / count
    return mean | {"looks_each": looks, "commands_per_look": extra / max(looks, 1.0)}


def _polls(pipeline: Pipeline) -> int:
    keys: list[bytes] = pipeline.redis.keys("{*}:batch:*")  # type: ignore[assignment]
    polls: list[Any] = [pipeline.redis.hget(key.decode(), "polls") for key in keys]
    return sum(int(count or 0) for count in polls)


async def _open_batches(pipeline: Pipeline, count: int) -> None:
    os.environ |= pipeline.env()
    async with Queue.connect() as queue:
        futures = await asyncio.gather(*(queue.submit(f"prompt {n}", model="gemini-3.8-flash") for n in range(count)))
        while (await queue.counts()).get("created", 0) < count:
            await asyncio.sleep(0.1)
        assert len(futures) == count  # noqa: S101 - a benchmark that measures something else is worse than none


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--open", type=int, default=100, help="open batches in the second part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("idle", options)
    rounds = [one_round(options) for _ in range(options.rounds)]
    for what in rounds[0]:
        figures = report.add(what, [found[what] for found in rounds])
        print(f"{what:18}", {name: round(value, 1) for name, value in figures.items()})
    report.write()
    return 0


def one_round(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """A fresh pipeline, first idle, then with open batches."""
    found: dict[str, dict[str, float]] = {}
    one_each: dict[str, Any] = {"segment_prompts_max": 1, "batch_prompts_max": 1, "linger_s": 0.01}
    room = dict.fromkeys(("open_jobs_max", "model_jobs_max"), options.open)
    with Pipeline(job_s=86_400.0, clock=True, **one_each, **room) as pipeline:
        time.sleep(5)
        found["idle"] = measure(pipeline, options.seconds)
        asyncio.run(_open_batches(pipeline, options.open))
        for age_s in (10, 30, 60, 120, 240, 480, 960, 1920, 3600, 7200):  # each look is further from the last
            pipeline.advance(age_s)
            time.sleep(6)
        found[f"{options.open} open batches"] = looked_at(pipeline, age_s, options.open, options.seconds)
    return found


if __name__ == "__main__":
    sys.exit(main())
