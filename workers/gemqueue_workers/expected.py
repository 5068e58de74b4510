"""Which rows a batch may still bring, and which have come: the guard against foreign, repeated and missing ones.

One ``Origin`` per origin segment, three bitmaps each: a million prompts are a thousand origins and under a megabyte.
Everything is known from the keys alone; a row's place in the file means nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gemqueue import bitmap
from gemqueue.models import split_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_workers.contents import BatchContents, Source


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


class Origin(msgspec.Struct):
    """One origin's prompts in this batch. ``lines`` says where those that came by a retry segment stand."""

    count: int
    source: Source | None
    expected: bytearray
    seen: bytearray
    known: bytearray
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
        for source in contents.sources:
            if source.meta.keys:
                self._add_retry(source)
            else:
                self._add_origin(source)

    def _origin(self, id_: str, count: int) -> Origin:
        origin = self.origins.get(id_)
        if origin is None:
            size = bitmap.new_map(count)
            origin = Origin(count, None, size, bytearray(len(size)), bytearray(len(size)), {}, set())
            self.origins[id_] = origin
        elif count > origin.count:
            for bits in (origin.expected, origin.seen, origin.known):
                bits.extend(bytes((count + 7) // 8 - len(bits)))
            origin.count = count
        return origin

    def _add_origin(self, source: Source) -> None:
        origin = self._origin(source.meta.id, source.meta.count)
        origin.source = source
        origin.known[:] = b"\xff" * len(origin.known)
        if source.moved:
            origin.gone_on.update(n for n in range(source.meta.count) if bitmap.has_bit(source.moved, n))
        if source.whole:
            origin.expected[:] = bitmap.of(range(origin.count), origin.count)
        else:
            for index in source.lines:
                bitmap.set_bit(origin.expected, index)

    def _add_retry(self, source: Source) -> None:
        open_lines = set(source.lines)
        for number, key in enumerate(source.meta.keys):
            id_, index = split_key(key)
            origin = self._origin(id_, index + 1)
            bitmap.set_bit(origin.known, index)
            if bitmap.has_bit(source.moved, number):
                origin.gone_on.add(index)
            if number in open_lines:
                bitmap.set_bit(origin.expected, index)
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
        at, mask = index >> 3, 0x80 >> (index & 7)
        if not origin.known[at] & mask:
            return self._unexpected(id_, index)
        if origin.seen[at] & mask:
            return _REPEATED, id_, index
        origin.seen[at] |= mask
        if not origin.expected[at] & mask:
            return _SETTLED, id_, index
        return _EXPECTED, id_, index

    def _unexpected(self, id_: str, index: int) -> tuple[Arrival, str, int]:
        """A row of a segment that an earlier pass has brought to its end, or of nobody."""
        return (_SETTLED, id_, index) if 0 <= index < self._closed.get(id_, 0) else (_FOREIGN, "", 0)

    def wanted(self, origin: str) -> int:
        """How many prompts of an origin were expected at the beginning."""
        known = self.origins.get(origin)
        return int.from_bytes(known.expected, "big").bit_count() if known is not None else 0

    def has_gone_on(self, origin: str, index: int) -> bool:
        """Whether the prompt went on into another segment."""
        known = self.origins.get(origin)
        return known is not None and index in known.gone_on

    def missing(self) -> Iterator[tuple[str, int]]:
        """Every (origin, index) that was expected and has not come."""
        for id_, origin in self.origins.items():
            if any(e & ~s for e, s in zip(origin.expected, origin.seen, strict=True)):
                for index in range(origin.count):
                    if bitmap.has_bit(origin.expected, index) and not bitmap.has_bit(origin.seen, index):
                        yield id_, index


def _index(digits: str) -> int:
    """The index of a key in its one spelling (007 is not 7), else -1."""
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 9 or (digits[0] == "0" and digits != "0"):
        return -1
    return int(digits)
