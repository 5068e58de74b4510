"""Outcomes on their way into the store: buffered by origin, flushed fullest first, in calls of bounded size.

Rows may arrive shuffled. Buffering them by origin makes few and large writes of them. An origin that is complete goes
at once; the bytes of the others are bounded, over all batches that this process resolves, and when a batch's share of
the bound is reached its fullest origins go. One call settles at most 32 origins and about a megabyte, all or
nothing; where the store says that some rows are settled already, those rows are dropped and the rest is sent again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.store import bitmap, codec
from gemqueue.store.groups import Landing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_ORIGINS_MAX = 32
_CALL_BYTES_MAX = 1_250_000  # answers a fifth longer than their prompts still go by the segment
_ROW_OVERHEAD_BYTES = 64

Ending = Literal["answered", "failed", "lost"]
"""How a prompt ended; lost is a failure whose body Redis had lost."""
Row = tuple[int, bytes, Ending]
"""Index in the origin, outcome line, how it ended."""
Dead = tuple[str, str, str, str, str]
"""Key, lane, kind, message and body of a prompt that ended through no fault of its own."""


_buffers: WeakSet[OutcomeBuffer] = WeakSet()
"""All buffers of this process: they share one bound."""


class OutcomeBuffer:
    """Gathers outcomes of one batch and settles them; ``wanted`` says how many an origin is to have here."""

    def __init__(self, kit: Kit, lease: Lease, wanted: Callable[[str], int]) -> None:
        self._kit = kit
        self._lease = lease
        self._wanted = wanted
        self._left: dict[str, int] = {}
        self._rows: dict[str, list[Row]] = {}
        self._sizes: dict[str, int] = {}
        self._dead: dict[str, list[Dead]] = {}
        self._bytes = 0
        self._complete: list[str] = []
        self._complete_bytes = 0
        self.counts: dict[str, int] = {}
        _buffers.add(self)

    @property
    def full(self) -> bool:
        """Whether there is something to settle: enough that is complete, or this buffer's share of the bound."""
        return self._complete_bytes >= _CALL_BYTES_MAX // 2 or self._bytes > self._share_bytes

    @property
    def _share_bytes(self) -> int:
        users = sum(bool(buffer._bytes) for buffer in _buffers)  # noqa: SLF001 - of the same class
        return self._kit.settings.resolve_buffer_bytes_max // max(1, users)

    def add(self, origin: str, index: int, line: bytes, ending: Ending) -> None:
        """One outcome."""
        self.extend(origin, [(index, line, ending)])

    def extend(self, origin: str, new: list[Row]) -> None:
        """Outcomes of one origin."""
        if not new:
            return
        rows = self._rows.get(origin)
        if rows is None:
            if origin not in self._left:
                self._left[origin] = self._wanted(origin)
            rows = self._rows[origin] = []
            self._sizes[origin] = 0
        rows += new
        size = sum([len(row[1]) for row in new]) + _ROW_OVERHEAD_BYTES * len(new)
        self._sizes[origin] += size
        self._bytes += size
        if len(rows) == self._left[origin]:
            self._complete.append(origin)
            self._complete_bytes += self._sizes[origin]

    def bury(self, origin: str, dead: Dead) -> None:
        """The outcome just added for ``origin`` also goes to the dead letters."""
        self._dead.setdefault(origin, []).append(dead)
        size = len(dead[-1])
        self._sizes[origin] += size
        self._bytes += size

    async def flush(self, *, everything: bool) -> None:
        """Settle what is complete, then the fullest origins until half of the share is free, or all of them."""
        complete, self._complete, self._complete_bytes = self._complete, [], 0
        await self._drain([origin for origin in complete if origin in self._rows], -1)
        share_bytes = 0 if everything else self._share_bytes
        if self._bytes > share_bytes:
            await self._drain(sorted(self._sizes, key=self._sizes.__getitem__), share_bytes // 2)

    async def _drain(self, order: list[str], floor_bytes: int) -> None:
        """Settle origins from the end of ``order`` until only ``floor_bytes`` are left."""
        while order and self._bytes > floor_bytes:
            group: list[str] = []
            size = 0
            while (
                order and len(group) < _ORIGINS_MAX and (not group or size + self._sizes[order[-1]] <= _CALL_BYTES_MAX)
            ):
                size += self._sizes[order[-1]]
                group.append(order.pop())
            taken = {origin: self._take(origin) for origin in group}
            for part in _parts(taken):
                await self._settle(part)

    def _take(self, origin: str) -> list[Row]:
        rows = self._rows.pop(origin)
        self._bytes -= self._sizes.pop(origin)
        self._left[origin] -= len(rows)
        return rows

    async def _settle(self, group: dict[str, list[Row]]) -> None:
        dead = [entry for origin in group for entry in self._dead.pop(origin, [])]
        while group:
            landings = await asyncio.to_thread(_build, group)
            with effect(Effect.RESOLVE_SETTLE):
                word, maps = await self._kit.store.settle(self._lease.claim, landings, dead)
            if word == "ok":
                self._count(landings)
                return
            group = self._without(group, word, maps)
            kept = {f"{origin}.{row[0]}" for origin, rows in group.items() for row in rows}
            dead = [entry for entry in dead if entry[0] in kept]

    def _count(self, landings: list[Landing]) -> None:
        """The same here as in the store, for the log."""
        rows, failed, lost = (sum(each) for each in zip(*((x.rows, x.failed, x.lost) for x in landings), strict=True))
        for counter, n in (("answered", rows - failed), ("failed", failed), ("lost_prompts", lost)):
            if n:
                self.counts[counter] = self.counts.get(counter, 0) + n

    def _without(self, group: dict[str, list[Row]], word: str, maps: dict[str, bytes]) -> dict[str, list[Row]]:
        kept: dict[str, list[Row]] = {}
        for origin, rows in group.items():
            left = rows
            if origin in maps:
                left = [] if word == "unknown" else [row for row in rows if not bitmap.has_bit(maps[origin], row[0])]
            if left:
                kept[origin] = left
            if len(left) < len(rows):
                self.counts["late"] = self.counts.get("late", 0) + len(rows) - len(left)
                log.info("rows.dropped", origin=origin, rows=len(rows) - len(left), why=word)
        return kept


def _parts(group: dict[str, list[Row]]) -> Iterator[dict[str, list[Row]]]:
    """The group as it is, or one origin's rows in calls of about a megabyte."""
    if len(group) > 1 or sum([len(row[1]) for rows in group.values() for row in rows]) <= _CALL_BYTES_MAX:
        yield group
        return
    for origin, rows in group.items():
        part: list[Row] = []
        size = 0
        for row in rows:
            if part and size + len(row[1]) > _CALL_BYTES_MAX:
                yield {origin: part}
                part, size = [], 0
            part.append(row)
            size += len(row[1])
        yield {origin: part}


def _build(group: dict[str, list[Row]]) -> list[Landing]:
    landings: list[Landing] = []
    for origin, rows in group.items():
        indices = [row[0] for row in rows]
        bits = bitmap.of(indices, max(indices) + 1)
        blob = codec.compress(b"\n".join([row[1] for row in rows]))
        endings = [row[2] for row in rows]
        failed = len(rows) - endings.count("answered")
        landings.append(Landing(origin, bits, len(rows), blob, failed, endings.count("lost")))
    return landings
