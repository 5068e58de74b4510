"""Running seeds: one, many, many on several cores; and the report."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from tests.proofs.simulation.again import bought_again
from tests.proofs.simulation.judge import counts_of, judge
from tests.proofs.simulation.loop import Stuck, Task
from tests.proofs.simulation.world import SimulatedWorld, repeatable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, MutableMapping, Sequence

_CHUNK = 50
_COLLECTED = 5
"""The garbage of so many seeds is collected at once."""
_KINDS = {
    "crashes": ("process.crash", "process.crash_sent"),
    "pauses": ("process.pause", "process.pause_sent"),
    "lost_replies": ("store.reply_lost", "provider.reply_lost", "provider.5xx_after"),
    "lost_calls": ("store.lost", "provider.lost"),
    "late_effects": ("store.late", "provider.late"),
    "server_restarts": ("store.restart_lost", "store.restart_kept"),
    "refused_calls": ("provider.quota", "provider.5xx"),
    "failed_replicas": ("replicas.short",),
}


_COUNTERS = (
    "answered",
    "failed",
    "cancelled",
    "diverted",
    "rescued",
    "late",
    "interactive_in_doubt",
    "adopted",
    "account_refused",
    "spend_refused",
    "inputs_missed",
    "replayed",
    "ended_returned",
    "returned",
    "requeued",
    "fenced",
    "lost_answers",
    "bought_twice",
    "bought_again",
    "unknown_jobs",
    "concluded_by_age",
)
"""What the report tells of the queue's own counters."""


class Run(msgspec.Struct, frozen=True):
    """One seed's end: what broke, what was injected, how much there was to break, and what the queue counted."""

    seed: int
    violations: list[str]
    faults: dict[str, int]
    prompts: int
    jobs: int
    seconds: float
    history: list[str]
    scenes: list[str]
    counts: dict[str, int]
    again: dict[str, int]
    """Prompts that were bought again though the provider had not failed, by what was concluded."""


def run_seed(seed: int, *, trace: bool = False, lies: bool = True) -> Run:
    """Run one seed in this process, which must be ``quiet``."""
    Task.made = 0
    world = SimulatedWorld(seed, trace=trace, lies=lies)
    if trace:
        _LISTENER[:] = [world]
    with repeatable(world):
        try:
            world.run()
            violations, again = judge(world), bought_again(world)
        except Stuck as error:
            violations, again = [*world.violations, *world.cloud.violations, f"I10 {error}"], bought_again(world)
        prompts = sum(len(journal) for journal in world.journals)
        run = Run(
            seed, violations, dict(world.faults.counts), prompts, len(world.cloud.jobs), world.scheduler.now,
            world.history or [], world.scenes, counts_of(world), again,
        )  # fmt: skip
        world.scheduler.bury()
        del world
        if seed % _COLLECTED == _COLLECTED - 1:
            gc.collect()
    return run


_LISTENER: list[SimulatedWorld] = []


def _hear(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    words = " ".join(f"{name}={value}" for name, value in event.items() if name not in {"event", "exc_info"})
    if _LISTENER:
        _LISTENER[0].note(f"({method})", str(event.get("event")), words[:160])
    raise structlog.DropEvent


@contextmanager
def quiet(*, trace: bool = False) -> Generator[None]:
    """No log lines, no collector in the middle of a run, no complaints about what dead processes left unfinished."""
    level = logging.INFO if trace else logging.CRITICAL
    structlog.configure(
        processors=[_hear],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.disable(logging.CRITICAL)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            finally:
                _LISTENER.clear()
                gc.collect()  # here, or the last world's unfinished coroutines complain when the next is collected
    finally:
        gc.enable()
        gc.unfreeze()
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


def _run_chunk(seeds: Sequence[int], *, lies: bool) -> list[Run]:
    with quiet():
        return [run_seed(seed, lies=lies) for seed in seeds]


def _silence() -> None:
    """For a process that does nothing else: what a world leaves behind may be collected at any time, and at the end."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")


def run_seeds(start: int, count: int, jobs: int, *, lies: bool = True) -> Iterable[Run]:
    """Run many, in chunks, on so many cores."""
    chunks = [range(at, min(at + _CHUNK, start + count)) for at in range(start, start + count, _CHUNK)]
    if jobs <= 1:
        for chunk in chunks:
            yield from _run_chunk(chunk, lies=lies)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_silence) as pool:
        for runs in pool.map(partial(_run_chunk, lies=lies), chunks):
            yield from runs


def report(runs: Iterable[Run], start: int, jobs: int) -> dict[str, Any]:
    """What is written about many seeds."""
    began = time.monotonic()
    faults: Counter[str] = Counter()
    violations: list[dict[str, Any]] = []
    totals: Counter[str] = Counter()
    scenes: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    again: Counter[str] = Counter()
    for run in runs:
        faults.update(run.faults)
        totals.update({"seeds": 1, "prompts": run.prompts, "jobs": run.jobs})
        totals["simulated_s"] += int(run.seconds)
        scenes.update(run.scenes)
        counted.update(run.counts)
        again.update(run.again)
        if run.violations:
            violations.append({"seed": run.seed, "violations": run.violations})
    seconds = time.monotonic() - began
    injected = {kind: sum(faults[name] for name in names) for kind, names in _KINDS.items()}
    return {
        "start": start,
        **totals,
        "commit": commit(),
        **injected,
        "scenes": dict(sorted(scenes.items())),
        "counted": {name: counted[name] for name in _COUNTERS},
        "bought_again": again.total(),
        "bought_again_by": dict(sorted(again.items())),
        "lies": {name[5:]: n for name, n in sorted(faults.items()) if name.startswith("lies.")},
        "violations": violations,
        "faults": {name: n for name, n in sorted(faults.items()) if not name.startswith("lies.")},
        "seconds": round(seconds, 1),
        "jobs_at_once": jobs,
    }


def commit() -> str:
    """The commit that was run, with ``+`` where files differ from it."""
    root = Path(__file__).parents[3]
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
