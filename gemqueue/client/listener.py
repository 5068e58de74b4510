"""The one listener of a ``Queue``: learns which segments have news, fetches their outcomes, settles the tickets.

Two tasks. The *reader* blocks on the inbox, the stream in which settle leaves a notice per call, and marks segments as
having news. The *fetcher* reads the blobs that have landed since its cursor, a bounded number at a time, and routes
each line by its key. A notice is a hint: segments that join later, a reopened inbox and the watchdog mark segments in
the same way, so losing notices costs seconds and nothing else.

Another process's segment is watched first and looked at then, so nothing can land between the two unseen.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from gemqueue.client.kept import KeptLines
from gemqueue.client.tickets import Segment, Ticket, chain
from gemqueue.errors import ConfigError, StoreError, StoreUnavailable
from gemqueue.ids import new_producer_id
from gemqueue.language.lines import read_lines
from gemqueue.language.outcomes import expired, outcome_of, refused
from gemqueue.records import Lane
from gemqueue.states import FailureKind
from gemqueue.store import codec
from gemqueue.store.scripts import ServerFull
from gemqueue.tasks import end_tasks, ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gemqueue.client.tickets import Span
    from gemqueue.errors import GemqueueError
    from gemqueue.language.lines import OutcomeLine
    from gemqueue.language.outcomes import Outcome
    from gemqueue.store.producer import ProducerStore, Watched

log = logging.getLogger("gemqueue")

_BLOCK_MS = 5_000
_SEGMENTS_MAX = 64
_BLOBS_MAX = 8
_FETCH_BYTES_MAX = 8_000_000
_WATCHES_MAX = 16
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 2.0
_GONE = "its outcome is no longer kept (keep_outcome_s), or no such prompt was ever submitted to this queue"
_UNREADABLE = "it is settled, but its outcome cannot be read"


class Listener:
    """Settles one ``Queue``'s tickets. ``account`` says whose answers may come; ``on_lost`` may revive the server."""

    def __init__(self, store: ProducerStore, account: str, on_lost: Callable[[], Awaitable[None]]) -> None:
        self.producer = new_producer_id()
        self.closed: GemqueueError | None = None
        self.waited: dict[str, Segment] = {}
        """The segments that somebody waits for, longest unchecked first."""
        self.delivered: list[str] = []
        """Segments of which every outcome has been taken by the caller's code, until ``deliver`` has said so."""
        self._store = store
        self.account = account
        self._emulated = account.startswith("emulated.")
        self._on_lost = on_lost
        self._segments: WeakValueDictionary[str, Segment] = WeakValueDictionary()
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._kept = KeptLines()
        self._fetch_max = _SEGMENTS_MAX
        self._after: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open the inbox and start listening; on a full server without one, for now. Raises StoreUnavailable."""
        try:
            self._after = await self._store.open_inbox(self.producer)
        except ServerFull as error:
            log.warning("%s; answers are looked for every watchdog_s instead", error)
        self._tasks = [
            asyncio.create_task(self._read(), name="gemqueue-reader"),
            asyncio.create_task(self._fetch(), name="gemqueue-fetcher"),
        ]

    async def close(self, error: GemqueueError) -> None:
        """Stop listening; whoever still waits gets ``error``."""
        self.closed = error
        await end_tasks(self._tasks)
        self._abandon(error)
        try:
            await self._store.close_inbox(self.producer)
        except StoreError:
            log.debug("The inbox was not removed; it expires")

    def _abandon(self, error: GemqueueError) -> None:
        for segment in list(self.waited.values()):
            for first in list(segment.tickets.values()):
                for ticket in chain(first):
                    ticket.abandon(error)
            for span in segment.spans:
                span.sink.abandon(error)
            segment.clear()
        self.waited.clear()

    # --- what others tell it ---

    def segment(self, id_: str) -> Segment:
        """The segment as this process knows it, or a new one that is not known yet."""
        segment = self._segments.get(id_)
        if segment is None:
            segment = self._segments[id_] = Segment(id_, own=False)
        return segment

    def expect(self, segment: Segment) -> None:
        """An own segment is about to be registered."""
        self._segments[segment.id] = segment
        if segment.waiting:
            self.waited[segment.id] = segment

    def forget(self, segment: Segment) -> None:
        """An own segment was not registered."""
        segment.clear()
        self.waited.pop(segment.id, None)
        self._segments.pop(segment.id, None)

    def want(self, ticket: Ticket) -> None:
        """Somebody waits for this ticket, which has a place. Raises nothing: what is wrong becomes its outcome."""
        segment = ticket.segment
        if segment is None or ticket.outcome is not None:
            return
        outcome = self._at_hand(segment, ticket)
        if outcome is not None:
            ticket.settle(outcome)
            return
        if self.closed is not None:
            ticket.abandon(self.closed)
            return
        segment.wait_for(ticket)
        if ticket.index < len(segment.routed) and segment.routed[ticket.index]:
            segment.cursor = 0  # it came, and was not kept: read it again
            self.waited.pop(segment.id, None)
        if segment.id not in self.waited:
            self.waited[segment.id] = segment
            self.look_at((segment.id,))

    def took(self, ticket: Ticket) -> None:
        """The caller's code has the ticket's outcome."""
        segment = ticket.segment
        if ticket.taken or segment is None or not segment.plain:
            return
        ticket.taken = True
        if ticket.index >= segment.count or segment.taken_map[ticket.index]:
            return  # no prompt, or by another ticket of the same one
        self.took_slots(segment, ticket.index, ticket.index + 1)

    def took_slots(self, segment: Segment, start: int, stop: int) -> None:
        """The caller's code has the outcomes of these prompts."""
        new = segment.taken_map.count(0, start, stop)
        segment.taken_map[start:stop] = b"\x01" * (stop - start)
        segment.taken += new
        if new and segment.plain and segment.taken == segment.count:
            self.delivered.append(segment.id)

    def look_at(self, ids: Iterable[str]) -> None:
        """These segments may have news."""
        for id_ in ids:
            if id_ in self.waited:
                self._news[id_] = None
        if self._news:
            self._wake.set()

    def gone(self, segment: Segment, *, unreadable: bool = False) -> None:
        """No more outcomes will come from this segment."""
        for first in list(segment.tickets.values()):
            for ticket in chain(first):
                ticket.settle(expired(ticket.key, _UNREADABLE if unreadable else _GONE, ticket.name, ticket.tag))
        for span in segment.spans:
            for index in range(span.start, span.stop):
                if not segment.routed[index]:
                    key, tag = f"{segment.prefix}{index}", span.tag_of(index)
                    span.add(index, expired(key, _UNREADABLE if unreadable else _GONE, None, tag))
            span.hand_over()
        self._finish(segment)

    # --- the reader ---

    async def _read(self) -> None:
        failures = 0
        renew_at = lost_at = 0.0
        loop = asyncio.get_running_loop()
        while not ending():
            try:
                if self._after is None or (
                    loop.time() >= renew_at and not await self._store.renew_inbox(self.producer)
                ):
                    await self._reopen()
                    renew_at = 0.0
                if loop.time() >= renew_at:
                    renew_at = loop.time() + self._store.settings.inbox_keep_s / 3
                block_ms = min(_BLOCK_MS, max(1, int((renew_at - loop.time()) * 1000)))
                self._after, ids = await self._store.read_inbox(self.producer, self._after or "$", block_ms)
                self.look_at(ids)
                failures = 0
            except Exception as error:  # noqa: BLE001 - a reader that dies would leave every future hanging
                self._after = None
                lost_at = lost_at if failures else loop.time()
                if loop.time() - lost_at >= self._store.settings.server_gone_s and isinstance(error, StoreUnavailable):
                    self._abandon(error)
                await self._hold_off(error, failures)
                failures += 1

    async def _reopen(self) -> None:
        """The inbox is gone, or may have been: what was missed is read again from the outcomes themselves."""
        self._after = await self._store.open_inbox(self.producer)
        for segment in self.waited.values():
            segment.watched = segment.own
        self.look_at(list(self.waited))

    async def _hold_off(self, error: Exception, failures: int) -> None:
        if not isinstance(error, StoreUnavailable):
            log.error("The listener failed and goes on: %s: %s", type(error).__name__, error)
        elif failures == 0:
            log.warning("%s; waiting for it to come back", error)
        if failures:
            await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2**failures))
        await self._on_lost()

    # --- the fetcher ---

    async def _fetch(self) -> None:
        failures = 0
        while not ending():
            if not self._news:
                self._wake.clear()
                await self._wake.wait()
            ids = [id_ for id_, _ in zip(self._news, range(self._fetch_max), strict=False)]
            for id_ in ids:
                del self._news[id_]
            try:
                await self._look(ids)
                failures = 0
            except Exception as error:  # noqa: BLE001 - as in the reader
                self.look_at(ids)
                await self._hold_off(error, failures)
                failures += 1

    async def _look(self, ids: list[str]) -> None:
        asked = [segment for id_ in ids if (segment := self.waited.get(id_)) is not None]
        await self._watch([segment for segment in asked if not segment.watched])
        known = [segment for segment in asked if segment.id in self.waited]
        cursors = [(segment.id, segment.cursor) for segment in known]
        found = await self._store.outcomes(cursors, _BLOBS_MAX)
        self._adapt(sum([len(blob) for blobs in found for blob in blobs]))
        now = asyncio.get_running_loop().time()
        for segment, (_, cursor), blobs in zip(known, cursors, found, strict=True):
            segment.news_at = now
            for number, blob in enumerate(blobs):
                await self._route(segment, blob)
                if segment.cursor == cursor + number:  # unless somebody asked to read again
                    segment.cursor += 1
                await asyncio.sleep(0)
            if blobs and (len(blobs) == _BLOBS_MAX or segment.cursor != cursor + len(blobs)):
                self.look_at((segment.id,))

    def _adapt(self, n_bytes: int) -> None:
        """Fetch from fewer segments at once while their outcomes are large."""
        if n_bytes > _FETCH_BYTES_MAX:
            self._fetch_max = max(1, self._fetch_max // 2)
        elif n_bytes < _FETCH_BYTES_MAX // 4:
            self._fetch_max = min(_SEGMENTS_MAX, self._fetch_max * 2)

    async def _watch(self, segments: list[Segment]) -> None:
        for start in range(0, len(segments), _WATCHES_MAX):
            group = segments[start : start + _WATCHES_MAX]
            replies = await asyncio.gather(*(self._store.watch(segment.id, self.producer) for segment in group))
            for segment, watched in zip(group, replies, strict=True):
                if watched is None:
                    self.gone(segment)
                else:
                    self._admit(segment, watched)

    def _admit(self, segment: Segment, watched: Watched) -> None:
        """Another process's segment is known now: its account, and how many prompts it has."""
        segment.watched = True
        segment.lane = watched.lane
        segment.size_to(watched.count)
        account = Lane.parse(watched.lane).account
        if account.startswith("emulated.") != self._emulated:
            theirs, ours = ("emulated", "a real account") if not self._emulated else ("real", "emulated")
            segment.refusal = ConfigError(
                f"The prompts of segment {segment.id} are {theirs} and this Queue is {ours}: connect with "
                f"emulate={not self._emulated} to read them"
            )
        for first in list(segment.tickets.values()):
            for ticket in chain(first):
                if (outcome := self._at_hand(segment, ticket)) is not None:
                    ticket.settle(outcome)
                    segment.tickets.pop(ticket.index, None)
        if not segment.tickets:
            self._finish(segment)

    # --- routing ---

    def _at_hand(self, segment: Segment, ticket: Ticket) -> Outcome | None:
        """The ticket's outcome where it needs no reading: kept, refused, or of a prompt that the segment never had."""
        line = self._kept.take(segment, ticket.index)
        if line is not None:
            return outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated)
        if segment.refusal is not None:
            return refused(segment.refusal, FailureKind.INVALID, ticket.name, ticket.tag, ticket.key)
        if segment.watched and ticket.index >= segment.count:
            return expired(ticket.key, _GONE, ticket.name, ticket.tag)
        return None

    async def _route(self, segment: Segment, blob: bytes) -> None:
        """Give every line of a blob to the ticket that its key names."""
        try:
            text = await codec.expand_async(blob)
        except ValueError:
            log.exception("An outcome blob of segment %s cannot be read", segment.id)
            return
        lines, bad = read_lines(text, segment.prefix, segment.count)
        if bad:
            log.error("%d outcome lines of segment %s cannot be read or have a foreign key", bad, segment.id)
        self._give(segment, lines)
        self._kept.evict()
        if not segment.waiting:
            self._finish(segment)

    def _give(self, segment: Segment, lines: Iterable[tuple[int, OutcomeLine]]) -> None:
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
                self._route_unasked(segment, index, line)
            else:
                routed[index] = 1
                self._settle(first, line)
        for each in spans:
            each.hand_over()

    def _settle(self, first: Ticket, line: OutcomeLine) -> None:
        ticket: Ticket | None = first
        while ticket is not None:
            following, ticket.twin = ticket.twin, None
            ticket.settle(outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated))
            ticket = following

    def _route_unasked(self, segment: Segment, index: int, line: OutcomeLine) -> None:
        """Nobody waits for it now: it belongs to whoever holds its ticket, else it is kept within the budget."""
        ticket = segment.handles.get(index)
        if ticket is not None:
            segment.routed[index] = 1
            ticket.settle(outcome_of(line, ticket.name, ticket.tag, emulated=self._emulated))
        else:
            self._kept.keep(segment, index, line)

    def _finish(self, segment: Segment) -> None:
        """Nobody waits for this segment any more."""
        segment.clear()
        self.waited.pop(segment.id, None)
        self._news.pop(segment.id, None)
