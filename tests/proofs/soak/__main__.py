"""The soak as a command: ``make soak SECONDS=600 SEED=1 JSON=F``, or python -m tests.soak --seconds 600 --seed 1.

Exit 0 when every promise was kept, else 1, with what broke. The seed decides what happens and in which order; when
exactly is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.proofs.soak.chaos import Options, soak


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the disturbances last")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--per-s", type=float, default=40.0, help="prompts a second and producer, about")
    parser.add_argument(
        "--lies", action=argparse.BooleanOptionalAction, default=True, help="whether the provider lies, too"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for logs and histories, which stays")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    options = Options(given.seconds, given.seed, given.producers, given.workers, given.per_s, lies=given.lies)
    with tempfile.TemporaryDirectory(prefix="gq-soak-") as folder:
        place = given.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(soak(place, options))
    shown = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    sys.stdout.write(f"{shown}\n{'every promise was kept' if report.holds else 'A PROMISE IS BROKEN'}\n")
    if given.json:
        given.json.write_text(f"{shown}\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
