"""What it costs that the server writes what it acknowledges to its disk first: ``appendfsync`` always and everysec.

    python benchmarks/fsync.py [--prompts 100000] [--singles 100] [--rounds 5] [--json FILE]

Alternating rounds, so that all meet the same machine: one bulk load through the whole path, then single prompts, one
after the other: how long ``submit`` takes to acknowledge one, and how long its answer takes, with ``linger_s = 0`` and
a provider that takes no time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import uvloop
from harness import Pipeline, Report
from pipeline import one_round, plan
from producer import MODEL, prompts

from gemqueue import Queue
from gemqueue.config import load_settings

WAYS = ("always", "everysec")


def singles_round(count: int, appendfsync: str) -> dict[str, float]:
    """A fresh pipeline, and single prompts one after the other."""
    with Pipeline(linger_s=0.0, appendfsync=appendfsync) as pipeline:
        found = uvloop.run(_singles(pipeline.env(), count))
    return {
        f"{name}_p{share}_ms": 1000 * quantiles(times, n=100)[share - 1]
        for name, times in found.items()
        for share in (50, 99)
    }


async def _singles(env: dict[str, str], count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"submit": [], "answer": []}
    async with Queue.connect(settings=load_settings(env=env)) as queue:
        for text in prompts(count, 1000):
            started = time.monotonic()
            future = await queue.submit(text, model=MODEL)
            found["submit"].append(time.monotonic() - started)
            await future
            found["answer"].append(time.monotonic() - started)
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("fsync", options)
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for n in range(options.rounds):
        for way in WAYS if n % 2 else WAYS[::-1]:
            bulk = one_round(plan(prompts=options.prompts), way)
            rounds[way].append(bulk | singles_round(options.singles, way))
    print(f"{options.prompts} prompts in bulk, then {options.singles} one by one, {options.rounds} rounds; medians")
    for way in WAYS:
        _print(way, report.add(way, rounds[way]), rounds[way])
    always, everysec = ([one["prompts_per_s"] for one in rounds[way]] for way in WAYS)
    shares = sorted(one / other for one, other in zip(always, everysec, strict=True))
    print(f"  always against everysec, prompts/s: {median(shares):.2f} x ({shares[0]:.2f} to {shares[-1]:.2f})")
    report.write()
    return 1 if any(one["wrong"] or one["bought_twice"] for each in rounds.values() for one in each) else 0


def _print(way: str, found: dict[str, float], rounds: list[dict[str, Any]]) -> None:
    speeds = [one["prompts_per_s"] for one in rounds]
    bulk = f"{found['prompts_per_s']:>7,.0f} prompts/s ({min(speeds):,.0f} to {max(speeds):,.0f})"
    times = (
        f"{name} p50 {found[name + '_p50_ms']:.1f} ms, p99 {found[name + '_p99_ms']:.1f}"
        for name in ("submit", "answer")
    )
    print(f"  {way:9} {bulk}, {found['ours_us']:.1f} us each; one by one: {'; '.join(times)}")


if __name__ == "__main__":
    sys.exit(main())
