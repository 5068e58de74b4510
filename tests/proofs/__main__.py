"""The long proofs, one after the other, each with its name and how long it usually takes: ``make proofs``.

    python -m tests.proofs --list
    python -m tests.proofs soak failover      only these

All are run, also after one that fails; exit 1 if any did. ``make test`` has a short form of each that has one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import NamedTuple


class Proof(NamedTuple):
    """A proof: what it shows, the arguments of ``python -m tests.NAME``, and its minutes on two quiet cores, about."""

    claim: str
    words: tuple[str, ...]
    minutes: int
    module: str = ""
    """Where it is, if not a command of ``tests``."""


PROOFS = {
    "days": Proof("the worst days on the virtual clock: a day of 429s, a model that stalls, floods", (), 10),
    "deadlines": Proof("a day of prompts with deadlines, against the offline optimum", (), 5),
    "emulator_scale": Proof("the emulator with the largest input that the service takes", (), 5),
    "run_large": Proof("gemqueue run on a million rows: time, memory, and a bar that is true", (), 3),
    "run_soak": Proof("gemqueue run of 50,000 rows, everything killed three times", (), 10),
    "soak": Proof("every fault at once, and a judge", ("--seconds", "600"), 12),
    "failover": Proof("what a failover loses, five rounds a case", ("--rounds", "5"), 15),
    "cluster": Proof(
        "a queue on a Cluster whose node dies, hangs, hands over, moves", ("--rounds", "3"), 5, "tests.proofs.cluster"
    ),
    "matrix": Proof("every server in every way that it may be had", (), 8, "tests.proofs.matrix"),
    "webhooks_latency": Proof("how soon an answer is there: polling against webhooks", (), 15),
    "crashpoints": Proof("die before and after every effect of every role", ("--all",), 8),
    "liepoints": Proof("a lie at every exchange with the provider, once and for a while", ("--all", "--jobs", "2"), 4),
    "simulation": Proof("10,000 seeds of a whole world whose provider lies", ("--seeds", "10000", "--jobs", "2"), 10),
    "mutants": Proof("the code broken on purpose: which check notices", ("--jobs", "2"), 60),
}


def run(name: str) -> bool:
    """Run a proof in the open; whether it held."""
    proof = PROOFS[name]
    _say(f"--- {name}: {proof.claim}; about {proof.minutes} minutes")
    begun = time.monotonic()
    module = proof.module or f"tests.{name}"
    held = subprocess.run([sys.executable, "-m", module, *proof.words], check=False).returncode == 0
    _say(f"--- {name} {'holds' if held else 'FAILED'} after {(time.monotonic() - begun) / 60:.1f} minutes")
    return held


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.proofs")
    parser.add_argument("proof", nargs="*", help="only these")
    parser.add_argument("--list", action="store_true", help="print the proofs and how long each takes")
    options = parser.parse_args()
    if unknown := sorted(set(options.proof) - PROOFS.keys()):
        parser.error(f"there is no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    chosen = options.proof or list(PROOFS)
    for name in chosen:
        _say(f"{name:<17} {PROOFS[name].minutes:>3} min  {PROOFS[name].claim}")
    _say(f"{'together':<17} {sum(PROOFS[name].minutes for name in chosen):>3} min, about, on two quiet cores")
    if options.list:
        return 0
    failed = [name for name in chosen if not run(name)]
    _say(f"failed: {', '.join(failed)}" if failed else f"all {len(chosen)} hold")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
