"""The one listener of a ``Queue``: knows which segments are waited for and have news, and fetches their outcomes.

Two tasks. The *reader* of the inbox marks segments as having news. The *fetcher* reads the blobs that have landed since
its cursor, a bounded number at a time, and has each line routed by its key. A notice is a hint: segments that join
later, a reopened inbox and the watchdog mark segments in the same way, so losing notices costs seconds and nothing
else.

Another process's segment is watched first and looked at then, so nothing can land between the two unseen.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from gemqueue.client.inbox import Inbox, hold_off
from gemqueue.client.router import Router, why_gone
from gemqueue.client.tickets import Segment, Ticket, chain
from gemqueue.errors import ConfigError, UnreadableRecord
from gemqueue.ids import new_producer_id
from gemqueue.tasks import end_tasks, ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from gemqueue.errors import GemqueueError
    from gemqueue.store.producer import ProducerStore, Watched

log = logging.getLogger("gemqueue")

_SEGMENTS_MAX = 64
_BLOBS_MAX = 8
_FETCH_BYTES_MAX = 8_000_000
_WATCHES_MAX = 16
_DELIVERED_MAX = 100_000


class Listener:
    """Settles one ``Queue``'s tickets. ``account`` says whose answers may come; ``on_lost`` may revive the server."""

    def __init__(self, store: ProducerStore, account: str, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._account = account
        self._producer = new_producer_id()
        self._on_lost = on_lost
        self._inbox = Inbox(store, self._producer, on_lost)
        self._emulated = account.startswith("emulated.")
        self._router = Router(emulated=self._emulated)
        self._segments: WeakValueDictionary[str, Segment] = WeakValueDictionary()
        self._waited: dict[str, Segment] = {}
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._fetch_max = _SEGMENTS_MAX
        self._delivered: dict[str, bool] = {}
        self._ripe: frozenset[str] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed: GemqueueError | None = None
        self.forgot = ""
        """What to say of prompts of this process that the server does not know: it has forgotten the queue."""

    @property
    def account(self) -> str:
        """Whose answers may come."""
        return self._account

    @property
    def producer(self) -> str:
        """Whose inbox gets the notices of segments."""
        return self._producer

    @property
    def waited(self) -> Mapping[str, Segment]:
        """The segments that somebody waits for, longest unchecked first."""
        return self._waited

    async def open(self) -> None:
        """Open the inbox and start listening; on a full server without one, for now. Raises StoreUnavailable."""
        await self._inbox.open()
        self._tasks = [
            asyncio.create_task(self._inbox.read(self), name="gemqueue-reader"),
            asyncio.create_task(self._fetch(), name="gemqueue-fetcher"),
        ]

    async def close(self, error: GemqueueError) -> None:
        """Stop listening; whoever still waits gets ``error``."""
        self._closed = error
        await end_tasks(self._tasks)
        self.abandon(error)
        await self._inbox.close()

    def abandon(self, error: GemqueueError) -> None:
        """No more outcomes will come: whoever waits gets ``error``."""
        for segment in list(self._waited.values()):
            for first in list(segment.tickets.values()):
                for ticket in chain(first):
                    ticket.abandon(error)
            for span in segment.spans:
                span.sink.abandon(error)
            segment.clear()
        self._waited.clear()

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
            self._waited[segment.id] = segment

    def forget(self, segment: Segment) -> None:
        """An own segment was not registered."""
        segment.clear()
        self._waited.pop(segment.id, None)
        self._segments.pop(segment.id, None)

    def want(self, ticket: Ticket) -> None:
        """Somebody waits for this ticket, which has a place. Raises nothing: what is wrong becomes its outcome."""
        segment = ticket.segment
        if segment is None or ticket.outcome is not None:
            return
        outcome = self._router.at_hand(segment, ticket)
        if outcome is not None:
            ticket.settle(outcome)
            return
        if self._closed is not None:
            ticket.abandon(self._closed)
            return
        segment.wait_for(ticket)
        if ticket.index < len(segment.routed) and segment.routed[ticket.index]:
            segment.rewind()  # it came, and was not kept
            self._waited.pop(segment.id, None)
        if segment.id not in self._waited:
            self._waited[segment.id] = segment
            self.expect_news((segment.id,))

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
            self._delivered[segment.id] = segment.keyed

    def key_read(self, ticket: Ticket) -> None:
        """The caller's code has this key, and may ask for its outcome anywhere, also after it was taken here."""
        segment = ticket.segment
        if segment is not None and not segment.keyed:
            segment.keyed = True
            if segment.id in self._delivered:
                self._delivered[segment.id] = True

    async def deliver(self, *, ripe: bool = False) -> None:
        """Tell the store of which segments every outcome has been taken. Raises StoreUnavailable.

        ``ripe``: only of those that had been by the last time, since the caller's code may be about to read a key.
        """
        for id_ in list(islice(self._delivered, max(0, len(self._delivered) - _DELIVERED_MAX))):
            del self._delivered[id_]  # untold ones expire by themselves, only later
        for keyed in (False, True):
            batch = [id_ for id_, has in self._delivered.items() if has is keyed and (id_ in self._ripe or not ripe)]
            if batch:
                await self._store.deliver(batch, keyed=keyed)
                for id_ in batch:
                    self._delivered.pop(id_, None)
        self._ripe = frozenset(self._delivered)

    def checked(self, count: int) -> None:
        """The first ``count`` of those that are waited for have been compared with the store: now the others come."""
        for id_ in list(islice(self._waited, count)):
            self._waited[id_] = self._waited.pop(id_)

    def missed(self) -> None:
        """Notices may have been missed: what came meanwhile is read from the outcomes themselves."""
        for segment in self._waited.values():
            segment.watched = segment.own
        self.expect_news(list(self._waited))

    def expect_news(self, ids: Iterable[str]) -> None:
        """These segments may have news."""
        for id_ in ids:
            if id_ in self._waited:
                self._news[id_] = None
        if self._news:
            self._wake.set()

    def gone(self, segment: Segment, *, unreadable: bool = False) -> None:
        """No more outcomes will come from this segment."""
        self._router.give_up(segment, why_gone(segment, self.forgot, unreadable=unreadable))
        self._finish(segment)

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
                await self._fetch_news(ids)
                failures = 0
            except Exception as error:  # noqa: BLE001 - as in the reader
                self.expect_news(ids)
                await hold_off(error, failures, self._on_lost)
                failures += 1

    async def _fetch_news(self, ids: list[str]) -> None:
        asked = [segment for id_ in ids if (segment := self._waited.get(id_)) is not None]
        await self._watch([segment for segment in asked if not segment.watched])
        known = [segment for segment in asked if segment.id in self._waited]
        cursors = [(segment.id, segment.cursor) for segment in known]
        found = await self._store.outcomes(cursors, _BLOBS_MAX)
        self._adapt(sum([len(blob) for blobs in found for blob in blobs]))
        now = asyncio.get_running_loop().time()
        for segment, (_, cursor), blobs in zip(known, cursors, found, strict=True):
            segment.news_at = now
            for number, blob in enumerate(blobs):
                await self._router.route(segment, blob)
                if not segment.waiting:
                    self._finish(segment)
                if segment.cursor == cursor + number:  # unless somebody asked to read again
                    segment.cursor += 1
                await asyncio.sleep(0)
            if blobs and (len(blobs) == _BLOBS_MAX or segment.cursor != cursor + len(blobs)):
                self.expect_news((segment.id,))

    def _adapt(self, n_bytes: int) -> None:
        """Fetch from fewer segments at once while their outcomes are large."""
        if n_bytes > _FETCH_BYTES_MAX:
            self._fetch_max = max(1, self._fetch_max // 2)
        elif n_bytes < _FETCH_BYTES_MAX // 4:
            self._fetch_max = min(_SEGMENTS_MAX, self._fetch_max * 2)

    async def _watch(self, segments: list[Segment]) -> None:
        for start in range(0, len(segments), _WATCHES_MAX):
            group = segments[start : start + _WATCHES_MAX]
            replies = await asyncio.gather(*map(self._watched, group))
            for segment, watched in zip(group, replies, strict=True):
                if watched is None or isinstance(watched, UnreadableRecord):
                    self.gone(segment, unreadable=watched is not None)
                else:
                    self._admit(segment, watched)

    async def _watched(self, segment: Segment) -> Watched | UnreadableRecord | None:
        try:
            return await self._store.watch(segment.id, self._producer)
        except UnreadableRecord as error:
            log.error("%s; its outcomes cannot be read", error)  # noqa: TRY400 - it is expected
            return error

    def _admit(self, segment: Segment, watched: Watched) -> None:
        """Another process's segment is known now: its account, and how many prompts it has."""
        segment.watched = True
        segment.size_to(watched.count)
        if watched.lane is None:
            segment.refusal = ConfigError(
                f"The prompts of segment {segment.id} are in a lane that this gemqueue does not know: "
                "upgrade this program to read them"
            )
        elif watched.lane.account.startswith("emulated.") != self._emulated:
            theirs, ours = ("emulated", "a real account") if not self._emulated else ("real", "emulated")
            segment.refusal = ConfigError(
                f"The prompts of segment {segment.id} are {theirs} and this Queue is {ours}: connect with "
                f"emulate={not self._emulated} to read them"
            )
        segment.lane = str(watched.lane or "")
        for first in list(segment.tickets.values()):
            for ticket in chain(first):
                if (outcome := self._router.at_hand(segment, ticket)) is not None:
                    ticket.settle(outcome)
                    segment.tickets.pop(ticket.index, None)
        if not segment.tickets:
            self._finish(segment)

    def _finish(self, segment: Segment) -> None:
        """Nobody waits for this segment any more."""
        segment.clear()
        self._waited.pop(segment.id, None)
        self._news.pop(segment.id, None)
