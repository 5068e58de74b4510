"""Die before and after every effect of every role, restart, and hold what is left against the promises.

    python -m tests.crashpoints --list
    python -m tests.crashpoints --all --json FILE

A point is ``effect:before`` or ``effect:after``. For each, a process dies exactly there, as ``kill -9`` would; another
is started and drains the queue; ``Processes.judge`` decides. Workers die in a scenario of the table below, the caller's
process in ``tests.crash_client``, the HTTP server and the commands in the test that ``TESTS`` names. The list of
effects is the code's own, so a new effect without a scenario is an error here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.store import codec
from tests.emulator_process import EmulatorProcess
from tests.proofs import crash_client
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import ROOT, Processes, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

ATTEMPTS_AT_ONCE = 4
_PLAIN = tuple(f"prompt {n}" for n in range(12))


class Scenario(msgspec.Struct, frozen=True):
    """What makes a worker come past an effect."""

    texts: Sequence[str] = _PLAIN
    faults: Sequence[dict[str, Any]] = ()
    cancel: bool = False
    job_s: float = 0.1
    deadline_s: float = 0.0
    settings: dict[str, Any] = {}


_IN_DOUBT = Scenario(faults=({"on": "create", "do": "lost_after", "nth": [1]},))
_DEAD = Scenario(faults=({"on": "create", "do": "lost_before", "nth": [1]},))
_NO_QUOTA = Scenario(faults=({"on": "create", "do": "429", "nth": [1]},))
_NO_MONEY = Scenario(
    faults=({"on": "create", "do": "spend_cap", "nth": [1]},), settings={"backoff_max_s": 0.1, "quota_backoff_s": 0.1}
)
_POLICY: dict[str, Any] = {"deadline_policy": "flex", "deadline_margin_s": 1.0, "interactive_per_min_max": 60_000}
_LATE = Scenario(deadline_s=3600, settings=_POLICY)
_OUTRUN = Scenario(deadline_s=86_420, job_s=60.0, settings=_POLICY | {"flex_lead_s": 86_402.0})
_EARLY = Scenario(job_s=2.0, settings={"delete_files": "running"})
_MISSED = msgspec.structs.replace(_EARLY, faults=({"on": "job", "do": "needs_input_running"},))
_REFUSED = Scenario(texts=(*_PLAIN, "[[fault:refuse_line]]"))

SCENARIOS: dict[Effect, Scenario] = {
    Effect.PACK_CLAIM: Scenario(),
    Effect.PACK_PACK: Scenario(),
    Effect.PACK_RELEASE: Scenario(),
    Effect.SUBMIT_CLAIM: Scenario(),
    Effect.SUBMIT_RESERVE: Scenario(),
    Effect.SUBMIT_SHRINK: _NO_QUOTA,
    Effect.SUBMIT_SUSPEND: _NO_MONEY,
    Effect.SUBMIT_UPLOAD: Scenario(),
    Effect.SUBMIT_BEGIN: Scenario(),
    Effect.SUBMIT_CREATE: Scenario(),
    Effect.SUBMIT_ACCEPT: Scenario(),
    Effect.SUBMIT_DELETE: _IN_DOUBT,
    Effect.SUBMIT_FENCE: _IN_DOUBT,
    Effect.SUBMIT_REOPEN: _DEAD,
    Effect.SUBMIT_SPLIT: _REFUSED,
    Effect.SUBMIT_END: _REFUSED,
    Effect.SUBMIT_RELEASE: _REFUSED,
    Effect.TRACK_CLAIM: Scenario(),
    Effect.TRACK_CANCEL: Scenario(cancel=True, job_s=3.0),
    Effect.TRACK_DELETE: _EARLY,
    Effect.TRACK_RESTART: _MISSED,
    Effect.TRACK_END: Scenario(),
    Effect.TRACK_RELEASE: Scenario(job_s=1.0),
    Effect.RESOLVE_CLAIM: Scenario(),
    Effect.RESOLVE_ASK: _LATE,
    Effect.RESOLVE_SETTLE: Scenario(),
    Effect.RESOLVE_REQUEUE: Scenario(texts=(*_PLAIN, "[[fault:internal:1]]")),
    Effect.RESOLVE_QUARANTINE: Scenario(texts=(*_PLAIN, "[[fault:doubled]]")),
    Effect.RESOLVE_DELETE: Scenario(),
    Effect.RESOLVE_CLOSE: Scenario(),
    Effect.RESOLVE_FORGET: Scenario(),
    Effect.RESOLVE_RELEASE: Scenario(faults=({"on": "download", "do": "503", "nth": [1]},)),
    Effect.RESCUE_CLAIM: _LATE,
    Effect.RESCUE_DIVERT: _LATE,
    Effect.RESCUE_RESCUE: _OUTRUN,
    Effect.RESCUE_RELEASE: _LATE,
}
_DIES = "tests/stages/reconcile/test_command.py::test_a_reconcile_that_dies_anywhere_is_done_by_the_next"
_RETURNS = "tests/stages/test_returning.py::test_a_return_that_dies_is_done_by_the_next[{effect}-{when}]"
_DECIDES = "tests/stages/test_belief.py::test_a_decision_that_dies_is_made_by_the_next[{effect}-{when}]"
TESTS: dict[Effect, str] = {
    Effect.DECIDE_CLAIM: _DECIDES,
    Effect.DECIDE_DECIDE: _DECIDES,
    Effect.PRODUCE_REPLAY: "tests/stages/test_dead.py::test_a_replay_that_dies_is_done_or_not[{when}]",
    Effect.SERVE_ANNOUNCE: "tests/serve/test_door.py::test_a_server_may_die_around_an_event[{when}]",
    Effect.RETURN_CLAIM: _RETURNS,
    Effect.RETURN_END: _RETURNS,
    Effect.RETURN_CLOSE: _RETURNS,
    Effect.RECONCILE_CLAIM: _DIES + "[{effect}-{when}]",
    Effect.RECONCILE_ADOPT: _DIES + "[{effect}-{when}]",
    Effect.RECONCILE_REBUILD: _DIES + "[{effect}-{when}]",
    Effect.RECONCILE_RESUME: _DIES + "[{effect}-{when}]",
    Effect.RECONCILE_CANCEL: _DIES + "[{effect}-{when}]",
    Effect.RECONCILE_DELETE: _DIES + "[{effect}-{when}]",
}
"""These happen in commands and in the HTTP server; the test runs in a process of its own."""


def points(role: str = "") -> list[str]:
    """Every crash point, or those of one role. Raises when an effect has no scenario."""
    bare = set(Effect) - set(SCENARIOS) - crash_client.EFFECTS - set(TESTS)
    if bare:
        raise AssertionError(f"effects without a scenario: {sorted(bare)}")
    effects = [effect for effect in Effect if effect.startswith(f"{role}.") or not role]
    return [f"{effect}:{when}" for effect in effects for when in ("before", "after")]


class Emulators:
    """Running emulators, by how long their jobs take: each serves one point after another. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: dict[float, list[EmulatorProcess]] = {}
        self._all: list[EmulatorProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for emulator in self._all:
            emulator.kill()

    @asynccontextmanager
    async def lend(self, job_s: float) -> AsyncGenerator[EmulatorProcess]:
        """One that nobody else uses meanwhile."""
        free = self._free.setdefault(job_s, [])
        if not free:
            self._all.append(made := EmulatorProcess(self._folder / f"emulator{len(self._all)}", job_s=job_s))
            free.append(await asyncio.to_thread(made.start))
        emulator = free.pop()
        yield emulator
        free.append(emulator)  # not after an error: what went wrong there stays there


async def die_at(point: str, valkey: ValkeyServer, folder: Path, emulators: Emulators) -> None:
    """Run one point; raises AssertionError where a promise is broken or nobody dies there."""
    effect = Effect(point.partition(":")[0])
    if effect in crash_client.EFFECTS:
        await crash_client.die_at(point, valkey, folder)
    elif effect in TESTS:
        await _test(named_test(point))
    else:
        async with emulators.lend(SCENARIOS[effect].job_s) as emulator:
            await _worker_dies_at(point, SCENARIOS[effect], valkey, folder, emulator)


def named_test(point: str) -> str:
    """The test that covers a point of ``TESTS``."""
    effect, _, when = point.partition(":")
    return TESTS[Effect(effect)].format(effect=effect, when=when)


async def _test(name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")[-500:]


async def _worker_dies_at(
    point: str, scenario: Scenario, valkey: ValkeyServer, folder: Path, emulator: EmulatorProcess
) -> None:
    queue = f"c{secrets.token_hex(6)}"
    async with Processes(folder, valkey, queue, scenario.settings, lent=emulator) as world:
        world.emulator.faults(list(scenario.faults))
        keys = await world.submit(scenario.texts, segment_prompts=5, deadline_s=scenario.deadline_s)
        doomed = world.start_worker(GEMQUEUE_CRASH_AT=f"{point}:1")
        if scenario.cancel:
            await _cancel_when_submitted(world, keys)

        async def dead() -> bool:
            return not doomed.alive

        await until(dead, what=f"dead at {point}")
        assert doomed.process.returncode == CRASH_EXIT_CODE, f"exit code {doomed.process.returncode}"
        world.start_worker()
        await world.drained()
        found = await world.judge()
        if not scenario.cancel:
            plain = [key for key, text in zip(keys, scenario.texts, strict=True) if "refuse" not in text]
            wrong = [key for key in plain if "response" not in found[key]]
            assert not wrong, f"{len(wrong)} prompts failed"


async def _cancel_when_submitted(world: Processes, keys: Sequence[str]) -> None:
    async def submitted() -> bool:
        return (await world.store.counts()).get("submitted", 0) > 0

    await until(submitted, what="submitted")
    for key in keys:
        segment, _, index = key.rpartition(".")
        line = msgspec.json.encode({"key": key, "failure": {"kind": "cancelled"}})
        await world.store.cancel(segment, int(index), codec.compress(line))


async def run(chosen: Sequence[str], valkey: ValkeyServer) -> dict[str, str]:
    """Run points, a few at once; the verdict on each: ok, or what broke."""
    gate = asyncio.Semaphore(ATTEMPTS_AT_ONCE)

    async def one(point: str, emulators: Emulators) -> tuple[str, str]:
        async with gate:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    await die_at(point, valkey, Path(folder), emulators)
                except Exception as error:  # noqa: BLE001 - whatever breaks is the verdict, and the others go on
                    return point, f"{type(error).__name__}: {error}"
                return point, "ok"

    with tempfile.TemporaryDirectory() as folder, Emulators(Path(folder)) as emulators:
        return dict(await asyncio.gather(*(one(point, emulators) for point in chosen)))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.crashpoints")
    parser.add_argument("--list", action="store_true", help="print every crash point")
    parser.add_argument("--all", action="store_true", help="run every crash point")
    parser.add_argument("--json", type=Path, help="write the verdicts here")
    options = parser.parse_args()
    if options.list or not options.all:
        sys.stdout.write("\n".join(points()) + "\n")
        return 0
    with ValkeyServer() as valkey:
        verdicts = asyncio.run(run(points(), valkey))
    broken = {point: verdict for point, verdict in verdicts.items() if verdict != "ok"}
    for point, verdict in verdicts.items():
        sys.stdout.write(f"{point:32} {verdict}\n")
    sys.stdout.write(f"{len(verdicts) - len(broken)} of {len(verdicts)} hold\n")
    if options.json:
        options.json.write_text(json.dumps({"points": len(verdicts), "broken": broken, "verdicts": verdicts}, indent=1))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
