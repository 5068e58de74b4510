"""Does it stay level? The same load at growing sizes: CPU per prompt, and the memory of every process over time.

    python benchmarks/scale.py --sizes 10000,100000,1000000 --rounds 3 [--json FILE] [--plot FILE.svg]

One batch per run where the size allows it. Memory is sampled four times a second; the plot is a plain SVG.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness import Pipeline, machine
from pipeline import medians

ROLES = ("worker", "server", "emulator")
COLOURS = {"worker": "#1f77b4", "server": "#d62728", "emulator": "#7f7f7f"}


class Sampler:
    """Samples the resident memory of processes until stopped."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.samples: list[dict[str, float]] = []
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stop.wait(0.25):
            sample = {"t": time.monotonic() - started}
            for role, pid in self._pids.items():
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                sample[role] = pages * 4096 / 1e6
            self.samples.append(sample)

    def stop(self) -> list[dict[str, float]]:
        """The samples, in MB."""
        self._stop.set()
        self._thread.join()
        return self.samples


def one_round(size: int) -> dict[str, Any]:
    """One size, one fresh pipeline, one batch."""
    settings = {
        "batch_prompts_max": size,
        "batch_tokens_max": 2_000_000_000,
        "batch_bytes_max": 2_000_000_000,
        "memory_bytes_max": 16_000_000_000,
        "linger_s": 600.0,
    }
    with Pipeline(**settings) as pipeline:
        processes = {role: getattr(pipeline, role) for role in ROLES}
        sampler = Sampler({role: process.pid for role, process in processes.items()})
        start_s = {role: process.cpu_s() for role, process in processes.items()}
        report, _ = pipeline.produce("--prompts", str(size))
        used = {role: process.cpu_s() - start_s[role] for role, process in processes.items()}
        samples = sampler.stop()
        slow = pipeline.slowest_scripts_ms()
    per_prompt = 1e6 / size
    figures = {f"{role}_us": seconds * per_prompt for role, seconds in used.items()}
    peaks = {f"{role}_peak_mb": max(sample[role] for sample in samples) for role in ROLES}
    ours_us = figures["worker_us"] + figures["server_us"] + report["cpu_s"] * per_prompt
    return {
        "seconds": report["seconds"],
        "wrong": report["wrong"] + report["failed"],
        "producer_us": report["cpu_s"] * per_prompt,
        "producer_peak_mb": report["peak_mb"],
        "ours_us": ours_us,
        "slowest_script_ms": max(slow.values(), default=0.0),
        **figures,
        **peaks,
        "samples": samples,
    }


def plot(samples: list[dict[str, float]], title: str) -> str:
    """The samples as an SVG of 800 x 400."""
    t_max = max(sample["t"] for sample in samples) or 1.0
    mb_max = max(sample[role] for sample in samples for role in ROLES) * 1.1
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 400" font-family="sans-serif" font-size="12">']
    lines.append('<rect width="800" height="400" fill="white"/>')
    lines.append(f'<text x="60" y="20">{title}: resident MB over {t_max:.0f} s</text>')
    for n in range(5):
        y = 360 - n * 80
        lines.append(f'<line x1="60" x2="780" y1="{y}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="8" y="{y + 4}">{mb_max * n / 4:,.0f}</text>')
    for n, role in enumerate(ROLES):
        points = " ".join(f"{60 + 720 * s['t'] / t_max:.1f},{360 - 320 * s[role] / mb_max:.1f}" for s in samples)
        lines.append(f'<polyline fill="none" stroke="{COLOURS[role]}" stroke-width="2" points="{points}"/>')
        lines.append(f'<text x="{70 + n * 110}" y="385" fill="{COLOURS[role]}">{role}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    rounds = {size: [] for size in sizes}
    for _ in range(options.rounds):
        for size in sizes:
            rounds[size].append(one_round(size))
    found = {size: medians(rounds[size]) for size in sizes}
    names = ("ours_us", "producer_us", "worker_us", "server_us", "worker_peak_mb", "server_peak_mb", "producer_peak_mb")
    print(f"{'prompts':>10} " + " ".join(f"{name:>17}" for name in (*names, "slowest_script_ms")))
    for size in sizes:
        print(f"{size:>10,} " + " ".join(f"{found[size][name]:>17.1f}" for name in (*names, "slowest_script_ms")))
    print(f"CPU per prompt, largest against smallest: {found[sizes[-1]]['ours_us'] / found[sizes[0]]['ours_us']:.2f} x")
    if options.plot:
        options.plot.write_text(plot(rounds[sizes[-1]][0]["samples"], f"{sizes[-1]:,} prompts of 1 KB"))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "median": found}, indent=1))
    return 1 if any(one["wrong"] for size in sizes for one in rounds[size]) else 0


if __name__ == "__main__":
    sys.exit(main())
