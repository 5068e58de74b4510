"""The whole path in separate processes: producer, worker, emulator, server.

    python benchmarks/pipeline.py --prompts 100000 --rounds 5 [--mode map] [--batch 50000] [--json FILE]

Prints the median of the rounds: prompts/s, and CPU microseconds per prompt of each process. Every answer is compared with
the emulator's published function of its request, and the emulator's ledger says what was bought.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import httpx
from harness import Pipeline, machine

ROLES = ("producer", "worker", "server", "emulator")


def one_round(options: argparse.Namespace) -> dict[str, Any]:
    """One fresh pipeline, one load."""
    settings = {
        "batch_prompts_max": options.batch,
        "batch_tokens_max": 2_000_000_000,
        "batch_bytes_max": 2_000_000_000,
        "memory_bytes_max": 16_000_000_000,
        "linger_s": options.linger_s,
    }
    with Pipeline(answers=options.answers, **settings) as pipeline:
        before = pipeline.commands()
        argv = ["--prompts", str(options.prompts), "--bytes", str(options.bytes), "--mode", options.mode]
        report, _ = pipeline.produce(*argv, "--answers", options.answers)
        calls = {name: n - before.get(name, 0) for name, n in pipeline.commands().items()}
        ledger = httpx.get(f"{pipeline.emulator_url}/_emulator/ledger", timeout=120).json()
        slow = pipeline.slowest_scripts_ms()
        worker, emulator, server = pipeline.worker.end(), pipeline.emulator.end(), pipeline.server.end()
    per_prompt = 1e6 / options.prompts
    return report | {
        "prompts_per_s": options.prompts / report["seconds"],
        "jobs": len(ledger["jobs"]),
        "rows_bought": ledger["rows_bought"],
        "bought_twice": len(ledger["bought_twice"]),
        "commands_per_prompt": sum(calls.values()) / options.prompts,
        "top_commands": dict(sorted(calls.items(), key=lambda item: -item[1])[:8]),
        "slowest_script_ms": max(slow.values(), default=0.0),
        "slow_scripts_ms": slow,
        "producer_us": report["cpu_s"] * per_prompt,
        "worker_us": worker.cpu_s * per_prompt,
        "server_us": server.cpu_s * per_prompt,
        "emulator_us": emulator.cpu_s * per_prompt,
        "producer_peak_mb": report["peak_mb"],
        "worker_peak_mb": worker.peak_mb,
        "server_peak_mb": server.peak_mb,
        "emulator_peak_mb": emulator.peak_mb,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", choices=["map", "stream", "await"], default="map")
    parser.add_argument("--batch", type=int, default=50_000, help="prompts in a batch at the most")
    parser.add_argument("--linger-s", type=float, default=0.5)
    parser.add_argument("--answers", choices=["echo", "full"], default="echo")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = [one_round(options) for _ in range(options.rounds)]
    numbers = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
    median = {name: statistics.median(one[name] for one in rounds) for name in numbers}
    _print(options, median, rounds)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "median": median, "rounds": rounds}, indent=1))
    broken = any(one["wrong"] or one["failed"] or one["bought_twice"] for one in rounds)
    return 1 if broken else 0


def _print(options: argparse.Namespace, median: dict[str, float], rounds: list[dict[str, Any]]) -> None:
    speeds = [one["prompts_per_s"] for one in rounds]
    print(f"{options.prompts} prompts of {options.bytes} B, {options.mode}, batches of {options.batch}, {len(rounds)} rounds")
    print(f"  prompts/s          {median['prompts_per_s']:>10,.0f}   ({min(speeds):,.0f} to {max(speeds):,.0f})")
    for role in ROLES:
        print(f"  {role + ' us/prompt':18} {median[role + '_us']:>10.1f}   peak {median[role + '_peak_mb']:,.0f} MB")
    ours = median["producer_us"] + median["worker_us"] + median["server_us"]
    print(f"  ours, us/prompt    {ours:>10.1f}   (producer + worker + server)")
    print(f"  commands/prompt    {median['commands_per_prompt']:>10.4f}")
    print(f"  slowest script ms  {median['slowest_script_ms']:>10.1f}   {rounds[-1]['slow_scripts_ms']}")
    for name in ("answered", "failed", "wrong", "rows_bought", "bought_twice", "jobs"):
        print(f"  {name:18} {median[name]:>10,.0f}")


if __name__ == "__main__":
    sys.exit(main())
