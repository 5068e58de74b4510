"""From ``generate`` to its answer, when the provider takes no time; and from a job's end to the resolved future.

    python benchmarks/latency.py [--rates 1,100,10000] [--job-s 3,20] [--rounds 5] [--json FILE]

Prompts are submitted at a steady rate, each awaited in a task of its own, with ``linger_s = 0`` and everything else as
shipped. The second part counts from the end that the provider reports, by polling alone and with webhooks that come
over real HTTP to a ``gemqueue serve``: a few jobs of one prompt each, of whose kind nothing is known yet, so that looks
come at growing pauses, then ``--jobs`` more, when the queue knows how long they take.
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

from gemqueue import Future, Queue

FIRST_JOBS = 5
GAP_S = 0.1
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


async def waves(counts: list[int]) -> list[dict[str, Any]]:
    """Submit so many prompts, each for a batch of its own, and wait for all of them, again and again."""
    found: list[dict[str, Any]] = []
    async with Queue.connect() as queue:
        for count in counts:
            resolved: dict[str, float] = {}
            found.append({"started": time.time(), "resolved": resolved})

            async def wait(future: Future, resolved: dict[str, float]) -> None:
                await future
                resolved[future.key] = time.time()

            async with asyncio.TaskGroup() as group:
                for text in prompts(count, 1000):
                    group.create_task(wait(await queue.submit(text, model=MODEL), resolved))
                    await asyncio.sleep(GAP_S)
    return found


def spread(values_s: list[float]) -> dict[str, float]:
    """Median and tails, in milliseconds."""
    ordered = sorted(values_s)
    at = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
    found = {name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}
    return found | {"worst_ms": 1000 * ordered[-1]}


def produce(pipeline: Pipeline, *argv: str) -> Any:
    """This script's other half, in a process of its own."""
    out = pipeline.folder / "latency.json"
    process = pipeline.start([sys.executable, __file__, "--part", str(out), *argv], pipeline.env(), "latency")
    process.end(None)
    if process.exit_code:
        raise RuntimeError((pipeline.folder / "latency.log").read_text()[-3000:])
    return json.loads(out.read_text())


def rate_round(rate: int) -> dict[str, Any]:
    """One fresh pipeline at one rate; a few prompts before it warm it up."""
    with Pipeline(linger_s=0.0) as pipeline:
        produce(pipeline, "--rate", "5", "--seconds", "1")
        return dict(produce(pipeline, "--rate", str(rate), "--seconds", str(SECONDS.get(rate, 5.0))))


def completion_round(job_s: float, jobs: int, *, webhooks: bool) -> list[dict[str, Any]]:
    """From each job's end, as the provider has it, to its resolved future: of the first few jobs, and of the others."""
    alone: dict[str, Any] = {"linger_s": 0.0, "batch_prompts_max": 1}
    with Pipeline(job_s=job_s, webhooks=webhooks, **alone) as pipeline:
        found = produce(pipeline, "--waves", f"{FIRST_JOBS},{jobs}")
        if webhooks and pipeline.count("events") < FIRST_JOBS + jobs:
            raise RuntimeError("webhooks have not come for every job")
        ask = httpx.Client(base_url=pipeline.emulator_url, headers={"x-goog-api-key": "emulated-local"})
        with ask:
            shown = ask.get("/v1beta/batches", params={"pageSize": 1000}).json()["operations"]
            ends = {job["name"]: dt.datetime.fromisoformat(job["metadata"]["endTime"]).timestamp() for job in shown}
            asked = [entry["time_ms"] / 1000 for entry in ask.get("/_emulator/requests").json()]
            return [_wave(ask, wave, ends, asked) for wave in found]


def _wave(ask: httpx.Client, wave: dict[str, Any], ends: dict[str, float], asked: list[float]) -> dict[str, Any]:
    lags_s: list[float] = []
    for key, at in wave["resolved"].items():
        (row,) = ask.get("/_emulator/rows", params={"key": key}).json()
        lags_s.append(at - ends[row["job"]])
    last = max(wave["resolved"].values())
    requests = sum(wave["started"] <= at <= last for at in asked) / len(lags_s)
    return {"lags_s": lags_s, "requests_per_batch": requests}


def completions(report: Report, lengths_s: list[float], jobs: int, rounds: int) -> None:
    """Measure and print the second part."""
    found: dict[tuple[float, str], list[list[dict[str, Any]]]] = {}
    for _ in range(rounds):
        for job_s in lengths_s:
            for way in ("polling", "webhook"):
                one = completion_round(job_s, jobs, webhooks=way == "webhook")
                found.setdefault((job_s, way), []).append(one)
    print(f"from the job's end to the resolved future, jobs of one prompt, {rounds} rounds")
    for (job_s, way), each in found.items():
        for n, which in enumerate((f"the first {FIRST_JOBS}", f"the next {jobs}")):
            lags_s = [lag for one in each for lag in one[n]["lags_s"]]
            requests = statistics.median(one[n]["requests_per_batch"] for one in each)
            figures = {"requests_per_batch": requests, **spread(lags_s)}
            report.add(f"jobs of {job_s:g} s, by {way}, {which}", [figures | {"lags_s": lags_s}])
            times = "  ".join(f"{name[:-3]} {figures[name]:>6,.0f} ms" for name in ("p50_ms", "p99_ms", "worst_ms"))
            print(f"  {job_s:>4g} s  by {way:8} {which:14} {times}   {requests:.1f} requests a batch")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1,100,10000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job-s", default="3,20", help="how long the jobs of the second part take")
    parser.add_argument("--jobs", type=int, default=40, help="jobs of the second part, after the first few")
    parser.add_argument("--job-rounds", type=int, default=2, help="rounds of the second part")
    parser.add_argument("--json", type=Path)
    for name, kind in (("--part", Path), ("--rate", int), ("--seconds", float), ("--waves", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        _part(options)
        return 0
    report = Report("latency", options)
    rates = [int(rate) for rate in options.rates.split(",") if rate]
    rounds: dict[int, list[dict[str, Any]]] = {rate: [] for rate in rates}
    for _ in range(options.rounds):
        for rate in rates:
            rounds[rate].append(rate_round(rate))
    print(f"from generate to its answer, instant provider, linger_s = 0, {options.rounds} rounds")
    for rate in rates:
        median = report.add(f"{rate} prompts/s", rounds[rate])
        shown = "  ".join(f"{name[:-3]} {median[name]:,.0f} ms" for name in ("p50_ms", "p90_ms", "p99_ms", "worst_ms"))
        print(f"  {rate:>6} prompts/s   {shown}")
    if options.job_rounds:
        lengths_s = [float(job_s) for job_s in options.job_s.split(",")]
        completions(report, lengths_s, options.jobs, options.job_rounds)
    report.write()
    return 0


def _part(options: argparse.Namespace) -> None:
    counts = [int(count) for count in (options.waves or "").split(",") if count]
    work: Any = waves(counts) if counts else at_rate(options.rate, options.seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        options.part.write_text(json.dumps(runner.run(work)))


if __name__ == "__main__":
    sys.exit(main())
