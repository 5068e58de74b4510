"""What the producers of the peers share: payloads, the clock, the report."""

import asyncio
import inspect
import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ANSWER = "a" * 1000
CONCURRENT = 50
"""Calls of a producer at once, each on a pooled connection: an unbounded gather would open one for every job."""


def payloads(count):
    """As many texts of 1,000 characters."""
    return (f"{n:09d} " + "p" * 990 for n in range(count))


def main(produce):
    """Run ``produce(count)``, check that every answer came, and write what it took."""
    count, report = int(sys.argv[1]), Path(sys.argv[2])
    used, started = cpu_s(), time.monotonic()
    found = produce(count)
    answers = asyncio.run(found) if inspect.iscoroutine(found) else found
    seconds, cpu = time.monotonic() - started, cpu_s() - used
    answers = list(answers)
    wrong = [answer for answer in answers if answer != ANSWER]
    if wrong or len(answers) != count:
        raise SystemExit(f"{len(answers)} answers for {count} jobs, {len(wrong)} of them wrong: {str(wrong)[:500]}")
    report.write_text(json.dumps({"seconds": seconds, "cpu_s": cpu}))


async def bounded(call, items):
    """``await call(item)`` for every item, ``CONCURRENT`` at a time; the results in the items' order."""
    items = list(items)
    left, results = iter(range(len(items))), [None] * len(items)

    async def lane():
        for n in left:
            results[n] = await call(items[n])

    await asyncio.gather(*(lane() for _ in range(CONCURRENT)))
    return results


def threaded(call, items):
    """``call(item)`` for every item, ``CONCURRENT`` threads at a time; the results in the items' order."""
    with ThreadPoolExecutor(CONCURRENT) as threads:
        return list(threads.map(call, items))


def cpu_s():
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
