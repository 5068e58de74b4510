"""When a lie is told: windows on the virtual clock, seeded dice, and what was told before."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.service.lies import KINDS
from gemqueue_adapters.emulator.service.tales import LISTS

if TYPE_CHECKING:
    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.service.tales import Lie

KEPT_MAX = 256
KEPT_BYTES_MAX = 128 << 10


class Armed:
    """A lie in force, with its counters and its own seeded dice."""

    def __init__(self, lie: Lie, seed: str, now_ms: int) -> None:
        self.lie = lie
        self.seen = self.told = 0
        self._from_ms = now_ms + lie.from_s * 1000
        self._begun_ms = self._from_ms if lie.nth is None else None
        self._dice = random.Random(seed)

    @property
    def spent(self) -> bool:
        """Whether it has been told as often as it may be."""
        return self.lie.times is not None and self.told >= self.lie.times

    def fires(self, point: str, path: str, now_ms: int) -> bool:
        """Whether it is to be told at this exchange; counts the exchange."""
        if self.spent or now_ms < self._from_ms or not self._about(point, path):
            return False
        self.seen += 1
        if self._begun_ms is None and self.lie.nth is not None and self.seen >= self.lie.nth:
            self._begun_ms = now_ms
        if self._begun_ms is None or (self.lie.for_s is not None and now_ms >= self._begun_ms + self.lie.for_s * 1000):
            return False
        return self._dice.random() < self.lie.share

    def _about(self, point: str, path: str) -> bool:
        lie = self.lie
        return lie.route in (point, "any") and point in KINDS[lie.kind].routes and (lie.match in path or point in LISTS)


class Lies:
    """The lies in force."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self._armed: list[Armed] = []

    def replace(self, lies: list[Lie]) -> None:
        """Put these lies in the place of all others; their windows begin now."""
        now_ms = self._clock.now_ms()
        self._armed = [Armed(lie, f"{self._seed}:lie:{place}", now_ms) for place, lie in enumerate(lies)]

    def show(self) -> list[dict[str, Any]]:
        """Each lie with the exchanges in its reach so far, and how often it was told."""
        return [{**msgspec.to_builtins(each.lie), "seen": each.seen, "told": each.told} for each in self._armed]

    def at(self, point: str, path: str) -> list[Armed]:
        """The lies to be told at this exchange: the first that changes the reply is."""
        if not self._armed:
            return self._armed
        now_ms = self._clock.now_ms()
        return [each for each in self._armed if each.fires(point, path, now_ms)]


class History:
    """What was last truly told of each thing, and what differed before that; the oldest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[bytes | None, bytes]] = OrderedDict()

    def note(self, what: str, body: bytes) -> None:
        """This was told of `what` just now."""
        before, last = self._kept.pop(what, (None, body))
        if len(body) <= KEPT_BYTES_MAX:
            self._kept[what] = (before if last == body else last), body
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)

    def last(self, what: str) -> bytes | None:
        """What was told last."""
        return self._kept.get(what, (None, None))[1]

    def other(self, what: str, body: bytes) -> bytes | None:
        """The newest that was told and is not `body`."""
        before, last = self._kept.get(what, (None, None))
        return before if last == body else last

    def forget(self) -> None:
        """All of it."""
        self._kept.clear()
