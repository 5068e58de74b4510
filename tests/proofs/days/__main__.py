"""The worst days on the virtual clock, in full: a day of 429s, and a model that stalls.

python -m tests.days --json FILE

Prints each claim (``tests/proofs/days/claims.py``) and what was seen; exit 1 where one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog

from tests.proofs.days.claims import quota_claims, slow_claims
from tests.proofs.days.quota_day import quota_day
from tests.proofs.days.slow_day import slow_day
from tests.valkey_server import ValkeyServer


async def days(url: str, folder: Path) -> dict[str, Any]:
    """Every day, one after the other."""
    return {
        "quota_learned": await quota_day(url, folder / "q1", storm_h=24, calm_h=12, known=False),
        "quota_known": await quota_day(url, folder / "q2", storm_h=24, calm_h=12, known=True),
        "stall_30_h": await slow_day(url, folder / "s1", stall_h=30),
        "stall_past_48_h": await slow_day(url, folder / "s2", stall_h=60),
        "given_up_and_split": await slow_day(url, folder / "s3", stall_h=60, policy="split"),
        "given_up": await slow_day(url, folder / "s4", stall_h=60, policy="cancel"),
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.days")
    parser.add_argument("--json", type=Path, help="write what was seen here")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ValkeyServer() as valkey, tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(days(valkey.url, Path(folder)))
    for one in seen.values():
        one["claims"] = quota_claims(one) if "known_limit" in one else slow_claims(one)
    text = json.dumps(seen, indent=1)
    sys.stdout.write(f"{text}\n")
    for name, one in seen.items():
        for claim, holds in one["claims"].items():
            sys.stdout.write(f"{'ok  ' if holds else 'NOT '} {name}: {claim}\n")
    if options.json:
        options.json.write_text(text)
    return 0 if all(all(one["claims"].values()) for one in seen.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
