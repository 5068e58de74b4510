"""Outcome lines that came while nobody waited for them: kept within a budget, read again where they did not fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from gemqueue.language.lines import own_copy

if TYPE_CHECKING:
    from gemqueue.client.tickets import Segment
    from gemqueue.language.lines import OutcomeLine

_KEPT_BYTES_MAX = 32_000_000


class KeptLines:
    """The kept lines of all segments, in ``Segment.kept``; those of the segment that was touched last go last."""

    def __init__(self) -> None:
        self._segments: OrderedDict[str, Segment] = OrderedDict()
        self._bytes = 0

    def keep(self, segment: Segment, index: int, line: OutcomeLine) -> None:
        """Keep a line, by itself, unless it was routed or is kept already."""
        if not segment.routed[index] and index not in segment.kept:
            segment.kept[index] = own_copy(line)
            self._weigh(segment, _weight_bytes(line))

    def take(self, segment: Segment, index: int) -> OutcomeLine | None:
        """The line, which counts as routed now; None where it is not kept."""
        line = segment.kept.pop(index, None)
        if line is not None:
            self._weigh(segment, -_weight_bytes(line))
            segment.routed[index] = 1
        return line

    def evict(self) -> None:
        """Drop lines until the budget is met. A dropped one counts as routed, so who wants it reads it again."""
        while self._bytes > _KEPT_BYTES_MAX:
            _, segment = self._segments.popitem(last=False)
            for index in segment.kept:
                segment.routed[index] = 1
            self._bytes -= segment.kept_bytes
            segment.kept.clear()
            segment.kept_bytes = 0

    def _weigh(self, segment: Segment, n_bytes: int) -> None:
        segment.kept_bytes += n_bytes
        self._bytes += n_bytes
        self._segments[segment.id] = segment
        self._segments.move_to_end(segment.id)
        if not segment.kept:
            del self._segments[segment.id]


def _weight_bytes(line: OutcomeLine) -> int:
    return len(line.response) + len(line.failure) + 200
