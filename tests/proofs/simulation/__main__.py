"""Run seeds of the simulation.

    python -m tests.simulation --seeds 2000 --start 0 --json FILE
    python -m tests.simulation --replay SEED

A seed that breaks an invariant prints its history, one line per effect: virtual time, process, effect, result. The same
seed at the same commit gives the same history, wherever it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.proofs.simulation.runner import quiet, report, run_seed, run_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proofs.simulation.runner import Run

_HASH_SEED = "PYTHONHASHSEED"


def _replay(seed: int, *, lies: bool) -> int:
    with quiet(trace=True):
        run = run_seed(seed, trace=True, lies=lies)
    lines = [*run.history, f"seed {seed}: {run.seconds:.1f} s, {run.prompts} prompts, {run.jobs} jobs, {run.faults}"]
    lines += run.violations or ["every invariant holds"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if run.violations else 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--stop-at-first", action="store_true", help="end at the first seed that breaks something")
    parser.add_argument("--no-lies", action="store_true", help="the provider says nothing that is not so")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--replay", type=int, nargs="+", metavar="SEED", help="run these seeds and print their history")
    options = parser.parse_args()
    if options.replay:
        return max(_replay(seed, lies=not options.no_lies) for seed in options.replay)
    found = report(_until_broken(options), options.start, options.jobs)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    broken = found["violations"]
    sys.stdout.write(json.dumps(found | {"violations": len(broken)}) + "\n")
    if broken:
        sys.stdout.flush()
        _replay(broken[0]["seed"], lies=not options.no_lies)
        for each in broken[:20]:
            sys.stdout.write(f"seed {each['seed']}: {'; '.join(each['violations'][:3])}\n")
        sys.stdout.write(f"{len(broken)} seeds break something: python -m tests.simulation --replay SEED\n")
    return 1 if broken else 0


def _until_broken(options: argparse.Namespace) -> Iterator[Run]:
    for run in run_seeds(options.start, options.seeds, options.jobs, lies=not options.no_lies):
        yield run
        if run.violations and options.stop_at_first:
            return


if __name__ == "__main__":
    if os.environ.get(_HASH_SEED) != "0":  # the order of a set of strings is part of what a seed must repeat
        argv = [sys.executable, "-m", "tests.proofs.simulation", *sys.argv[1:]]
        os.execve(sys.executable, argv, {**os.environ, _HASH_SEED: "0"})  # noqa: S606 - this very command again
    sys.exit(main())
