"""What a queue on a Cluster goes through when the node that has it changes, prompts coming and workers running.

python -m tests.proofs.cluster --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.worlds.cluster import NODE_TIMEOUT_MS, Cluster
from tests.worlds.load import under_load
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.valkey_server import ValkeyServer

_SETTINGS = {"replicate_s": 0.3, "submit_timeout_s": 120.0}
_ROW = "{:<34} {:>9} {:>11} {:>10} {:>9} {:>6} {:>13}\n"
_WORKERS = 2


class Round(NamedTuple):
    """One round: prompts acknowledged, seconds until another node led and without an acknowledgement, and the ends."""

    case: str
    prompts: int
    led_after_s: float
    stalled_s: float
    keys: int
    lost: int
    bought_twice: int


async def _killed(cluster: Cluster, tag: str) -> int:
    """``kill -9``; it comes back as a replica."""
    owner = await cluster.owner(tag)
    owner.kill()
    await _another_leads(cluster, tag, owner)
    owner.start()
    return 0


async def _hung(cluster: Cluster, tag: str) -> int:
    """SIGSTOP: its connections stay open and say nothing."""
    owner = await cluster.owner(tag)
    heir = await cluster.replica_of(owner)
    owner.signal(signal.SIGSTOP)
    try:
        await until(lambda: cluster.leads(heir), what="the replica leads")
    finally:
        owner.signal(signal.SIGCONT)
    return 0


async def _handed_over(cluster: Cluster, tag: str) -> int:
    """CLUSTER FAILOVER, as for an upgrade of the node."""
    owner = await cluster.owner(tag)
    await cluster.ask(await cluster.replica_of(owner), "CLUSTER", "FAILOVER")
    await _another_leads(cluster, tag, owner)
    return 0


async def _moved(cluster: Cluster, tag: str) -> int:
    """The slot moved to another master, ten keys at a time; how many."""
    owner = await cluster.owner(tag)
    to = next(node for node in await cluster.masters() if node is not owner)
    return await cluster.move(tag, to, pause_s=0.02)


async def _another_leads(cluster: Cluster, tag: str, earlier: ValkeyServer) -> None:
    async def leads() -> bool:
        return await cluster.owner(tag) is not earlier

    await until(leads, what="another node leads")


_CASES: dict[str, Callable[[Cluster, str], Awaitable[int]]] = {
    "kill -9 of the owner": _killed,
    "the owner hangs (SIGSTOP)": _hung,
    "CLUSTER FAILOVER": _handed_over,
    "the slot is moved (MIGRATE)": _moved,
}


async def _round(cluster: Cluster, case: str) -> Round:
    with tempfile.TemporaryDirectory(prefix="gqc-") as folder:
        async with Processes(Path(folder), cluster, f"q{secrets.token_hex(4)}", _SETTINGS) as world:
            for _ in range(_WORKERS):
                world.start_worker()
            begun = 0.0
            async with under_load(world, after_s=2.0) as load:
                begun = time.monotonic()
                keys = await _CASES[case](cluster, world.store.prefix)
                led_after_s = time.monotonic() - begun
            with contextlib.suppress(AssertionError):
                await world.drained(180)
            lost = len(world.requests) - len(await world.outcomes())
            twice = len(world.emulator.ledger()["bought_twice"])
    await until(cluster.is_whole, what="the Cluster is whole again")
    return Round(case, load.prompts, led_after_s, load.stalled_s, keys, lost, twice)


async def _rounds(count: int, only: list[str]) -> list[Round]:
    found: list[Round] = []
    async with Cluster() as cluster:
        for case in only or _CASES:
            for _ in range(count):
                row = await _round(cluster, case)
                shown = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row)
                sys.stdout.write(_ROW.format(*shown))
                sys.stdout.flush()
                found.append(row)
    return found


def main() -> int:
    """The command; exit 1 when anything was lost or bought twice."""
    parser = argparse.ArgumentParser(prog="tests.proofs.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--case", action="append", default=[], choices=list(_CASES), help="only this one")
    options = parser.parse_args()
    sys.stdout.write(f"three masters and replicas, node-timeout {NODE_TIMEOUT_MS} ms, {_WORKERS} workers\n")
    sys.stdout.write(_ROW.format("case", "prompts", "led after s", "stalled s", "keys", "lost", "bought twice"))
    rows = asyncio.run(_rounds(options.rounds, options.case))
    return 1 if any(row.lost or row.bought_twice for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
