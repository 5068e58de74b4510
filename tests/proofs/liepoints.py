"""Tell a lie at every exchange with the provider, once and for half a minute, and hold what comes of it to the ledger.

    python -m tests.liepoints --list
    python -m tests.liepoints --all --jobs 2 --json FILE

A point is ``scenario/route:n/kind/once`` or ``.../30s``. The exchanges are those of a run in which nobody lies, the
kinds those that fit their route (``tests/worlds/lying.py``). In each run the real stages work over a real server,
through the real adapter, at the emulator, on a virtual clock; what lies stands between adapter and emulator. A point
holds where every prompt has its right answer, no more rows were bought than there are prompts (calls in doubt may be
bought again, and are counted), nothing is left, and all of it ends in bounded virtual time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import secrets
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from gemqueue.language.gemini.requests import generate_request
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store import codec
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.worker.recovery import Recovery
from tests.leaks import leftovers
from tests.valkey_server import ValkeyServer
from tests.worlds.lying import KINDS, LOST, Lie, LyingTransport
from tests.worlds.stages import ACCOUNT, MODEL, Stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tests.emulator_process import EmulatorProcess

LASTS_S = {"once": 0.0, "30s": 30.0, "8h": 8 * 3600.0}
TOLD = ("once", "30s")
"""How long everything is told; the rest is for single points."""
VIRTUAL_S_MAX = 12 * 3600.0
"""Within which all of it must have ended: what takes as long as a belief of hours may take once, and no longer."""
_STEPS_MAX = 4000
_PAUSE_S_MAX = 10.0
"""A step that sleeps less is waiting for its turn; one that sleeps more renews its lease beside its work."""
_SLICE = 40
_TEXTS = ("one", "two", "three", "four")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A run: its prompts, what befalls it whatever is told, and at which exchanges lies are told (all where empty).

    These are routes, or single exchanges of them. ``apart`` puts each prompt into a segment, hence a batch, of its own.
    ``forgets`` throws the server back to the moment before the first create, and has another take its place.
    """

    texts: Sequence[str] = _TEXTS
    script: dict[str, tuple[bool, Lie]] = {}
    faults: Sequence[dict[str, Any]] = ()
    settings: dict[str, Any] = {}
    service: str = ""
    at: Sequence[str] = ()
    apart: bool = False
    forgets: bool = False


_POLL_S = {"poll_first_s": 100.0}
SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario(settings=_POLL_S | {"delete_jobs": True}),
    "doubt": Scenario(script={"create:1": (True, LOST)}, settings=_POLL_S, at=("list", "poll:1", "delete_file:1")),
    "shared": Scenario(
        texts=tuple(f"text {n}" for n in range(9)),
        settings=_POLL_S | {"batch_prompts_max": 1, "open_jobs_max": 20},
        at=("list",),
        apart=True,
    ),
    "processing": Scenario(
        faults=({"on": "upload", "do": "processing", "nth": [1], "seconds": 1},), settings=_POLL_S, at=("get_file",)
    ),
    "failed": Scenario(
        faults=({"on": "job", "do": "failed", "nth": [1]},), settings=_POLL_S, at=("poll:2", "poll:3", "create:2")
    ),
    "cancelled": Scenario(
        faults=({"on": "job", "do": "pending", "seconds": 108_000, "nth": [1]},),
        settings=_POLL_S | {"slow_policy": "cancel", "slow_after_s": 600.0},
        at=("cancel",),
    ),
    "changed": Scenario(settings=_POLL_S, at=("list",), forgets=True),
    "flex": Scenario(texts=_TEXTS[:2], settings={"deadline_policy": "flex"}, service="flex", at=("answer",)),
}


class Point(NamedTuple):
    """Where a lie is told, which, and for how long; ``scenario`` alone for none."""

    scenario: str
    at: str = ""
    kind: str = ""
    lasts: str = "once"

    @property
    def name(self) -> str:
        """As it is printed."""
        return "/".join(self)


class World(Stages):
    """Stages whose provider lies, and that do what falls due until nothing is left."""

    def __init__(self, url: str, emulator: EmulatorProcess, scenario: Scenario) -> None:
        super().__init__(url, f"l{secrets.token_hex(6)}", emulator, **({"delete_files": "ended"} | scenario.settings))
        self._begun_ms = self.clock.now_ms()
        self.transport = self._between()
        self.transport.script = dict(scenario.script)
        self.join("")
        self._recovery = Recovery(self.kit)
        self._forgets = scenario.forgets
        if scenario.service:
            self.lane = str(Lane(ACCOUNT, MODEL, Kind.GENERATE).of(scenario.service))

    def _between(self) -> LyingTransport:
        self.provider = GeminiProvider(
            api_key="emulated-local", account=ACCOUNT, base_url=self.emulator.url, emulate=True,
            create_timeout_s=self.settings.create_timeout_s, sleep=self._wait,
        )  # fmt: skip
        return LyingTransport.before(self.provider, self.clock.monotonic)

    @property
    def past_s(self) -> float:
        """Virtual seconds since the start."""
        return (self.clock.now_ms() - self._begun_ms) / 1000

    async def _wait(self, seconds: float) -> None:
        self._move(seconds)

    def _move(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.emulator.advance(seconds)

    async def finish(self) -> None:
        """Do whatever falls due, moving the time on to it, until nothing is left. Raises AssertionError."""
        for _ in range(_STEPS_MAX):
            due: list[tuple[bytes, float]] = await self.store.redis.zrange(
                self.store.key("due", ACCOUNT), 0, 0, withscores=True
            )
            if not due:
                return
            member, at_ms = due[0]
            if at_ms > self.clock.now_ms():
                self._move((at_ms - self.clock.now_ms()) / 1000)
            assert self.past_s <= VIRTUAL_S_MAX, f"after {self.past_s:.0f} s {member.decode()} is still due"
            step, _, id_ = member.decode().partition(" ")
            await (self._forget if self._forgets and step == Step.SUBMIT else self._do)(Step(step), id_)
        raise AssertionError(f"{_STEPS_MAX} steps, and something is still due")

    async def _forget(self, step: Step, id_: str) -> None:
        """Do it, lose what it wrote, and go on when the worker that notices has compared."""
        self._forgets = False
        redis = self.store.redis
        await self.store.greet(ACCOUNT)
        prefix = self.store.key("")
        before = {key: await redis.dump(key) async for key in redis.scan_iter(f"{prefix}*")}
        await self._do(step, id_)
        await redis.delete(*[key async for key in redis.scan_iter(f"{prefix}*")])
        for key, value in before.items():
            await redis.restore(key, 0, value)
        await redis.hset(self.store.key("server", ACCOUNT), mapping={"run_id": "another", "lossless": "0"})
        await self._while_time_passes(self._resumed())

    async def _resumed(self) -> None:
        self._recovery.begin()
        while (await self.store.greet(ACCOUNT))[1]:
            assert self.past_s <= VIRTUAL_S_MAX, f"after {self.past_s:.0f} s nothing may be bought"
            await self.clock.sleep(_PAUSE_S_MAX - 1)
        await self._recovery.stop()

    async def _do(self, step: Step, id_: str) -> None:
        await self._while_time_passes(self.step(step, id_))

    async def _while_time_passes(self, what: Coroutine[Any, Any, Any]) -> None:
        doing = asyncio.create_task(what)
        while not doing.done():
            await asyncio.wait({doing}, timeout=0.02)
            if self.clock.next_wake_s < _PAUSE_S_MAX and not doing.done():
                self._move(max(self.clock.next_wake_s, 0.001))
        await doing

    async def judge(self, scenario: Scenario) -> None:
        """Hold the finished run to the ledger. Raises AssertionError."""
        segments = sorted({key.partition(".")[0] for key in self.keys})
        blobs = await self.store.outcomes([(segment, 0) for segment in segments], 10_000)
        lines = [line for of in blobs for blob in of for line in codec.expand(blob).split(b"\n") if line]
        outcomes: dict[str, Any] = {(found := msgspec.json.decode(line))["key"]: found for line in lines}
        bought, counts = self._bought(), await self.store.counts()
        lost = [key for key in self.keys if key not in outcomes]
        assert not lost, f"lost: {len(lost)} of {len(self.keys)} prompts have no outcome"
        failed = [found["failure"] for found in outcomes.values() if "failure" in found]
        assert not failed, f"failed: {len(failed)} prompts: {failed[0]}"
        self._check_answers(scenario, outcomes)
        allowed = counts.get("interactive_in_doubt", 0)
        again = bought - len(self.keys)
        told = {name: counts[name] for name in ("bought_twice", "bought_again", "lost_answers") if counts.get(name)}
        assert again <= allowed, f"bought: {bought} rows for {len(self.keys)} prompts, counted {told or 'nowhere'}"
        assert again <= 2 * len(self.keys), f"bought: {bought} rows for {len(self.keys)} prompts, though counted"
        assert again >= 0, f"bought: {bought} rows for {len(self.keys)} prompts"
        left = await leftovers(self.store.redis, self.settings.queue)
        assert not left, f"left: {left[0]}"

    def _bought(self) -> int:
        ledger = self.emulator.ledger()
        return int(ledger["rows_bought"]) + int(ledger["interactive"]["calls"])

    def _check_answers(self, scenario: Scenario, outcomes: dict[str, Any]) -> None:
        if scenario.service:
            return
        for key, text in zip(self.keys, scenario.texts, strict=True):
            expected = self.emulator.expect(MODEL, generate_request(text))
            assert outcomes[key]["response"] == expected, f"wrong: {key}"


async def run_point(point: Point, url: str, emulator: EmulatorProcess) -> World:
    """Run one; the finished world. Raises AssertionError where a promise is broken."""
    scenario = SCENARIOS[point.scenario]
    emulator.reset()
    emulator.faults(list(scenario.faults))
    world = World(url, emulator, scenario)
    try:
        if point.at:
            route = point.at.partition(":")[0]
            world.transport.tell(point.at, KINDS[route][point.kind], LASTS_S[point.lasts])
        for texts in [[text] for text in scenario.texts] if scenario.apart else [scenario.texts]:
            await world.submit(*texts)
        await world.finish()
        await world.judge(scenario)
        assert world.transport.told or not point.at, f"never asked: {point.at}"
    finally:
        await world.aclose()
    return world


async def points(url: str, emulator: EmulatorProcess) -> list[Point]:
    """Every point: the exchanges of each scenario in which nobody lies, and what may be told there."""
    found: list[Point] = []
    for name, scenario in SCENARIOS.items():
        world = await run_point(Point(name), url, emulator)
        for at in world.transport.exchanges:
            route = at.partition(":")[0]
            if at not in scenario.script and (not scenario.at or {at, route} & set(scenario.at)):
                found += [Point(name, at, kind, lasts) for kind in KINDS[route] for lasts in TOLD]
    return found


def verdicts(chosen: Sequence[Point] | None) -> list[tuple[Point, str]]:
    """Run these points, or only list all, in worlds of this process; of each what broke, empty where it holds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ValkeyServer() as valkey, tempfile.TemporaryDirectory() as folder:
        emulator = start_emulator(Path(folder) / "emulator")
        try:
            return asyncio.run(_verdicts(chosen, valkey.url, emulator))
        finally:
            emulator.kill()


async def _verdicts(chosen: Sequence[Point] | None, url: str, emulator: EmulatorProcess) -> list[tuple[Point, str]]:
    if chosen is None:
        return [(point, "") for point in await points(url, emulator)]
    found: list[tuple[Point, str]] = []
    for point in chosen:
        try:
            async with asyncio.timeout(120):
                await run_point(point, url, emulator)
        except Exception as error:  # noqa: BLE001 - whatever breaks is the verdict, and the others go on
            found.append((point, f"{type(error).__name__ if not isinstance(error, AssertionError) else ''} {error}"))
        else:
            found.append((point, ""))
    return found


def run(chosen: Sequence[Point], jobs: int) -> list[tuple[Point, str]]:
    """Run points in so many processes; the verdict on each, in their order."""
    slices = [chosen[at : at + _SLICE] for at in range(0, len(chosen), _SLICE)]
    if jobs <= 1:
        return verdicts(chosen)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return [verdict for found in pool.map(verdicts, slices) for verdict in found]


def sample(every: Sequence[Point], count: int, seed: int) -> list[Point]:
    """Some of them, other ones for another seed."""
    return random.Random(seed).sample(list(every), min(count, len(every)))


def _table(found: Sequence[tuple[Point, str]]) -> str:
    told, held = Counter[str](), Counter[str]()
    for point, broken in found:
        kind = f"{point.at.partition(':')[0]}: {point.kind}"
        told[kind] += 1
        held[kind] += not broken
    return "".join(f"{kind:32} {held[kind]:4} of {told[kind]:4} hold\n" for kind in told)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.liepoints")
    parser.add_argument("--list", action="store_true", help="print every lie point")
    parser.add_argument("--all", action="store_true", help="run every lie point")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="run N of them")
    parser.add_argument("--seed", type=int, default=0, help="which N")
    parser.add_argument("--only", default="", help="run those whose names hold this")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--json", type=Path, help="write the verdicts here")
    options = parser.parse_args()
    every = [point for point, _ in verdicts(None)]
    if not (options.all or options.sample or options.only):
        sys.stdout.write("".join(f"{point.name}\n" for point in every) + f"{len(every)} points\n")
        return 0
    chosen = [point for point in every if options.only in point.name]
    found = run(sample(chosen, options.sample, options.seed) if options.sample else chosen, options.jobs)
    broken = {point.name: verdict.strip() for point, verdict in found if verdict}
    sys.stdout.write("".join(f"{name:44} {verdict}\n" for name, verdict in broken.items()) + _table(found))
    sys.stdout.write(f"{len(found) - len(broken)} of {len(found)} hold\n")
    if options.json:
        options.json.write_text(json.dumps({"points": len(found), "held": len(found) - len(broken), "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
