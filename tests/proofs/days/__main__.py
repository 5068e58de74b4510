"""The worst days on the virtual clock, in full: a day of 429s, a model that stalls, floods of fifty tenants.

python -m tests.days --json FILE [--only NAME]

Prints each claim (``tests/proofs/days/claims.py``) and what was seen; exit 1 where one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tests.proofs.days.claims import fair_claims, quota_claims, slow_claims
from tests.proofs.days.fair_day import fair_day
from tests.proofs.days.quota_day import quota_day
from tests.proofs.days.slow_day import slow_day
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Iterable


DAYS = {
    "quota_learned": partial(quota_day, storm_h=24, calm_h=12, known=False),
    "quota_known": partial(quota_day, storm_h=24, calm_h=12, known=True),
    "stall_30_h": partial(slow_day, stall_h=30),
    "stall_past_48_h": partial(slow_day, stall_h=60),
    "given_up_and_split": partial(slow_day, stall_h=60, policy="split"),
    "given_up": partial(slow_day, stall_h=60, policy="cancel"),
    "floods": partial(fair_day, jobs=200),
}
_CLAIMS = {"quota_learned": quota_claims, "quota_known": quota_claims, "floods": fair_claims}


async def days(url: str, folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """These days, one after the other."""
    return {name: await DAYS[name](url, folder / name) for name in names}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.days")
    parser.add_argument("--json", type=Path, help="write what was seen here")
    parser.add_argument("--only", choices=DAYS, help="one day alone")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ValkeyServer() as valkey, tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(days(valkey.url, Path(folder), [options.only] if options.only else DAYS))
    for name, one in seen.items():
        one["claims"] = _CLAIMS.get(name, slow_claims)(one)
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
