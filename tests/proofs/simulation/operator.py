"""Somebody who looks after a queue, by hand or by a script, and may die in the middle.

Dead letters are submitted again, or forgotten, by several at once: a letter is submitted again once, however often it
is asked for. Batches are given back to their pool, whoever else has them in hand. What is believed of a batch is
decided by one who knows. What tenants may have is said, and said otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import ConfigError, QueueFull, StoreError, StoreUnavailable
from gemqueue.policy.believed import GONE
from gemqueue_workers.manage.beliefs.belief import decide
from gemqueue_workers.manage.give_back import give_back
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.store.dead import DeadLetter
    from tests.proofs.simulation.loop import Process
    from tests.proofs.simulation.world import SimulatedWorld

LIMITED = ("alice", "bob")
"""The tenants that have limits."""
_PAUSE_S_MAX = 12.0
_FORGETS = 0.15
WAIT = "wait"


class Replays:
    """Which letters went into which segment, as the server saw it."""

    def __init__(self) -> None:
        self.segments: dict[str, str] = {}
        """By letter."""
        self.violations: list[str] = []

    def saw(self, segment: str, letters: Sequence[bytes]) -> None:
        """Letters became a segment, for the first time or once more."""
        for letter in letters:
            before = self.segments.setdefault(letter.decode(), segment)
            if before != segment:
                self.violations.append(f"I2 dead letter {letter.decode()} went into {before} and into {segment}")

    def made(self, key: str) -> bool:
        """Whether the prompt with this key is one that was submitted again."""
        return key.partition(".")[0] in self.segments.values()


async def operate(world: SimulatedWorld, process: Process) -> None:
    """The life of such a process: until the calm."""
    clock, rng = world.clock_of(process), world.rng
    store = CoreStore(Network(world, process), world.settings, clock)
    while world.faults.on:
        await clock.sleep(_PAUSE_S_MAX * rng.random())
        try:
            letters = [letter async for letter in store.dead_letters()]
            await _look_after(store, letters, forget=rng.random() < _FORGETS)
        except (StoreUnavailable, ConfigError, QueueFull) as error:
            world.note(process.name, "dead", f"{type(error).__name__}: {error}")
    world.operators.discard(process.name)


async def give_back_all(world: SimulatedWorld, process: Process) -> None:
    """The life of one who gives back whatever the command takes: until the calm."""
    clock, rng = world.clock_of(process), world.rng
    store = CoreStore(Network(world, process), world.settings, clock)
    while world.faults.on:
        await clock.sleep(_PAUSE_S_MAX * rng.random())
        try:
            batches = await store.open_batches()
        except StoreError:
            continue
        for id_ in batches:
            try:
                await give_back(store, id_)
            except (StoreError, ConfigError) as error:
                world.note(process.name, "return", f"{type(error).__name__}: {error}")
    world.operators.discard(process.name)


async def decide_beliefs(world: SimulatedWorld, process: Process) -> None:
    """The life of one who has looks begin again during the faults, and who says then which results are gone."""
    clock, rng = world.clock_of(process), world.rng
    store = CoreStore(Network(world, process), world.settings, clock)
    while True:
        await clock.sleep((30 if world.faults.on else 600) * rng.random())
        try:
            for batch in await store.believed():
                job = world.cloud.jobs.get(batch.job)
                if job is not None and job.gone:
                    await decide(store, batch.id, GONE)
                elif world.faults.on:
                    await decide(store, batch.id, WAIT)
        except (StoreError, ConfigError) as error:
            world.note(process.name, "decide", f"{type(error).__name__}: {error}")


async def limit_tenants(world: SimulatedWorld, process: Process) -> None:
    """The life of one who gives tenants limits, other ones, and none: until the calm, in which the last ones hold."""
    clock, rng = world.clock_of(process), world.rng
    store = CoreStore(Network(world, process), world.settings, clock)
    while world.faults.on:
        jobs_max, per_min_max, weight = rng.choice((0, 1, 1, 2)), rng.choice((0, 0, 3, 6)), rng.choice((0, 1, 5))
        try:
            await store.limit(
                world.account, rng.choice(LIMITED), weight=weight, jobs_max=jobs_max, per_min_max=per_min_max
            )
        except StoreError as error:
            world.note(process.name, "limit", f"{type(error).__name__}: {error}")
        await clock.sleep(_PAUSE_S_MAX * rng.random())
    world.operators.discard(process.name)


async def _look_after(store: CoreStore, letters: list[DeadLetter], *, forget: bool) -> None:
    groups: dict[tuple[str, str, int], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.lane, letter.tenant, letter.priority), []).append(letter)
    for group in groups.values():
        if forget:
            await store.purge_dead([letter.id for letter in group])
        else:
            await store.replay(group)
