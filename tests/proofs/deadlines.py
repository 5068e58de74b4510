"""A day of prompts with deadlines on the virtual clock: who was in time, which way each went, and what that cost.

    python -m tests.deadlines --json FILE
    python -m tests.deadlines --waves 2        the short form, as in CI

Jobs usually take half an hour; a third of them stalls for thirty. Flex refuses a fifth of the calls. Waves of prompts
come with deadlines from forty minutes to a day. What was spent, by the emulator's own books, is held against the
offline optimum: each prompt bought once, at half price, which is what a batch costs and Flex too; whoever knew all
turnarounds beforehand would have to pay that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.clock import TEST_CLOCK_ENV, FileClock
from gemqueue.language.answers import Answer
from gemqueue.states import Step
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.prices import Usage, batch_usd, usage_of
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import MODEL, Processes, until

if TYPE_CHECKING:
    from collections.abc import Sequence

JOB_S = 1800.0
STALL_S = 30 * 3600.0
STEP_S = 300.0
DEADLINES_S = (2400.0, 5400.0, 3 * 3600.0, 8 * 3600.0, 24 * 3600.0)
"""What the prompts of a wave want, a fifth each."""
HISTORY_PROMPTS = 60
POLICY: dict[str, Any] = {
    "deadline_policy": "standard",
    "deadline_margin_s": 900.0,
    "flex_lead_s": 3600.0,
    "standard_lead_s": 900.0,
    "interactive_per_min_max": 60_000,
    "batch_prompts_max": 20,
    "lease_s": 3600.0,
    "poll_max_s": 300.0,
    "quota_backoff_s": 60.0,
    "backoff_max_s": 600.0,
    "retry_max_s": 600.0,
}
FAULTS = [
    {"on": "job", "do": "pending", "p": 0.33, "seconds": STALL_S},
    {"on": "generate", "do": "503", "p": 0.1},
    {"on": "generate", "do": "429", "p": 0.1},
]


class Report(msgspec.Struct, kw_only=True):
    """What came of it. ``optimum_usd`` is every prompt once at half price; ``ratio`` what was spent over that."""

    prompts: int = 0
    with_deadline: int = 0
    in_time: int = 0
    worst_slack_s: float = 0.0
    virtual_hours: float = 0.0
    lanes: dict[str, dict[str, Any]] = {}
    batch_usd: float = 0.0
    interactive_usd: float = 0.0
    spent_usd: float = 0.0
    optimum_usd: float = 0.0
    ratio: float = 0.0
    counts: dict[str, int] = {}


class Day:
    """The world and its clock."""

    def __init__(self, world: Processes, clock: Path) -> None:
        self.world = world
        self._clock = clock
        self.offset_s = 0.0
        self.wanted_ms: dict[str, int] = {}
        self.seen_ms: dict[str, int] = {}

    async def submit(self, texts: Sequence[str], deadline_s: float) -> None:
        """Prompts that are wanted by then."""
        at_ms = self.world.store.clock.now_ms() + int(deadline_s * 1000)
        for key in await self.world.submit(texts, segment_prompts=5, deadline_s=deadline_s):
            if deadline_s:
                self.wanted_ms[key] = at_ms

    async def step(self) -> None:
        """Five minutes go by, and everybody does what is due."""
        self.offset_s += STEP_S
        self._clock.write_text(str(self.offset_s))
        await until(self._quiet, 120, "quiet")
        now_ms = self.world.store.clock.now_ms()
        for key in await self.world.outcomes():
            self.seen_ms.setdefault(key, now_ms)

    async def _quiet(self) -> bool:
        """Nothing is due, and nobody holds anything."""
        store = self.world.store
        if await store.overdue("emulated.local", tuple(Step)):
            return False
        records = [store.key("batch", id_) for id_ in await store.open_batches()]
        records += [store.key(what, str(lane.lane)) for lane in await store.lanes() for what in ("lane", "rescue")]
        for record in records:
            if int(await store.redis.hget(record, "lease_until") or 0):
                return False
        return not await store.overdue("emulated.local", tuple(Step))


async def run(folder: Path, valkey: ValkeyServer, waves: int) -> Report:
    """The whole day; raises AssertionError where a promise is broken."""
    clock = folder / "clock"
    clock.write_text("0")
    env = {TEST_CLOCK_ENV: f"file://{clock}"}
    queue = f"d{secrets.token_hex(6)}"
    options: dict[str, Any] = {"clock": FileClock(clock), "emulator_env": env, "job_s": JOB_S, "seed": 1}
    async with Processes(folder, valkey, queue, POLICY, **options) as world:
        day = Day(world, clock)
        world.start_worker(**env)
        await day.submit([f"history {n}" for n in range(HISTORY_PROMPTS)], 0)
        for _ in range(16):
            await day.step()
        world.emulator.faults(FAULTS)
        for wave in range(waves):
            for n, deadline_s in enumerate(DEADLINES_S):
                await day.submit([f"wave {wave}, {n}: prompt {i}" for i in range(20)], deadline_s)
            for _ in range(9):
                await day.step()
        while len(day.seen_ms) < len(world.requests):
            await day.step()
        return await _report(day)


async def _report(day: Day) -> Report:
    world = day.world
    found = await world.outcomes()
    status = await read_status(world.settings)
    ledger = world.emulator.ledger()
    assert all("response" in outcome for outcome in found.values())
    assert ledger["bought_twice"] == []
    slacks_s = [(at_ms - day.seen_ms[key]) / 1000 for key, at_ms in day.wanted_ms.items()]
    report = Report(
        prompts=len(found),
        with_deadline=len(slacks_s),
        in_time=sum(slack_s >= 0 for slack_s in slacks_s),
        worst_slack_s=round(min(slacks_s), 1),
        virtual_hours=round(day.offset_s / 3600, 1),
        lanes={lane.lane.rpartition("/")[2]: msgspec.to_builtins(lane.cost) for lane in status.lanes},
        batch_usd=round(sum(job["usd"] for job in ledger["jobs"]), 6),
        interactive_usd=ledger["interactive"]["usd"],
        counts={name: status.counts.get(name, 0) for name in ("diverted", "rescued", "late", "interactive_in_doubt")},
    )
    report.spent_usd = round(report.batch_usd + report.interactive_usd, 6)
    report.optimum_usd = round(sum(_half_usd(outcome) for outcome in found.values()), 6)
    report.ratio = round(report.spent_usd / report.optimum_usd, 4)
    return report


def _half_usd(outcome: dict[str, Any]) -> float:
    usage: Usage = usage_of([Answer(outcome["key"], msgspec.json.encode(outcome["response"]))])
    return batch_usd(MODEL, usage) or 0.0


def show(report: Report) -> str:
    """The table."""
    lines = [
        f"{report.in_time} of {report.with_deadline} prompts in time, the closest by {report.worst_slack_s:,.0f} s",
        f"{'lane':10}{'answers':>9}{'USD':>12}{'saved USD':>12}",
    ]
    for lane, cost in sorted(report.lanes.items()):
        lines.append(f"{lane:10}{cost['answers']:>9}{cost['usd']:>12.6f}{cost['saved_usd']:>12.6f}")
    lines.append(
        f"spent {report.spent_usd:.6f} USD by the emulator's books, offline optimum {report.optimum_usd:.6f}: "
        f"{report.ratio:.3f} x; {report.counts}"
    )
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.deadlines")
    parser.add_argument("--waves", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the report here")
    options = parser.parse_args()
    with ValkeyServer() as valkey, tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(Path(folder), valkey, options.waves))
    sys.stdout.write(show(report) + "\n")
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(report), indent=1))
    return 0 if report.in_time == report.with_deadline else 1


if __name__ == "__main__":
    sys.exit(main())
