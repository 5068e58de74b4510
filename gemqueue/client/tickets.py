"""What this process remembers of prompts on their way: a ``Ticket`` each, a ``Segment`` for those that travel together.

A ticket is settled once. Until its prompt has a place in the store its segment is None. The rows of a bulk call have
no tickets but where they have names: a segment remembers those by *spans*, rows that follow each other in the call and
in the segment. What lands for a span is handed to the call once for each blob that is read, not once for each prompt.
"""

from __future__ import annotations

import asyncio
import copy
from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakValueDictionary

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gemqueue.errors import GemqueueError
    from gemqueue.language.lines import OutcomeLine
    from gemqueue.language.outcomes import Failed, Outcome


_start = attrgetter("start")


class Ticket(msgspec.Struct, eq=False, weakref=True):
    """One prompt that this process has submitted or asks for.

    ``twin`` chains tickets that wait for the same prompt; ``acked`` is the submitter's own ``receipt``, so that a
    cancelled submitter disturbs nobody else. ``position`` is the row's in the bulk call that is its ``sink``.
    """

    name: str | None = None
    tag: object = None
    sink: Sink | None = None
    position: int = 0
    segment: Segment | None = None
    index: int = 0
    taken: bool = False
    outcome: Outcome | None = None
    twin: Ticket | None = None
    acked: asyncio.Future[None] | None = None
    waiters: list[asyncio.Future[None]] | None = None

    @property
    def key(self) -> str:
        """The prompt's key; empty until it has a place."""
        return f"{self.segment.id}.{self.index}" if self.segment is not None else ""

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the outcome right now."""
        return self.sink is not None or bool(self.waiters)

    def receipt(self) -> asyncio.Future[None]:
        """Something to await until the store has the prompt, which raises why it is not taken."""
        self.acked = asyncio.get_running_loop().create_future()
        return self.acked

    def acknowledge(self) -> None:
        """The store has the prompt."""
        acked, self.acked = self.acked, None
        if acked is not None and not acked.done():
            acked.set_result(None)

    def refuse(self, outcome: Failed) -> None:
        """The prompt was not taken, as its outcome says."""
        acked, self.acked = self.acked, None
        if acked is not None and not acked.done():
            acked.set_exception(outcome.error)
        self.settle(outcome)

    def settle(self, outcome: Outcome) -> None:
        """Give it its outcome and tell whoever waits; asking twice changes nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        if self.sink is not None:
            self.sink.landed(self)
        if self.waiters is not None:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def abandon(self, error: GemqueueError) -> None:
        """Nobody will settle it here any more: whoever waits gets ``error``."""
        if self.sink is not None:
            self.sink.abandon(error)
        for waiter in (*(self.waiters or ()), *((self.acked,) if self.acked else ())):
            if not waiter.done():
                waiter.set_exception(copy.copy(error))

    def waiter(self) -> asyncio.Future[None]:
        """Something to await until it is settled; cancelling that leaves the ticket as it is.

        Whoever asked for it says so to ``leave`` when the await is over; once the ticket is settled it need not.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.waiters is None:
            self.waiters = [waiter]
        else:
            self.waiters.append(waiter)
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        """This waiter waits no more."""
        if self.waiters is not None:
            self.waiters.remove(waiter)


class Segment:
    """What this process knows of one segment. It lives as long as a ticket of it does, or the listener waits for it.

    ``tickets`` are the prompts that somebody waits for, by index, ``spans`` those that a bulk call waits for without a
    ticket; ``handles`` those that somebody merely holds. Lines that came along for neither are ``kept`` for a while,
    within the listener's budget; ``routed`` marks what has come and is not kept. ``cursor`` counts the blobs read; they
    are ``read_anew`` once where something is missing at the end. ``plain`` segments may be dropped early once all is
    ``taken``, but for those of which the caller's code has read a key (``keyed``).
    """

    __slots__ = (
        "__weakref__", "count", "cursor", "handles", "id", "kept", "kept_bytes", "keyed", "lane", "live", "news_at",
        "own", "plain", "prefix", "read_anew", "refusal", "routed", "spans", "taken", "taken_map", "tickets", "watched",
    )  # fmt: skip

    def __init__(self, id_: str, *, own: bool, count: int = 0, plain: bool = False) -> None:
        self.id = id_
        self.prefix = f"{id_}."
        self.own = own
        self.lane = ""  # until it is known
        self.plain = plain
        self.keyed = False
        self.count = count
        self.routed = bytearray(count)
        self.cursor = 0
        self.read_anew = False
        self.taken = 0
        self.taken_map = bytearray(count)
        self.live = not own  # an own segment is live once it is acknowledged
        self.watched = own  # notices of an own segment come by themselves
        self.news_at = 0.0
        self.refusal: GemqueueError | None = None
        self.tickets: dict[int, Ticket] = {}
        self.spans: list[Span] = []
        self.handles: WeakValueDictionary[int, Ticket] = WeakValueDictionary()
        self.kept: dict[int, OutcomeLine] = {}
        self.kept_bytes = 0

    def rewind(self) -> None:
        """Read its outcomes from the first on again."""
        self.cursor = 0

    def size_to(self, count: int) -> None:
        """Learn how many prompts there are."""
        self.count = count
        self.routed.extend(bytes(count - len(self.routed)))
        self.taken_map.extend(bytes(count - len(self.taken_map)))

    def place(self, ticket: Ticket, index: int) -> None:
        """This is where the ticket's prompt lies."""
        ticket.segment = self
        ticket.index = index
        if not ticket.wanted:  # who waits is found among the tickets
            self.handles.setdefault(index, ticket)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a prompt of it."""
        return bool(self.tickets) or any(span.left for span in self.spans)

    def place_all(self, prompts: Iterable[Prompt]) -> None:
        """These are all of the segment's prompts, in order; who waits is found among them from now on."""
        last: Span | None = None
        ahead = 0  # how far the row's place in its call is ahead of its place here
        for index, prompt in enumerate(prompts):
            ticket = prompt.ticket
            if ticket is None:
                sink = prompt.sink
                if last is None or sink is not last.sink or prompt.position - index != ahead or last.stop != index:
                    assert sink is not None  # noqa: S101 - it has one or a ticket
                    last = Span(self, index, sink, prompt.position)
                    self.spans.append(last)
                    ahead = prompt.position - index
                last.stop = index + 1
                continue
            ticket.segment = self
            ticket.index = index
            if ticket.sink is not None or ticket.waiters:
                self.tickets[index] = ticket
            else:
                self.handles.setdefault(index, ticket)

    def span_at(self, index: int) -> Span | None:
        """The span that the prompt is in."""
        after = bisect_right(self.spans, index, key=_start)
        return self.spans[after - 1] if after and index < self.spans[after - 1].stop else None

    def clear(self) -> None:
        """Nobody waits for it any more."""
        self.tickets.clear()
        self.spans.clear()

    def wait_for(self, ticket: Ticket) -> None:
        """Somebody waits for this ticket of the segment."""
        first = self.tickets.get(ticket.index)
        if first is None:
            self.tickets[ticket.index] = ticket
        elif not any(ticket is each for each in chain(first)):
            ticket.twin = first.twin
            first.twin = ticket


def chain(first: Ticket) -> Iterator[Ticket]:
    """The ticket and its twins."""
    ticket: Ticket | None = first
    while ticket is not None:
        following = ticket.twin
        yield ticket
        ticket = following


class Route(NamedTuple):
    """What prompts must share to travel in one segment; ``lane`` is written out, ``deadline_at`` in ms or 0."""

    lane: str
    tenant: str
    priority: int
    deadline_at: int = 0


class Prompt(msgspec.Struct, frozen=True):
    """A prompt at the door: its request and its ticket, with the digests of what it asks where it has a name.

    The first of them is the one to store, and says what is asked; by the others what 0.2.0 stored is known again.

    A row of a bulk call that has no name has no ticket, but its ``position`` in the call, which is the ``sink``.
    """

    ticket: Ticket | None
    request: bytes
    digests: tuple[str, ...] = ()
    sink: Sink | None = None
    position: int = 0


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
