"""Outcome lines to those they are for: by its key each finds the tickets and the bulk calls that wait for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from gemqueue.client.kept import KeptLines
from gemqueue.client.tickets import chain
from gemqueue.language.lines import read_lines
from gemqueue.language.outcomes import Failed, expired, forgotten, outcome_of, refused
from gemqueue.states import FailureKind
from gemqueue.store import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gemqueue.client.tickets import Segment, Span, Ticket
    from gemqueue.language.lines import OutcomeLine
    from gemqueue.language.outcomes import Outcome

log = logging.getLogger("gemqueue")

_GONE = "its outcome is no longer kept (keep_outcome_s), or no such prompt was ever submitted to this queue"
_TAKEN = (
    "the server took it and knows nothing of it any more: it has lost it, the prompt was purged, or its outcome is no "
    "longer kept (keep_outcome_s)"
)
_UNREADABLE = "it is settled, but its outcome cannot be read"


class Why(NamedTuple):
    """Why no more lines of a segment will come: the words, and the outcome that is made of them."""

    words: str
    end: Callable[[str, str, str | None, object], Failed] = expired


def why_gone(segment: Segment, forgot: str, *, unreadable: bool) -> Why:
    """Of a segment that the store does not know, or whose outcomes it cannot give; ``forgot`` is its home's loss."""
    if unreadable:
        return Why(_UNREADABLE)
    if segment.own:
        return Why(forgot, forgotten) if forgot else Why(_TAKEN)
    return Why(f"{_GONE}; and {forgot}" if forgot else _GONE)


class Router:
    """Routes the lines of all segments; what nobody waits for is kept within a budget."""

    def __init__(self, *, emulated: bool) -> None:
        self._emulated = emulated
        self._kept = KeptLines()
        self._told: set[str] = set()

    def at_hand(self, segment: Segment, ticket: Ticket) -> Outcome | None:
        """The ticket's outcome where it needs no reading: kept, refused, or of a prompt that the segment never had."""
        line = self._kept.take(segment, ticket.index)
        if line is not None:
            return outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated)
        if segment.refusal is not None:
            return refused(segment.refusal, FailureKind.INVALID, ticket.name, ticket.tag, ticket.key)
        if segment.watched and ticket.index >= segment.count:
            return expired(ticket.key, _GONE, ticket.name, ticket.tag)
        return None

    async def route(self, segment: Segment, blob: bytes) -> None:
        """Give every line of a blob to those whom its key names."""
        try:
            text = await codec.expand_async(blob)
        except ValueError as error:  # the others go on; what stood in it has expired once the segment has ended
            if segment.id not in self._told:
                self._told.add(segment.id)
                log.error("An outcome blob of segment %s cannot be read: %s", segment.id, error)  # noqa: TRY400
            return
        lines, bad = read_lines(text, segment.prefix, segment.count)
        if bad:
            log.error("%d outcome lines of segment %s cannot be read or have a foreign key", bad, segment.id)
        self.give(segment, lines)
        self._kept.evict()

    def give(self, segment: Segment, lines: Iterable[tuple[int, OutcomeLine]]) -> None:
        """Give these lines, by their indices."""
        tickets, spans, routed = segment.tickets, segment.spans, segment.routed
        span: Span | None = None
        for index, line in lines:
            if spans and not routed[index]:
                if span is None or not span.start <= index < span.stop:
                    span = segment.span_at(index)
                if span is not None:
                    routed[index] = 1
                    span.add(index, outcome_of(line, None, span.tag_of(index), emulated=self._emulated))
                    if index not in tickets:
                        continue
            first = tickets.pop(index, None)
            if first is None:
                self._give_unasked(segment, index, line)
            else:
                routed[index] = 1
                self._settle(first, line)
        for each in spans:
            each.hand_over()

    def give_up(self, segment: Segment, why: Why) -> None:
        """No more lines will come: what is waited for has expired, or was forgotten."""
        for first in list(segment.tickets.values()):
            for ticket in chain(first):
                ticket.settle(why.end(ticket.key, why.words, ticket.name, ticket.tag))
        for span in segment.spans:
            for index in range(span.start, span.stop):
                if not segment.routed[index]:
                    span.add(index, why.end(f"{segment.prefix}{index}", why.words, None, span.tag_of(index)))
            span.hand_over()

    def _settle(self, first: Ticket, line: OutcomeLine) -> None:
        ticket: Ticket | None = first
        while ticket is not None:
            following, ticket.twin = ticket.twin, None
            ticket.settle(outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated))
            ticket = following

    def _give_unasked(self, segment: Segment, index: int, line: OutcomeLine) -> None:
        """Nobody waits for it now: it belongs to whoever holds its ticket, else it is kept within the budget."""
        ticket = segment.handles.get(index)
        if ticket is not None:
            segment.routed[index] = 1
            ticket.settle(outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated))
        else:
            self._kept.keep(segment, index, line)
