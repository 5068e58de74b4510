"""Does it stay level? CPU per prompt at growing sizes; memory of every process, and of Redis, over time and at rest.

    python benchmarks/scale.py [--sizes 10000,100000,1000000] [--rounds 5] [--bytes 1000] [--plot FILE] [--json FILE]

Each size is one batch: the worker starts when all of it waits, and a first batch may be as large as any. A Python
worker costs the same 0.6 s of CPU to start whatever the load, so the comparison of sizes counts from the worker's first
heartbeat; the table has the start apart.

How long a script blocks the server is wall time, which on two busy cores counts the time that the server is off its
core as well: so in every second round, from the first on, all processes but the server run at ``nice 10``, and the
figures are shown for both kinds of rounds.

``many`` packs what waits into batches of 10,000 and lets more and more of them be under way at once. Then, once: what a
prompt takes while it waits, in Redis and in its producer, with no worker running; and whether Redis is back where it
was when everything has been delivered and has expired, with retention set to seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from harness import Pipeline, Report, until

COLOURS = {"producer": "#2ca02c", "worker": "#1f77b4", "server": "#d62728", "redis": "#ff9896", "emulator": "#7f7f7f"}
ROLES = ("worker", "server", "emulator")
NICE = 10
SLOW_US = 200
MANY, MANY_BATCH, MANY_STEPS = 200_000, 10_000, (1, 3, 10, 20)
WHOLE = {"batch_tokens_max": 2_000_000_000, "batch_bytes_max": 2_000_000_000, "memory_bytes_max": 16_000_000_000}


class Sampler:
    """Samples resident memory of processes, and the server's own count, until stopped."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.samples: list[dict[str, float]] = []
        self._pipeline = pipeline
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stop.wait(0.25):
            sample = {"t": time.monotonic() - started, "redis": self._pipeline.used_memory() / 1e6}
            for role, process in list(self._pipeline.processes.items()):
                try:
                    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                except FileNotFoundError:
                    continue
                sample[role] = pages * 4096 / 1e6
            self.samples.append(sample)

    def stop(self) -> list[dict[str, float]]:
        """The samples, in MB."""
        self._stop.set()
        self._thread.join()
        return self.samples


def one_round(size: int, size_bytes: int, nice: int) -> dict[str, Any]:
    """One size, one fresh pipeline, one batch."""
    one_batch: dict[str, Any] = {"batch_prompts_max": size, "first_prompts_max": size, "linger_s": 0.0}
    with Pipeline(work=False, nice=nice, **one_batch, **WHOLE) as pipeline, ThreadPoolExecutor(1) as beside:
        pipeline.redis.config_set("slowlog-log-slower-than", SLOW_US)
        sampler = Sampler(pipeline)
        start_s = {role: pipeline.processes[role].cpu_s() for role in ("server", "emulator")}
        before, traffic = sum(pipeline.commands().values()), pipeline.traffic_bytes()
        producing = beside.submit(pipeline.produce, "--prompts", str(size), "--bytes", str(size_bytes))
        until(lambda: producing.done() or pipeline.count("accepted") >= size, "all prompts wait", 600.0)
        pipeline.start_worker()
        start_s["worker"] = pipeline.worker.cpu_s()
        report, _ = producing.result()
        used = {role: pipeline.processes[role].cpu_s() - start_s[role] for role in ROLES}
        samples = sampler.stop()
        calls, traffic = sum(pipeline.commands().values()) - before, pipeline.traffic_bytes() - traffic
        jobs = len(httpx.get(f"{pipeline.emulator_url}/_emulator/ledger", timeout=120).json()["jobs"])
        times, switches = pipeline.script_times_ms(), pipeline.server.switches()
        peaks = {f"{role}_peak_mb": process.end().peak_mb for role, process in pipeline.processes.items()}
    figures = {f"{role}_us": seconds * 1e6 / size for role, seconds in used.items()}
    producer_us = report["cpu_s"] * 1e6 / size
    return {
        "seconds": report["seconds"],
        "wrong": report["wrong"] + report["failed"],
        "jobs": jobs,
        "producer_us": producer_us,
        "ours_us": figures["worker_us"] + figures["server_us"] + producer_us,
        "worker_start_s": start_s["worker"],
        "slowest_script_ms": max((each[-1] for each in times.values()), default=0.0),
        "slow_scripts_ms": {name: each[-1] for name, each in times.items()},
        "slow_calls": {name: len(each) for name, each in times.items()},
        "p90_of_slow_ms": {name: each[int(0.9 * len(each))] for name, each in times.items()},
        "server_switches": switches,
        "nice": nice,
        "commands_per_prompt": calls / size,
        "redis_bytes_per_prompt": traffic / size,
        **figures,
        **peaks,
        "samples": samples,
    }


def many(steps: int, size: int) -> dict[str, Any]:
    """The worker's peak when ``size`` prompts go in batches of 10,000 and ``steps`` steps may be under way at once."""
    small: dict[str, Any] = {"batch_prompts_max": MANY_BATCH, "first_prompts_max": MANY_BATCH, "linger_s": 0.0}
    with Pipeline(work=False, steps_max=steps, **small, **WHOLE) as pipeline, ThreadPoolExecutor(1) as beside:
        producing = beside.submit(pipeline.produce, "--prompts", str(size))
        until(lambda: producing.done() or pipeline.count("accepted") >= size, "all prompts wait", 600.0)
        pipeline.start_worker()
        report, _ = producing.result()
        peak_mb = pipeline.worker.end().peak_mb
    return {"steps": steps, "worker_peak_mb": peak_mb, "wrong": report["wrong"] + report["failed"]}


def waiting(size: int, size_bytes: int) -> dict[str, Any]:
    """What a prompt takes while it waits: nobody works, the producer holds them all in one ``map``."""
    with Pipeline(work=False, **WHOLE) as pipeline:
        before = pipeline.used_memory()
        report, _ = pipeline.produce("--prompts", str(size), "--bytes", str(size_bytes), "--mode", "wait")
        return {"redis_bytes": (report["redis_bytes"] - before) / size, "producer_bytes": report["waiting_bytes"]}


def expiry(size: int) -> dict[str, Any]:
    """Used memory before and after a load whose outcomes may go within seconds; a small load before makes the lane."""
    short = {"submit_timeout_s": 10.0, "keep_delivered_s": 10.0, "keep_outcome_s": 10.0, "inbox_keep_s": 10.0}
    with Pipeline(**short) as pipeline:
        pipeline.redis.config_set("latency-tracking", "no")  # 20 KB for each command, from its first call on
        pipeline.redis.config_resetstat()

        def rest() -> int:
            keys = pipeline.redis.keys
            until(lambda: not keys("{*}:segmeta:*") and not keys("{*}:batch:*"), "all has expired")
            time.sleep(3)
            for log in ("slow", "large-request", "large-reply"):  # they hold commands with their arguments
                pipeline.redis.execute_command("COMMANDLOG", "RESET", log)
            pipeline.redis.execute_command("MEMORY", "PURGE")
            return pipeline.used_memory()

        pipeline.produce("--prompts", "20000")
        before = rest()
        pipeline.produce("--prompts", str(size))
        peak = pipeline.used_memory()
        after = rest()
        return {"before": before, "delivered": peak, "after": after, "drift": after / before - 1}


def plot(samples: list[dict[str, float]], title: str) -> str:
    """The samples as an SVG of 800 x 400."""
    t_max = max(sample["t"] for sample in samples) or 1.0
    mb_max = max(value for sample in samples for name, value in sample.items() if name != "t") * 1.1
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 400" font-family="sans-serif" font-size="12">']
    lines.append('<rect width="800" height="400" fill="white"/>')
    lines.append(f'<text x="60" y="20">{title}: resident MB over {t_max:.0f} s; redis is used_memory</text>')
    for n in range(5):
        y = 360 - n * 80
        lines.append(f'<line x1="60" x2="780" y1="{y}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="8" y="{y + 4}">{mb_max * n / 4:,.0f}</text>')
    for n, (role, colour) in enumerate(COLOURS.items()):
        seen = [sample for sample in samples if role in sample]
        points = " ".join(f"{60 + 720 * s['t'] / t_max:.1f},{360 - 320 * s[role] / mb_max:.1f}" for s in seen)
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        lines.append(f'<text x="{70 + n * 110}" y="385" fill="{colour}">{role}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--only", default="level,many,waiting,expiry")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    report = Report("scale", options)
    wrong = 0
    if "level" in options.only:
        wrong = level(options, report)
    if "many" in options.only:
        print(f"the worker's peak with batches of {MANY_BATCH:,} at once, {options.rounds} rounds (steps_max):")
        peaks: dict[int, list[dict[str, Any]]] = {steps: [] for steps in MANY_STEPS}
        for _ in range(options.rounds):
            for steps, each in peaks.items():
                each.append(many(steps, MANY))
        for steps, each in peaks.items():
            median = report.add(f"many, {steps} at once", each)
            highest = max(one["worker_peak_mb"] for one in each)
            wrong += sum(one["wrong"] for one in each)
            print(f"  {steps:>3} at once: {median['worker_peak_mb']:,.0f} MB (at most {highest:,.0f})")
    if "waiting" in options.only:
        found = waiting(500_000, options.bytes)
        report.add("waiting", [found])
        taken = f"{found['redis_bytes']:,.0f} B in Redis, {found['producer_bytes']:,.0f} B in its producer"
        print(f"a prompt that waits: {taken}")
    if "expiry" in options.only:
        found = expiry(100_000)
        report.add("expiry", [found])
        held = ", ".join(f"{name} {found[name] / 1e6:,.3f} MB" for name in ("before", "delivered", "after"))
        print(f"Redis when all has expired: {held}: {100 * found['drift']:+.2f} %")
    report.write()
    return 1 if wrong else 0


def level(options: argparse.Namespace, report: Report) -> int:
    """The sizes, in alternating rounds; how many outcomes were wrong."""
    sizes = [int(size) for size in options.sizes.split(",")]
    rounds: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for n in range(options.rounds):
        for size in sizes:
            rounds[size].append(one_round(size, options.bytes, NICE if n % 2 == 0 else 0))
    names = ("ours_us", "producer_us", "worker_us", "server_us", "worker_peak_mb", "server_peak_mb", "producer_peak_mb")
    names += ("worker_start_s", "seconds", "emulator_us")
    names += ("jobs", "commands_per_prompt", "redis_bytes_per_prompt")
    print(f"{options.bytes} B, one batch, {options.rounds} rounds")
    found: dict[int, dict[str, float]] = {}
    samples = rounds[sizes[-1]][0]["samples"]
    wrong = 0
    for size in sizes:
        for one in rounds[size]:
            del one["samples"]
            wrong += one["wrong"]
        found[size] = report.add(str(size), rounds[size])
    print(f"{'prompts':24}" + "".join(f"{size:>12,}" for size in sizes))
    for name in names:
        print(f"{name:24}" + "".join(f"{found[size][name]:>12,.{4 if 'commands' in name else 1}f}" for size in sizes))
    scripts(rounds, report)
    print(f"CPU per prompt, largest against smallest: {found[sizes[-1]]['ours_us'] / found[sizes[0]]['ours_us']:.2f} x")
    if options.plot:
        options.plot.write_text(plot(samples, f"{sizes[-1]:,} prompts of {options.bytes:,} B"))
    return wrong


def scripts(rounds: dict[int, list[dict[str, Any]]], report: Report) -> None:
    """The longest time that each script has blocked the server: medians of the rounds of each kind."""
    print(
        f"longest time of each script, ms (of the calls over {SLOW_US / 1000:g} ms: nine of ten took at most; how many)"
    )
    for nice, kind in ((NICE, "the others at nice 10"), (0, "all alike")):
        for size, each in rounds.items():
            some = [one for one in each if one["nice"] == nice]
            if not some:
                continue
            found = report.add(f"scripts, {size}, {kind}", some)
            longest, usual, calls = (
                _by_script(some, what) for what in ("slow_scripts_ms", "p90_of_slow_ms", "slow_calls")
            )
            first = sorted(longest, key=lambda name: -longest[name])[:5]
            taken = ", ".join(f"{name} {longest[name]:.1f} ({usual[name]:.1f}; {calls[name]:,.0f})" for name in first)
            off = f"the server {found['server_switches']:,.0f} times off its core"
            print(f"  {kind}, {size:,}, {off}: {taken}")


def _by_script(rounds: list[dict[str, Any]], what: str) -> dict[str, float]:
    names = {name for one in rounds for name in one[what]}
    return {name: statistics.median(one[what].get(name, 0.0) for one in rounds) for name in names}


if __name__ == "__main__":
    sys.exit(main())
