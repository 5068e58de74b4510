"""From ``generate`` to its answer, when the provider takes no time; and from a job's end to the resolved future.

    python benchmarks/latency.py [--rates 1,100,10000] [--rounds 5] [--json FILE]

Prompts are submitted at a steady rate, each awaited in a task of its own, with ``linger_s = 0`` and everything else as
shipped. The second part runs one prompt at a time against jobs that take ``--job-s``, and counts from the end that the
provider reports; the first of them are taken by growing pauses, the later ones when the queue expects them.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop
from harness import Pipeline, Report
from producer import MODEL, prompts

from gemqueue import Queue

SECONDS = {1: 8.0, 100: 5.0, 10_000: 3.0}


async def at_rate(rate: int, seconds: float) -> dict[str, Any]:
    """Submit at ``rate`` for ``seconds``; how long each prompt took."""
    loop = asyncio.get_running_loop()
    taken_s: list[float] = []

    async def ask(text: str) -> None:
        started = loop.time()
        answer = await queue.generate(text, model=MODEL)
        taken_s.append(loop.time() - started)
        assert answer.ok  # noqa: S101 - it raises otherwise

    async with Queue.connect() as queue:
        count = max(1, int(rate * seconds))
        texts, tasks, started = prompts(count, 1000), list[asyncio.Task[None]](), loop.time()
        for n, text in enumerate(texts):
            ahead_s = n / rate - (loop.time() - started)
            if ahead_s > 0.001:
                await asyncio.sleep(ahead_s)
            tasks.append(asyncio.create_task(ask(text)))
            if n % 100 == 99:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
    return {"prompts": count, **spread(taken_s)}


async def one_by_one(count: int) -> dict[str, Any]:
    """Submit one prompt after the other; when each was resolved."""
    resolved: list[float] = []
    async with Queue.connect() as queue:
        for text in prompts(count, 1000):
            await queue.generate(text, model=MODEL)
            resolved.append(time.time())
    return {"resolved": resolved}


def spread(values_s: list[float]) -> dict[str, float]:
    """Median and tails, in milliseconds."""
    ordered = sorted(values_s)
    at = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
    found = {name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}
    return found | {"worst_ms": 1000 * ordered[-1]}


def produce(pipeline: Pipeline, *argv: str) -> dict[str, Any]:
    """This script's other half, in a process of its own."""
    out = pipeline.folder / "latency.json"
    process = pipeline.start([sys.executable, __file__, "--part", str(out), *argv], pipeline.env(), "latency")
    process.end(None)
    if process.exit_code:
        raise RuntimeError((pipeline.folder / "latency.log").read_text()[-3000:])
    return dict(json.loads(out.read_text()))


def rate_round(rate: int) -> dict[str, Any]:
    """One fresh pipeline at one rate; a few prompts before it warm it up."""
    with Pipeline(linger_s=0.0) as pipeline:
        produce(pipeline, "--rate", "5", "--seconds", "1")
        return produce(pipeline, "--rate", str(rate), "--seconds", str(SECONDS.get(rate, 5.0)))


def completion_round(job_s: float, count: int) -> list[float]:
    """Seconds from each job's end, as the provider has it, to its resolved future."""
    with Pipeline(linger_s=0.0, job_s=job_s) as pipeline:
        resolved = produce(pipeline, "--one-by-one", str(count))["resolved"]
        headers = {"x-goog-api-key": "emulated-local"}
        url = f"{pipeline.emulator_url}/v1beta/batches?pageSize=100"
        jobs = httpx.get(url, headers=headers).json()["operations"]
    ends = sorted(dt.datetime.fromisoformat(job["metadata"]["endTime"]).timestamp() for job in jobs)
    return [at - end for at, end in zip(resolved, ends, strict=True)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1,100,10000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job-s", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=10, help="jobs of the second part")
    parser.add_argument("--json", type=Path)
    for name, kind in (("--part", Path), ("--rate", int), ("--seconds", float), ("--one-by-one", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        work = one_by_one(options.one_by_one) if options.one_by_one else at_rate(options.rate, options.seconds)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            options.part.write_text(json.dumps(runner.run(work)))
        return 0
    report = Report("latency", options)
    rates = [int(rate) for rate in options.rates.split(",")]
    rounds: dict[int, list[dict[str, Any]]] = {rate: [] for rate in rates}
    for _ in range(options.rounds):
        for rate in rates:
            rounds[rate].append(rate_round(rate))
    print(f"from generate to its answer, instant provider, linger_s = 0, {options.rounds} rounds")
    for rate in rates:
        median = report.add(f"{rate} prompts/s", rounds[rate])
        shown = "  ".join(f"{name[:-3]} {median[name]:,.0f} ms" for name in ("p50_ms", "p90_ms", "p99_ms", "worst_ms"))
        print(f"  {rate:>6} prompts/s   {shown}")
    lags_s = completion_round(options.job_s, options.jobs)
    half = len(lags_s) // 2
    report.add("from a job's end to the future, by polling", [{"lags_s": lags_s, **spread(lags_s)}])
    print(f"from the job's end to the resolved future, by polling, jobs of {options.job_s:g} s, one after the other")
    print(f"  the first {half}: median {1000 * statistics.median(lags_s[:half]):,.0f} ms")
    print(f"  the others: median {1000 * statistics.median(lags_s[half:]):,.0f} ms")
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
