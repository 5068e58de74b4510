"""Somebody who looks after dead letters, by hand or by a script: submits them again, or forgets them.

Several do so at once, and each may die in the middle. A letter is submitted again once, however often it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import ConfigError, QueueFull, StoreUnavailable
from tests.simulation.core import CoreStore
from tests.simulation.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.store_dead import DeadLetter
    from tests.simulation.loop import Process
    from tests.simulation.world import World

_PAUSE_S_MAX = 12.0
_FORGETS = 0.15


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


async def operate(world: World, process: Process) -> None:
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


async def _look_after(store: CoreStore, letters: list[DeadLetter], *, forget: bool) -> None:
    groups: dict[tuple[str, str, int], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.lane, letter.tenant, letter.priority), []).append(letter)
    for group in groups.values():
        if forget:
            await store.purge_dead([letter.id for letter in group])
        else:
            await store.replay(group)
