"""Which rows a batch may still bring, and which have come: the guard against foreign, repeated and missing ones.

One ``Origin`` per origin segment, a byte for each of its prompts: a million prompts are a thousand origins and a
megabyte.
Everything is known from the keys alone; a row's place in the file means nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue.ids import split_key
from gemqueue.store import bitmap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_workers.stages.contents import BatchContents, Source


class Arrival(StrEnum):
    """What a row's key says about it."""

    EXPECTED = "expected"
    REPEATED = "repeated"
    """This stream has brought it before."""
    SETTLED = "settled"
    """It has its outcome, or has moved on: a late row, or one read before a crash."""
    FOREIGN = "foreign"
    """It is no key of this batch."""


# A member of an enum is slow to look up.
_EXPECTED, _REPEATED, _SETTLED, _FOREIGN = Arrival
_INDICES = {str(index): index for index in range(1_000)}

_KNOWN, _OPEN, _SEEN = 1, 2, 4
_WANTED = _KNOWN | _OPEN
_CLOSED_MAX = 10_000
_NOTE_KNOWN = bytes(state | _KNOWN for state in range(256))


class Origin(msgspec.Struct):
    """One origin's prompts in this batch. ``lines`` says where those that came by a retry segment stand.

    ``states`` says of each prompt whether it is of this batch (known), was open, and has come (seen).
    """

    count: int
    source: Source | None
    states: bytearray
    lines: dict[int, tuple[Source, int]]
    gone_on: set[int]
    """Prompts that went on into other segments."""

    def place(self, index: int) -> tuple[Source, int]:
        """The segment and line that hold the prompt's body in this batch."""
        if index in self.lines:
            return self.lines[index]
        assert self.source is not None  # noqa: S101 - an expected index has a source or a line
        return self.source, index


class Expected:
    """The open prompts of a batch by origin."""

    def __init__(self, contents: BatchContents) -> None:
        self.origins: dict[str, Origin] = {}
        self._closed = contents.closed
        self._closed_seen: dict[str, bytearray] = {}
        for source in contents.sources:
            if source.meta.keys:
                self._add_retry(source)
            else:
                self._add_origin(source)

    def _origin(self, id_: str, count: int) -> Origin:
        origin = self.origins.get(id_)
        if origin is None:
            origin = self.origins[id_] = Origin(count, None, bytearray(count), {}, set())
        elif count > origin.count:
            origin.states.extend(bytes(count - origin.count))
            origin.count = count
        return origin

    def _add_origin(self, source: Source) -> None:
        origin = self._origin(source.meta.id, source.meta.count)
        origin.source = source
        if source.moved:
            origin.gone_on.update(n for n in range(source.meta.count) if bitmap.has_bit(source.moved, n))
        if source.whole:
            origin.states[:] = bytes((_WANTED,)) * origin.count
            return
        origin.states = origin.states.translate(_NOTE_KNOWN)
        for index in source.lines:
            origin.states[index] |= _OPEN

    def _add_retry(self, source: Source) -> None:
        open_lines = set(source.lines)
        for number, key in enumerate(source.meta.keys):
            id_, index = split_key(key)
            origin = self._origin(id_, index + 1)
            origin.states[index] |= _KNOWN
            if bitmap.has_bit(source.moved, number):
                origin.gone_on.add(index)
            if number in open_lines:
                origin.states[index] |= _OPEN
                origin.lines[index] = (source, number)

    def arrive(self, key: str) -> tuple[Arrival, str, int]:
        """Note that a row with this key has come; says what it is, and its origin and index."""
        id_, _, digits = key.rpartition(".")
        origin = self.origins.get(id_)
        index = _INDICES.get(digits, -1)
        if index < 0:
            index = _index(digits)
        if origin is None or not 0 <= index < origin.count:
            return self._unexpected(id_, index)
        state = origin.states[index]
        if state == _WANTED:
            origin.states[index] = _WANTED | _SEEN
            return _EXPECTED, id_, index
        if not state & _KNOWN:
            return self._unexpected(id_, index)
        if state & _SEEN:
            return _REPEATED, id_, index
        origin.states[index] |= _SEEN
        return _SETTLED, id_, index

    def _unexpected(self, id_: str, index: int) -> tuple[Arrival, str, int]:
        """A row of a segment that an earlier pass has brought to its end, or of nobody."""
        count = self._closed.get(id_, 0)
        if not 0 <= index < count:
            return _FOREIGN, "", 0
        seen = self._closed_seen.get(id_)
        if seen is None:
            seen = self._closed_seen[id_] = bytearray(min(count, _CLOSED_MAX))
        if index < len(seen):
            if seen[index]:
                return _REPEATED, id_, index
            seen[index] = 1
        return _SETTLED, id_, index

    def wanted(self, origin: str) -> int:
        """How many prompts of an origin were expected at the beginning."""
        known = self.origins.get(origin)
        return sum(map(known.states.count, (_WANTED, _WANTED | _SEEN))) if known is not None else 0

    def has_gone_on(self, origin: str, index: int) -> bool:
        """Whether the prompt went on into another segment."""
        known = self.origins.get(origin)
        return known is not None and index in known.gone_on

    def missing(self) -> Iterator[tuple[str, int]]:
        """Every (origin, index) that was expected and has not come."""
        for id_, origin in self.origins.items():
            index = origin.states.find(_WANTED)
            while index >= 0:
                yield id_, index
                index = origin.states.find(_WANTED, index + 1)


def _index(digits: str) -> int:
    """The index of a key in its one spelling (007 is not 7), else -1."""
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 9 or (digits[0] == "0" and digits != "0"):
        return -1
    return int(digits)
