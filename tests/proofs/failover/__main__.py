"""The table of acknowledged writes lost, per failure of Redis and durability.

python -m tests.failover --rounds 5 --json FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import msgspec

from tests.proofs.failover.lost import FAILOVERS, Lost, measure
from tests.proofs.failover.single import SINGLE, measure_single

_ROW = "{:<46} {:<11} {:>12} {:>12} {:>8} {:>8} {:>8} {:>11}\n"


async def _table(rounds: int, after_s: float) -> list[Lost]:
    found: list[Lost] = []
    for case in SINGLE:
        found += [_shown(await measure_single(case, before_s=1.5)) for _ in range(rounds)]
    for failover in FAILOVERS:
        for durability in ("local", "replicated"):
            found += [_shown(await measure(failover, durability, after_s=after_s)) for _ in range(rounds)]
    return found


def _shown(row: Lost) -> Lost:
    sys.stdout.write(_ROW.format(*(str(value) for value in msgspec.structs.astuple(row))))
    sys.stdout.flush()
    return row


def main() -> int:
    """The command; exit 1 when a failover lost a replicated write."""
    parser = argparse.ArgumentParser(prog="tests.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--after-s", type=float, default=3.0, help="how long the writer goes on after the promotion")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.stdout.write(
        _ROW.format("failover", "durability", "acknowledged", "after it", "unknown", "lost", "over ms", "stalled ms")
    )
    rows = asyncio.run(_table(options.rounds, options.after_s))
    if options.json:
        options.json.write_text(json.dumps([msgspec.to_builtins(row) for row in rows], indent=1))
    replicated = [row for row in rows if row.failover in FAILOVERS and row.durability == "replicated"]
    return 1 if any(row.lost for row in replicated) else 0


if __name__ == "__main__":
    sys.exit(main())
