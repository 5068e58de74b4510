"""What a prompt is doing: looks at the store on behalf of futures, so that their properties never block.

Asking a future for its state costs nothing and says what the last look saw; it also has the watchdog look from then on,
every ``watchdog_s``, for as long as somebody holds the future and it is not settled. ``await future.look()`` looks now.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from gemqueue.errors import UnreadableRecord
from gemqueue.records import Lane
from gemqueue.states import BatchState, Step

if TYPE_CHECKING:
    from gemqueue.client.tickets import Ticket
    from gemqueue.policy.turnaround import Turnaround
    from gemqueue.store.looks import LookStore, Place

_LOOKS_MAX = 64  # a round of the watchdog; who asked longest ago comes first
_AT_ONCE_MAX = 8


class PromptState(StrEnum):
    """Where a prompt is. Once it is packed these are the words of its batch (``BatchState``)."""

    UNKNOWN = "unknown"
    """Nobody has looked yet, or no such prompt is known (any more)."""
    BUFFERED = "buffered"
    """In this process, not yet acknowledged by the store."""
    PENDING = "pending"
    """In the store, waiting to be packed."""
    PACKING = "packing"
    """Its batch is being filled."""
    SEALED = "sealed"
    """Its batch is complete and waits to be submitted, or is being uploaded."""
    SUBMITTING = "submitting"
    """Its batch's job is being created."""
    SUBMITTED = "submitted"
    """At the provider."""
    ENDED = "ended"
    """The job has ended; results are being read."""
    MOVED = "moved"
    """It went on into a retry segment, which has been lost sight of."""
    SETTLED = "settled"
    """It has its outcome."""


_DUE = {
    PromptState.PENDING: Step.PACK,
    PromptState.PACKING: Step.PACK,
    PromptState.SEALED: Step.SUBMIT,
    PromptState.SUBMITTING: Step.SUBMIT,
    PromptState.SUBMITTED: Step.TRACK,
    PromptState.ENDED: Step.RESOLVE,
    PromptState.MOVED: Step.PACK,
}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look saw. ``batch`` is None while the prompt is not packed, ``held_reason`` while nothing is wrong.

    ``held_since`` is since when the batch has waited for that reason, where it is known. ``eta`` is when the answer is
    to be expected, in one case of two: from how long jobs of the model and size have taken. It is None where there is
    no history, and while there is no job and something holds its creation up; it is no promise where it is there.
    """

    state: PromptState
    lane: str | None = None
    batch: str | None = None
    held_reason: str | None = None
    held_since: datetime | None = None
    eta: datetime | None = None


_STATES = {
    "": PromptState.PENDING,
    BatchState.CLOSING: PromptState.ENDED,
    BatchState.CLOSED: PromptState.ENDED,
} | {state: PromptState(state) for state in list(BatchState)[:5]}


def due_step(look: Look) -> tuple[str, Step | None]:
    """Whose step a prompt waits for, as far as that is known, and which."""
    lane = Lane.named(look.lane or "")
    return lane.account if lane is not None else "", _DUE.get(look.state)


def look_of(place: Place, history: Turnaround | None, now_ms: int) -> Look:
    """What a place in the store means for the prompt."""
    if not place.known:
        return Look(state=PromptState.UNKNOWN)
    if place.settled:
        state = PromptState.SETTLED
    elif place.moved:
        state = PromptState.MOVED
    else:
        state = _STATES.get(place.batch_state, PromptState.UNKNOWN)
    held = place.held_reason and place.held_since
    return Look(
        state=state,
        lane=str(place.lane or ""),
        batch=place.batch or None,
        held_reason=place.held_reason or None,
        held_since=datetime.fromtimestamp(place.held_since / 1000, UTC) if held else None,
        eta=_eta(state, place, history, now_ms),
    )


def _eta(state: PromptState, place: Place, history: Turnaround | None, now_ms: int) -> datetime | None:
    if history is None or state in {PromptState.SETTLED, PromptState.MOVED}:
        return None
    left_s = 0.0
    if state is PromptState.SUBMITTED:
        left_s = history.remaining_s(max(0, now_ms - place.accepted_at) / 1000)
    elif state is not PromptState.ENDED:
        if place.held_reason:
            return None
        left_s = history.p50_s
    return datetime.fromtimestamp(now_ms / 1000 + left_s, UTC)


class Looks:
    """The last look at each prompt that somebody asked about."""

    def __init__(self, store: LookStore) -> None:
        self._store = store
        self._seen: WeakKeyDictionary[Ticket, Look | None] = WeakKeyDictionary()
        self._over: WeakKeyDictionary[Ticket, Look | None] = WeakKeyDictionary()
        """Of settled prompts: nobody looks again, and what was seen last is still told."""

    def last(self, ticket: Ticket) -> Look | None:
        """What the last look saw; from now on the watchdog looks."""
        if ticket.outcome is not None:
            return self._seen.get(ticket) or self._over.get(ticket)
        return self._seen.setdefault(ticket, None)

    async def look(self, ticket: Ticket) -> Look:
        """Look now. Raises StoreUnavailable."""
        segment = ticket.segment
        assert segment is not None  # noqa: S101 - a future is handed out once its prompt has a place
        _, found = await self.look_at(segment.id, ticket.index)
        self._seen[ticket] = found
        return found

    async def look_at(self, segment: str, index: int) -> tuple[Place, Look]:
        """Look now at a prompt of which nobody need hold a ticket. Raises StoreUnavailable."""
        place = await self._store.place(segment, index)
        history = None
        if (lane := place.lane) is not None and not place.settled and not lane.interactive:
            history = await self._store.turnaround(lane.account, lane.model, place.prompts or 1)
        return place, look_of(place, history, self._store.clock.now_ms())

    async def _look_if_readable(self, ticket: Ticket) -> None:
        with suppress(UnreadableRecord):  # the others are looked at all the same
            await self.look(ticket)

    async def refresh(self) -> None:
        """Look at what was asked for and is not settled, a bounded number a round, each in its turn."""
        for start in range(0, _LOOKS_MAX, _AT_ONCE_MAX):
            tickets = [ticket for ticket in islice(self._seen, start, start + _AT_ONCE_MAX) if ticket.outcome is None]
            await asyncio.gather(*map(self._look_if_readable, tickets))
        for ticket in list(islice(self._seen, _LOOKS_MAX)):
            last = self._seen.pop(ticket)
            (self._seen if ticket.outcome is None else self._over)[ticket] = last
