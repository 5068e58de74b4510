"""A prompt's future: what the caller holds, in this process or in any other that knows the key."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

from gemqueue.client.looks import Look, PromptState
from gemqueue.errors import ConfigError, OutcomeExpired
from gemqueue.language.lines import cancelled_line
from gemqueue.language.outcomes import Failed, raise_for
from gemqueue.store import codec

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from gemqueue.client.listener import Listener
    from gemqueue.client.tickets import Ticket
    from gemqueue.client.watchdog import Watchdog
    from gemqueue.language.answers import Answer
    from gemqueue.language.outcomes import Outcome
    from gemqueue.store.producer import ProducerStore


class Stopped(StrEnum):
    """Where a prompt was when ``Future.cancel`` reached it, and so what that could still stop."""

    PENDING = "pending"
    """Not packed yet: it will never be bought."""
    PACKING = "packing"
    """Being packed: it is left out of the upload, and not bought."""
    SEALED = "sealed"
    """In a batch that is not uploaded yet, or just being uploaded: then it may still be bought, its answer dropped."""
    SUBMITTING = "submitting"
    """The job is being created: it is bought, its answer dropped."""
    SUBMITTED = "submitted"
    """The job runs at the provider: it is bought, its answer dropped."""
    ENDED = "ended"
    """The job has ended: it is bought, its answer dropped unless it waits for a retry, which is stopped."""
    CLOSING = "closing"
    """As ``ended``."""
    CLOSED = "closed"
    """Its first job is over and it waited for a retry, which is stopped."""
    TOO_LATE = "settled"
    """It had its outcome already, and keeps it."""


class Future:
    """The outcome of one prompt, to come or there already.

    It may be awaited many times and by many tasks. Cancelling or timing out an await never cancels the prompt;
    ``cancel`` does. ``key`` finds it again from anywhere: ``queue.future(key)``.
    """

    __slots__ = ("_listener", "_store", "_ticket", "_watchdog")

    def __init__(self, ticket: Ticket, listener: Listener, store: ProducerStore, watchdog: Watchdog) -> None:
        self._ticket = ticket
        self._listener = listener
        self._store = store
        self._watchdog = watchdog

    @property
    def key(self) -> str:
        """The prompt's address, unique for ever."""
        self._listener.key_read(self._ticket)
        return self._ticket.key

    @property
    def name(self) -> str | None:
        """The caller's idempotency key, if it gave one here."""
        return self._ticket.name

    @property
    def tag(self) -> object:
        """Whatever the caller hung on the prompt; it never leaves the process."""
        return self._ticket.tag

    @property
    def held_reason(self) -> str | None:
        """Why nothing happens, as the watchdog saw it at its last look; None when nothing is wrong.

        "no worker", and more words where workers run that do not take the prompt's next step; or why the prompt's own
        batch or lane waits (a refused key, a quota); before it is known where the prompt is, why the oldest held batch
        of the account waits.
        """
        if self._ticket.outcome is not None:
            return None
        seen = self._watchdog.looks.last(self._ticket)
        if why := self._watchdog.forgot or self._watchdog.why_nobody(seen):
            return why
        own = seen is not None and (seen.batch or seen.held_reason)
        return seen.held_reason if seen is not None and own else self._watchdog.held_reason or None

    @property
    def held_since(self) -> datetime | None:
        """Since when the prompt's own batch is held, as the last look saw it; None when it is not, or not known."""
        seen = self._watchdog.looks.last(self._ticket) if self._ticket.outcome is None else None
        return seen.held_since if seen is not None else None

    @property
    def state(self) -> PromptState:
        """Where the prompt is, as the last look saw it; asking has the watchdog look every ``watchdog_s``."""
        ticket = self._ticket
        if ticket.outcome is not None:
            return PromptState.SETTLED
        if ticket.segment is None or not ticket.segment.live:
            return PromptState.BUFFERED
        seen = self._watchdog.looks.last(ticket)
        if seen is not None:
            return seen.state
        return PromptState.PENDING if ticket.segment.own else PromptState.UNKNOWN

    @property
    def batch(self) -> str | None:
        """The batch that the prompt is in, or was in last, as the last look saw it; None while it is not packed."""
        seen = self._watchdog.looks.last(self._ticket)
        return seen.batch if seen is not None else None

    @property
    def lane(self) -> str | None:
        """What the prompt may share a batch with, ``account/model/kind/service``; None until that is known here."""
        seen = self._watchdog.looks.last(self._ticket)
        segment = self._ticket.segment
        return (seen.lane if seen is not None else None) or (segment.lane if segment is not None else None) or None

    @property
    def eta(self) -> datetime | None:
        """When the answer is to be expected, as the last look saw it: half of all jobs like its own were back by then.

        None once it is there, where nothing is known yet of how long such jobs take, and while something holds up the
        creation of its job or no worker runs: see ``held_reason``.
        """
        seen = self._watchdog.looks.last(self._ticket)
        if self._ticket.outcome is not None or self._watchdog.why_nobody(seen):
            return None
        return seen.eta if seen is not None else None

    async def look(self) -> Look:
        """Look at the store now; the properties then say what it saw. Raises StoreUnavailable."""
        return await self._watchdog.looks.look(self._ticket)

    def done(self) -> bool:
        """Whether the outcome is here. Asking makes the queue fetch it in the background once it has landed."""
        if self._ticket.outcome is None:
            self._listener.want(self._ticket)
        return self._ticket.outcome is not None

    async def outcome(self, timeout_s: float | None = None) -> Outcome:
        """The ``Answer`` or the ``Failed``, without raising for the latter.

        Raises TimeoutError after ``timeout_s`` (the prompt goes on); ConfigError where an emulated prompt is asked for
        from a real account, or the reverse; StoreUnavailable when the Queue has been closed.
        """
        ticket = self._ticket
        if ticket.outcome is None:
            if timeout_s is None:
                await self._wait(ticket)
            else:
                async with asyncio.timeout(timeout_s):
                    await self._wait(ticket)
        return taken(ticket, self._listener)

    async def _wait(self, ticket: Ticket) -> None:
        waiter = ticket.waiter()
        try:
            self._listener.want(ticket)
            if ticket.outcome is None:
                await waiter
        finally:
            ticket.leave(waiter)

    async def result(self, timeout_s: float | None = None) -> Answer:
        """The answer.

        Raises PromptFailed, PromptCancelled, OutcomeExpired (it is no longer kept, or there never was such a prompt),
        and what ``outcome`` raises.
        """
        return answer_of(await self.outcome(timeout_s))

    def __await__(self) -> Generator[object, None, Answer]:
        return self.result().__await__()

    async def cancel(self) -> Stopped:
        """Cancel the prompt wherever it is, for everybody who waits for it; says what that could still stop.

        Raises OutcomeExpired when there is no such prompt (any more), StoreUnavailable.
        """
        segment, key = self._ticket.segment, self._ticket.key
        assert segment is not None  # noqa: S101 - a future is handed out once its prompt has a place
        word = await self._store.cancel(segment.id, self._ticket.index, codec.compress(cancelled_line(key)))
        if word == "unknown":
            raise OutcomeExpired(f"{key}: there is no such prompt, or no more", key=key, name=self.name)
        return Stopped(word)

    def __repr__(self) -> str:
        outcome = self._ticket.outcome
        return f"Future({self._ticket.key!r}, {'pending' if outcome is None else outcome!r})"


def taken(ticket: Ticket, listener: Listener) -> Outcome:
    """The outcome of a ticket that is settled, as the caller's code takes it. Raises what ``Future.outcome`` says."""
    outcome = ticket.outcome
    assert outcome is not None  # noqa: S101 - a waiter returns when it is there
    if isinstance(outcome, Failed) and isinstance(outcome.error, ConfigError):
        raise outcome.error
    listener.took(ticket)
    return outcome


def answer_of(outcome: Outcome) -> Answer:
    """The answer, or what awaiting a single prompt raises for its failure."""
    if isinstance(outcome, Failed):
        raise_for(outcome)
    return outcome
