"""Many prompts in one call: ``map`` gathers them all, ``stream`` hands them out as they land.

Neither makes an object or a task per prompt, and outcomes come in as they are read, a segment's at a time. Whatever
happens to one row, the others' outcomes are kept: a row that is refused at the door, or that the store would not take
in time, has a ``Failed`` in its place.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, cast

import msgspec

from gemqueue.errors import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from gemqueue.client.door import Door
    from gemqueue.client.listener import Listener
    from gemqueue.client.tickets import Span, Ticket
    from gemqueue.errors import GemqueueError
    from gemqueue.language.outcomes import Outcome

Rows = Iterable[object] | AsyncIterable[object]
"""What a bulk call takes: any iterable; an item is contents, or a dict with ``contents`` and other fields of a row."""

_BREATH_PROMPTS = 200


def checked_rows(rows: object) -> Rows:
    """The rows of a bulk call. Raises PromptInvalid for what cannot be iterated over, and for a single prompt."""
    if isinstance(rows, str | bytes | dict):
        raise PromptInvalid("rows must be an iterable of prompts, not a single one: put it into a list")
    if not isinstance(rows, Iterable | AsyncIterable):
        raise PromptInvalid(f"rows must be an iterable or async iterable of prompts, not {type(rows).__name__}")
    return cast("Rows", rows)


class _Call(ABC):
    """What both have: numbered rows on their way, and a bell that wakes the one task that waits for outcomes."""

    def __init__(self) -> None:
        self.error: GemqueueError | None = None
        self.tags: dict[int, object] = {}
        """The tags of rows that have no tickets, by position, until they land."""
        self._waiter: asyncio.Future[None] | None = None
        self._over = False
        """Nobody waits any more; what still lands is dropped, for its segments keep this call until then."""

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return at the next ring. Raises what ``abandon`` was told."""
        if self.error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.error is not None:
            raise self.error

    def abandon(self, error: GemqueueError) -> None:
        self.error = error
        self.ring()

    async def _submit(self, door: Door, rows: Rows) -> None:
        """Put all rows on their way, with a breath now and then in which segments leave and outcomes land."""
        position = 0
        if isinstance(rows, AsyncIterable):  # only these: an async generator costs a plain row 90 ns more
            async for row in rows:
                if (later := self._admit(door, row, position)) is not None:
                    await later
                position += 1
                if position % _BREATH_PROMPTS == 0:
                    await asyncio.sleep(0)
            return
        for row in rows:
            if (later := self._admit(door, row, position)) is not None:
                await later
            position += 1
            if position % _BREATH_PROMPTS == 0:
                await asyncio.sleep(0)

    @abstractmethod
    def _admit(self, door: Door, row: object, position: int) -> Awaitable[None] | None:
        """Put a row on its way; what is returned, if anything, waits for room and then does so."""


class Gather(_Call):
    """A ``map`` that waits for all of its prompts."""

    def __init__(self) -> None:
        super().__init__()
        self._outcomes: list[Outcome | None] = []
        self._tickets: list[Ticket] = []
        self._spans: dict[Span, None] = {}
        self._landed_count = 0
        self._expected_count: int | None = None

    def land(self, span: Span, indices: list[int], outcomes: list[Outcome]) -> None:
        """Some more, in their rows' places."""
        if self._over:
            return
        self._spans[span] = None
        found, offset = self._outcomes, span.position - span.start
        for index, outcome in zip(indices, outcomes, strict=True):
            found[offset + index] = outcome
        self._count(len(indices))

    def landed(self, ticket: Ticket) -> None:
        """One more that has a ticket."""
        if self._over:
            return
        self._tickets.append(ticket)
        self._outcomes[ticket.position] = ticket.outcome
        self._count(1)

    def refused(self, position: int, outcome: Outcome) -> None:
        """One that will not come."""
        if self._over:
            return
        self._outcomes[position] = outcome
        self._count(1)

    def _count(self, n: int) -> None:
        self._landed_count += n
        if self._landed_count == self._expected_count:
            self.ring()

    async def run(self, door: Door, rows: Rows, listener: Listener) -> list[Outcome]:
        """Submit all rows, wait for all outcomes, and return them in the rows' order."""
        try:
            await self._submit(door, rows)
            self._expected_count = len(self._outcomes)
            while self._landed_count < self._expected_count:
                await self.wait()
            for ticket in self._tickets:
                listener.took(ticket)
            for span in self._spans:
                listener.took_slots(span.segment, span.start, span.stop)
            return cast("list[Outcome]", self._outcomes)  # all have landed
        finally:
            self._over = True
            self._tickets, self._outcomes = [], []
            self._spans.clear()  # they know this call, too

    def _admit(self, door: Door, row: object, position: int) -> Awaitable[None] | None:
        self._outcomes.append(None)
        return door.admit(row, self, position)


class _Landing(msgspec.Struct, frozen=True):
    """Outcomes to hand out one after the other, and what says of them afterwards that the caller has them."""

    outcomes: Sequence[Outcome]
    take: Callable[[Listener], None]


class Flow(_Call):
    """A ``stream``: at most ``window_prompts_max`` prompts are under way or landed and not yet handed out."""

    def __init__(self, window_prompts_max: int) -> None:
        super().__init__()
        self._window_max = window_prompts_max
        self._open = 0
        self._ready: deque[_Landing] = deque()
        self._room: asyncio.Future[None] | None = None

    def land(self, span: Span, indices: list[int], outcomes: list[Outcome]) -> None:
        """Some more to hand out."""

        def take(listener: Listener) -> None:
            first, stop = min(indices), max(indices) + 1
            if stop - first == len(indices):
                listener.took_slots(span.segment, first, stop)
                return
            for index in indices:
                listener.took_slots(span.segment, index, index + 1)

        self._hand_out(outcomes, take)

    def landed(self, ticket: Ticket) -> None:
        """One more to hand out, that has a ticket."""
        assert ticket.outcome is not None  # noqa: S101 - it has landed
        self._hand_out((ticket.outcome,), lambda listener: listener.took(ticket))

    def refused(self, position: int, outcome: Outcome) -> None:  # noqa: ARG002 - the sink's signature
        """One that will not come."""
        self._hand_out((outcome,), lambda _: None)

    def _hand_out(self, outcomes: Sequence[Outcome], take: Callable[[Listener], None]) -> None:
        if not self._over:
            self._ready.append(_Landing(outcomes, take))
            self.ring()

    async def run(self, door: Door, rows: Rows, listener: Listener) -> AsyncGenerator[Outcome]:
        """Outcomes as they land. An error that ``rows`` raises comes after the outcomes of what it gave before."""
        feeder = asyncio.create_task(self._submit(door, rows), name="gemqueue-feed")
        feeder.add_done_callback(lambda _: self.ring())
        try:
            while self._open or not feeder.done():
                if not self._ready:
                    await self.wait()
                    continue
                landing = self._ready.popleft()
                for outcome in landing.outcomes:
                    yield outcome
                    self._close_one()
                landing.take(listener)
            await feeder
        finally:
            self._over = True
            self._ready.clear()
            feeder.cancel()

    def _close_one(self) -> None:
        self._open -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _admit(self, door: Door, row: object, position: int) -> Awaitable[None] | None:
        if self._open >= self._window_max:
            return self._admit_later(door, row, position)
        self._open += 1
        try:
            later = door.admit(row, self, position)
        except BaseException:
            self._open -= 1  # nothing will come of this row
            raise
        return self._wait(later) if later is not None else None

    async def _admit_later(self, door: Door, row: object, position: int) -> None:
        while self._open >= self._window_max:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        later = self._admit(door, row, position)
        if later is not None:
            await later

    async def _wait(self, later: Awaitable[None]) -> None:
        try:
            await later
        except BaseException:
            self._open -= 1
            raise
