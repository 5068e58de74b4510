"""Outcomes on their way into the store: buffered by origin, flushed fullest first, in calls of bounded size.

Rows arrive shuffled. Buffering them by origin makes few and large writes of them; the buffer's bytes are bounded, and
when the bound is reached the fullest origins go. One call settles at most 32 origins and about a megabyte, all or
nothing; where the store says that some rows are settled already, those rows are dropped and the rest is sent again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec
import structlog

from gemqueue import bitmap, codec
from gemqueue.effects import Effect, effect
from gemqueue.models import BATCH
from gemqueue.store_batches import Landing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue.states import FailureKind
    from gemqueue_workers.stage import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_ORIGINS_MAX = 32
_CALL_BYTES_MAX = 1_250_000  # answers a fifth longer than their prompts still go by the segment
_ROW_OVERHEAD_BYTES = 64

Row = tuple[int, bytes, str]
"""Index in the origin, outcome line, and the counter that it raises; lost_prompts raises failed, too."""
Dead = tuple[str, str, str, str, str]
"""Key, lane, kind, message and body of a prompt that ended through no fault of its own."""


_counter = itemgetter(2)


def answer_line(key: str, response: bytes | msgspec.Raw, end: bytes = b"}") -> bytes:
    """An answer as it lies in the outcomes; ``end`` may add fields."""
    return b'{"key":"%b","response":%b%b' % (key.encode(), response, end)


def service_end(service: str) -> bytes:
    """The end of an outcome line that says which service class answered; a batch is not mentioned."""
    return b"}" if service == BATCH else b',"service":"%b"}' % service.encode()


class _FailureBody(msgspec.Struct, omit_defaults=True):
    kind: str
    message: str = ""
    code: int = 0
    attempts: int = 0


class _FailureLine(msgspec.Struct):
    key: str
    failure: _FailureBody


def failure_line(key: str, kind: FailureKind, message: str, code: int = 0, attempts: int = 0) -> bytes:
    """A failure as it lies in the outcomes."""
    return msgspec.json.encode(_FailureLine(key, _FailureBody(kind, message, code, attempts)))


class LandingBuffer:
    """Gathers outcomes of one batch and settles them."""

    def __init__(self, kit: Kit, lease: Lease) -> None:
        self._kit = kit
        self._lease = lease
        self._rows: dict[str, list[Row]] = {}
        self._sizes: dict[str, int] = {}
        self._dead: dict[str, list[Dead]] = {}
        self._bytes = 0
        self.counts: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether the buffer's bound is reached."""
        return self._bytes > self._kit.settings.resolve_buffer_bytes_max

    def add(self, origin: str, index: int, line: bytes, counter: str) -> None:
        """One outcome."""
        size = len(line) + _ROW_OVERHEAD_BYTES
        rows = self._rows.get(origin)
        if rows is None:
            self._rows[origin] = [(index, line, counter)]
            self._sizes[origin] = size
        else:
            rows.append((index, line, counter))
            self._sizes[origin] += size
        self._bytes += size

    def bury(self, origin: str, dead: Dead) -> None:
        """The outcome just added for ``origin`` also goes to the dead letters."""
        self._dead.setdefault(origin, []).append(dead)
        size = len(dead[-1])
        self._sizes[origin] += size
        self._bytes += size

    async def flush(self, *, everything: bool) -> None:
        """Settle the fullest origins until half of the bound is free, or all of them."""
        floor = 0 if everything else self._kit.settings.resolve_buffer_bytes_max // 2
        order = sorted(self._sizes, key=self._sizes.__getitem__)
        while order and self._bytes > floor:
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
        self._bytes -= self._sizes.pop(origin)
        return self._rows.pop(origin)

    async def _settle(self, group: dict[str, list[Row]]) -> None:
        dead = [entry for origin in group for entry in self._dead.pop(origin, [])]
        while group:
            landings = await asyncio.to_thread(_build, group)
            counts = dict(Counter(chain.from_iterable(map(_counter, rows) for rows in group.values())))
            if lost := counts.get("lost_prompts"):
                counts["failed"] = counts.get("failed", 0) + lost
            with effect(Effect.RESOLVE_SETTLE):
                word, maps = await self._kit.store.settle(self._lease.claim, landings, counts, dead)
            if word == "ok":
                for counter, n in counts.items():
                    self.counts[counter] = self.counts.get(counter, 0) + n
                return
            group = self._without(group, word, maps)
            kept = {f"{origin}.{row[0]}" for origin, rows in group.items() for row in rows}
            dead = [entry for entry in dead if entry[0] in kept]

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
        landings.append(Landing(origin, bits, len(rows), blob))
    return landings
