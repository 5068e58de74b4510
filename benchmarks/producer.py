"""The producer of the benchmarks: submits prompts of real words, waits for the answers, and checks every one of them.

    python benchmarks/producer.py --prompts N --bytes 1000 --mode map|stream|await --json FILE

The check compares each answer with the emulator's published function of the request; it runs after the clock has
stopped, and its CPU is reported apart.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import uvloop

from gemqueue import Queue
from gemqueue.language.gemini.requests import generate_request
from gemqueue_adapters.emulator.answers.answers import answerer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODEL = "gemini-3.8-flash"
_READINGS = 4
_STILL_BYTES = 100_000
WORDS = (Path(__file__).parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8").split()
VARIANTS = 997


def cpu_s() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def texts(size_bytes: int) -> list[str]:
    """Ordinary text of about ``size_bytes`` in many variants."""
    dice = random.Random(1)
    made: list[str] = []
    for _ in range(VARIANTS):
        text = " ".join(dice.choices(WORDS, k=max(1, size_bytes // 4)))
        made.append(text[: max(1, size_bytes - 10)])
    return made


def prompts(count: int, size_bytes: int) -> Iterator[str]:
    """Distinct prompts, made as they are asked for."""
    bodies = texts(size_bytes)
    return (f"{n:09d} {bodies[n % VARIANTS]}" for n in range(count))


async def run_map(queue: Queue, rows: Iterator[str]) -> Sequence[Any]:
    """One bulk call."""
    return await queue.map(rows, model=MODEL)


async def run_stream(queue: Queue, rows: Iterator[str]) -> Sequence[Any]:
    """Outcomes as they land; the tag says whose they are."""
    tagged = ({"contents": text, "tag": n} for n, text in enumerate(rows))
    found = [outcome async for outcome in queue.stream(tagged, model=MODEL)]
    return sorted(found, key=lambda outcome: outcome.tag)


async def run_await(queue: Queue, rows: Iterator[str]) -> Sequence[Any]:
    """One task and one await per prompt, a thousand new ones at a time, as in the floor."""
    tasks: list[asyncio.Task[Any]] = []
    for text in rows:
        tasks.append(asyncio.create_task(queue.generate(text, model=MODEL)))
        if len(tasks) % 1000 == 0:
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks)


async def run_wait(queue: Queue, rows: Iterator[str]) -> dict[str, float]:
    """One bulk call that nobody answers: what its prompts take, here and in Redis, once all of them are stored."""
    gc.collect()
    before = resident_bytes()
    counted = 0

    def count(rows: Iterator[str]) -> Iterator[str]:
        nonlocal counted
        for row in rows:
            counted += 1
            yield row

    waiting = asyncio.create_task(queue.map(count(rows), model=MODEL))
    client = redis.Redis.from_url(os.environ["GEMQUEUE_REDIS_URL"])
    used: list[int] = []
    while len(used) < _READINGS or max(used[-3:]) - min(used[-3:]) > _STILL_BYTES:
        await asyncio.sleep(1)  # the server gives back a connection's buffers when it has been still for two seconds
        accepted = (await queue.counts()).get("accepted", 0)
        if accepted and accepted == counted:
            used.append(client.info("memory")["used_memory"])  # type: ignore[index]
    gc.collect()
    taken = resident_bytes() - before
    waiting.cancel()
    return {"waiting_bytes": taken / counted, "redis_bytes": used[-1]}


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


MODES = {"map": run_map, "stream": run_stream, "await": run_await}


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """Run one mode; what it took, and how many answers were wrong."""
    async with Queue.connect() as queue:
        if options.mode == "wait":
            return await run_wait(queue, prompts(options.prompts, options.bytes))
        rows = prompts(options.prompts, options.bytes)
        if options.ready:
            rows = iter(list(rows))
        cpu, started = cpu_s(), time.monotonic()
        outcomes = await MODES[options.mode](queue, rows)
        seconds, used = time.monotonic() - started, cpu_s() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    expect = answerer("generate", options.answers, MODEL)
    wrong = failed = 0
    for text, outcome in zip(prompts(options.prompts, options.bytes), outcomes, strict=True):
        failed += not outcome.ok
        wrong += outcome.ok and bytes(outcome.raw) != expect(generate_request(text))
    landed = {"answered": len(outcomes) - failed, "failed": failed, "wrong": wrong}
    return {"seconds": seconds, "cpu_s": used, "peak_mb": peak_mb, **landed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--mode", choices=[*MODES, "wait"], default="map")
    parser.add_argument("--answers", choices=["echo", "full"], default="echo")
    parser.add_argument("--ready", action="store_true", help="have the prompts in memory before the clock starts")
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(main(chosen))
    chosen.json.write_text(json.dumps(report))
