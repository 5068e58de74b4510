"""Prompts of a bulk call that travel side by side: no object for each, only where they begin in a segment and a call.

A bulk call numbers its rows. Those without a name need nothing else to be found again, so a segment remembers them by
*spans*: rows that follow each other in the call and in the segment. What lands for a span is handed to the call once
for each blob that is read, not once for each prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gemqueue.client.tickets import Segment, Ticket
    from gemqueue.errors import GemqueueError
    from gemqueue.language.outcomes import Outcome


class Sink(Protocol):
    """A bulk call, as what delivers to it sees it. ``tags`` are those of its rows that have one, by position."""

    tags: dict[int, object]

    def land(self, span: Span, indices: list[int], outcomes: list[Outcome]) -> None:
        """These prompts of a span's segment have their outcomes."""
        ...

    def landed(self, ticket: Ticket) -> None:
        """A row that has a ticket has its outcome."""
        ...

    def refused(self, position: int, outcome: Outcome) -> None:
        """A row never came into a segment."""
        ...

    def abandon(self, error: GemqueueError) -> None:
        """No more outcomes will come, for the reason that ``error`` gives."""
        ...


class Span:
    """Prompts ``start`` to ``stop`` of a segment, which are a call's rows from ``position`` on."""

    __slots__ = ("_indices", "_landed_count", "_outcomes", "position", "segment", "sink", "start", "stop")

    def __init__(self, segment: Segment, start: int, sink: Sink, position: int) -> None:
        self.segment = segment
        self.start = start
        self.stop = start
        self.sink = sink
        self.position = position
        self._landed_count = 0
        self._indices: list[int] = []
        self._outcomes: list[Outcome] = []

    @property
    def left(self) -> int:
        """How many of them have not landed."""
        return self.stop - self.start - self._landed_count

    def tag_of(self, index: int) -> object:
        """The row's tag, which is forgotten here."""
        tags = self.sink.tags
        return tags.pop(self.position + index - self.start, None) if tags else None

    def add(self, index: int, outcome: Outcome) -> None:
        """A prompt's outcome, to be handed over with others."""
        self._indices.append(index)
        self._outcomes.append(outcome)

    def hand_over(self) -> None:
        """Give the call what has come."""
        if self._indices:
            indices, outcomes, self._indices, self._outcomes = self._indices, self._outcomes, [], []
            self._landed_count += len(indices)
            self.sink.land(self, indices, outcomes)
