"""The whole path in separate processes: producer, worker, emulator, server, beside the floor.

    python benchmarks/pipeline.py --prompts 200000 --rounds 5 [--mode map|stream|await] [--bytes 1000] [--batch N]

Everything is at shipped defaults; ``--batch`` sets the prompts of a batch, which the estimated tokens bound otherwise.
Prints the median of the rounds: prompts/s, CPU microseconds per prompt and peak memory of each process. Every answer
is compared with the emulator's published function of its request, and the emulator's ledger says what was bought.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from floor import one_round as floor_round
from harness import Pipeline, Report

ROLES = ("producer", "worker", "server", "emulator")
FLOOR_BATCH = 10_000
"""Prompts in the floor's batches where gemqueue's are as shipped: 2,500,000 estimated tokens are about that many."""


def plan(**chosen: Any) -> argparse.Namespace:
    """The options of a round."""
    plain = {
        "prompts": 200_000,
        "bytes": 1000,
        "mode": "map",
        "batch": 0,
        "linger_s": 0.0,
        "answers": "echo",
        "seal": False,
    }
    return argparse.Namespace(**plain | chosen)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What is not as shipped."""
    settings: dict[str, Any] = {"linger_s": options.linger_s} if options.linger_s else {}
    if options.seal:
        os.environ.setdefault("GEMQUEUE_SEAL_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
        settings |= {"seal": True}
    if options.batch:
        limits = {"batch_tokens_max": 2_000_000_000, "batch_bytes_max": 2_000_000_000}
        settings |= {"batch_prompts_max": options.batch, "first_prompts_max": options.batch}
        settings |= {"memory_bytes_max": 16_000_000_000} | limits
    return settings


def one_round(options: argparse.Namespace, appendfsync: str = "always") -> dict[str, Any]:
    """One fresh pipeline, one load."""
    with Pipeline(answers=options.answers, appendfsync=appendfsync, **settings_of(options)) as pipeline:
        before, traffic = pipeline.commands(), pipeline.traffic_bytes()
        start_s = pipeline.worker.cpu_s()
        argv = ["--prompts", str(options.prompts), "--bytes", str(options.bytes), "--mode", options.mode]
        argv += ["--ready"]  # as in the floor: making them is no part of the path
        report, _ = pipeline.produce(*argv, "--answers", options.answers)
        worked_s = pipeline.worker.cpu_s()
        calls = {name: n - before.get(name, 0) for name, n in pipeline.commands().items()}
        traffic = pipeline.traffic_bytes() - traffic
        ledger = pipeline.control("ledger")
        slow = pipeline.slowest_scripts_ms()
        worker, emulator, server = pipeline.worker.end(), pipeline.emulator.end(), pipeline.server.end()
    per_prompt = 1e6 / options.prompts
    ours_us = (report["cpu_s"] + worker.cpu_s + server.cpu_s) * per_prompt
    return report | {
        "prompts_per_s": options.prompts / report["seconds"],
        "jobs": len(ledger["jobs"]),
        "rows_bought": ledger["rows_bought"],
        "bought_twice": len(ledger["bought_twice"]),
        "commands_per_prompt": sum(calls.values()) / options.prompts,
        "redis_bytes_per_prompt": traffic / options.prompts,
        "top_commands": dict(sorted(calls.items(), key=lambda item: -item[1])[:8]),
        "slowest_script_ms": max(slow.values(), default=0.0),
        "slow_scripts_ms": slow,
        "ours_us": ours_us,
        "worker_start_us": start_s * per_prompt,
        "worker_stop_us": max(0.0, worker.cpu_s - worked_s) * per_prompt,
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
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", choices=["map", "stream", "await"], default="map")
    parser.add_argument("--batch", type=int, default=0, help="prompts in a batch at the most; 0: as shipped")
    parser.add_argument("--linger-s", type=float, default=0.0, help="0: as shipped")
    parser.add_argument("--answers", choices=["echo", "full"], default="echo")
    parser.add_argument("--seal", action="store_true", help="prompts and answers are encrypted in Redis")
    parser.add_argument("--no-floor", action="store_true", help="do not run the baseline beside it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    floors: list[dict[str, Any]] = []
    for _ in range(options.rounds):  # alternating, so that both meet the same machine
        if not options.no_floor:
            tasks = options.mode == "await"
            batch = options.batch or FLOOR_BATCH
            floors.append(floor_round(options.prompts, options.bytes, batch, tasks=tasks))
        rounds.append(one_round(options))
    report = Report("pipeline", options)
    median, floor = report.add("gemqueue", rounds), report.add("floor", floors)
    _print(options, median, floor, rounds)
    report.write()
    broken = any(one["wrong"] or one["failed"] or one["bought_twice"] for one in rounds)
    return 1 if broken else 0


def _print(
    options: argparse.Namespace, median: dict[str, float], floor: dict[str, float], rounds: list[dict[str, Any]]
) -> None:
    speeds = [one["prompts_per_s"] for one in rounds]
    batches = f"batches of {options.batch}" if options.batch else "batches as shipped"
    print(f"{options.prompts} prompts of {options.bytes} B, {options.mode}, {batches}, {len(rounds)} rounds")
    print(f"  prompts/s          {median['prompts_per_s']:>10,.0f}   ({min(speeds):,.0f} to {max(speeds):,.0f})")
    for role in ROLES:
        print(f"  {role + ' us/prompt':18} {median[role + '_us']:>10.1f}   peak {median[role + '_peak_mb']:,.0f} MB")
    start = f"of it {median['worker_start_us']:.1f} the worker's start, {median['worker_stop_us']:.1f} its end"
    print(f"  ours, us/prompt    {median['ours_us']:>10.1f}   (producer + worker + server; {start})")
    if floor:
        cpu, speed = median["ours_us"] / floor["ours_us"], median["prompts_per_s"] / floor["prompts_per_s"]
        echo = f"{floor['emulator_us']:.1f} us its echo"
        rate = f"{floor['prompts_per_s']:,.0f} prompts/s"
        start = f"{floor['worker_start_us']:.1f} the start"
        print(f"  the floor          {floor['ours_us']:>10.1f} us/prompt ({start}), {rate}, {echo}")
        print(f"  against the floor  {cpu:>10.2f} x its CPU, {speed:.2f} x its prompts/s")
    traffic = f"{median['redis_bytes_per_prompt']:,.0f} B"
    print(f"  Redis, per prompt  {median['commands_per_prompt']:>10.4f} commands, {traffic}")
    print(f"  slowest script ms  {median['slowest_script_ms']:>10.1f}   {rounds[-1]['slow_scripts_ms']}")
    for name in ("answered", "failed", "wrong", "rows_bought", "bought_twice", "jobs"):
        print(f"  {name:18} {median[name]:>10,.0f}")


if __name__ == "__main__":
    sys.exit(main())
