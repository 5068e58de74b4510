"""From a prompt at the door to a durable segment: group commit, backpressure, acknowledgement.

The life of a prompt here. ``put`` lays it into the buffer of its route. The buffer is cut when it holds a full segment,
or ``flush_ms`` after its first prompt, ten times as long while a bulk call is just filling it; what is cut becomes a
*flight*: one segment, written in one round trip. While ``flushes_max`` flights are under way the buffers gather, so
that load makes segments larger instead of more numerous. A flight retries under the same segment id, which the store
registers once, until it is acknowledged or ``submit_timeout_s`` is over. Names that are taken send their prompts to the
prompts that have them, and the rest of the flight is cut anew under another id.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from gemqueue.client.buffer import Buffer, Space
from gemqueue.client.bursts import Bursts
from gemqueue.client.tickets import Prompt, Route, Segment, Ticket
from gemqueue.errors import GemqueueError, NameConflict, QueueFull, StoreError, StoreUnavailable
from gemqueue.ids import new_segment_id, split_key
from gemqueue.language.identity import FORM, form_of
from gemqueue.language.lines import lines, token_estimates
from gemqueue.language.outcomes import refused
from gemqueue.states import FailureKind, Step
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.scripts import ServerFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.client.listener import Listener
    from gemqueue.store.producer import Enqueued, Owner, ProducerStore

log = logging.getLogger("gemqueue")

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0
_FILLING = 10


class _Holder:
    """Who has a name in this process until the store knows it, and who wants the same prompt under it."""

    __slots__ = ("digest", "twins")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.twins: list[Ticket] = []


class _Flight:
    """Prompts on their way into the store as one segment."""

    __slots__ = ("deadline", "prompts", "route", "segment", "tickets")

    def __init__(self, route: Route, prompts: list[Prompt], deadline: float) -> None:
        self.route = route
        self.deadline = deadline
        self.segment = Segment("", own=True)
        self.load(prompts)

    def load(self, prompts: list[Prompt]) -> None:
        """Carry these prompts; ``tickets`` are of those that have some, with their indices."""
        self.prompts = prompts
        self.tickets = [(i, prompt.ticket) for i, prompt in enumerate(prompts) if prompt.ticket is not None]


class Producer:
    """The producing side of one ``Queue``; ``listener`` learns of every segment before it can have news."""

    def __init__(self, store: ProducerStore, listener: Listener, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._settings = store.settings
        self.now_ms = store.clock.now_ms
        self._listener = listener
        self._on_lost = on_lost
        self._buffers: dict[Route, Buffer] = {}
        self._due: deque[Buffer] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._names: dict[str, _Holder] = {}
        self._bursts = Bursts(lambda lane: store.hasten(Step.PACK, lane, listener.account))
        self._prompts_max = store.settings.segment_prompts_max
        self._bytes_max = store.settings.segment_bytes_max
        self.closed: GemqueueError | None = None
        """Set it, and nothing more is taken."""
        self.space = Space(self._settings.buffer_bytes_max)

    async def take_space(self, n_bytes: int) -> None:
        """Room for one prompt of a single call. Raises QueueFull when there was none for ``submit_timeout_s``."""
        if self.space.try_take(n_bytes):
            return
        try:
            async with asyncio.timeout(self._settings.submit_timeout_s):
                await self.space.take(n_bytes)
        except TimeoutError:
            raise QueueFull(
                f"{self.space.used_bytes} bytes of prompts wait in this process (buffer_bytes_max) and the store took "
                f"none of them for {self._settings.submit_timeout_s:g} s; submit it again later"
            ) from None

    def put(self, route: Route, prompt: Prompt) -> None:
        """Take a prompt whose room has been taken; its ticket hears of the rest.

        Raises NameConflict when another body under the same name is on its way, and ``closed`` once that is set.
        """
        if self.closed is not None:
            self.space.give_back(len(prompt.request))
            raise copy.copy(self.closed)
        ticket = prompt.ticket
        if ticket is not None and ticket.name is not None and not self._is_new(ticket.name, prompt):
            self.space.give_back(len(prompt.request))
            return
        buffer = self._buffers.get(route)
        if buffer is None:
            buffer = self._buffers[route] = Buffer(route)
        buffer.add(prompt)
        if len(buffer.prompts) >= self._prompts_max or buffer.bytes >= self._bytes_max:
            self._ripen(buffer)
        elif buffer.timer is None and not buffer.due:
            self._start_timer(buffer)

    def _is_new(self, name: str, prompt: Prompt) -> bool:
        holder = self._names.get(name)
        if holder is None:
            self._names[name] = _Holder(prompt.digests[0])
            return True
        if holder.digest != prompt.digests[0]:
            self.space.give_back(len(prompt.request))
            raise _conflict(name, "", holder.digest)
        assert prompt.ticket is not None  # noqa: S101 - what has a name has a ticket
        holder.twins.append(prompt.ticket)
        return False

    async def drain(self) -> None:
        """Return when everything that was put is acknowledged or refused; nothing may be put meanwhile."""
        for buffer in list(self._buffers.values()):
            self._ripen(buffer)
        while self._flights:
            await asyncio.wait(self._flights)
            for buffer in list(self._buffers.values()):
                self._ripen(buffer)
        await self._bursts.close()

    # --- buffers ---

    def _start_timer(self, buffer: Buffer) -> None:
        loop = asyncio.get_running_loop()
        buffer.since = buffer.since or loop.time()
        buffer.seen = len(buffer.prompts)
        buffer.timer = loop.call_later(self._settings.flush_ms / 1000, self._time_up, buffer)

    def _time_up(self, buffer: Buffer) -> None:
        """``flush_ms`` are over; whose prompts still come from a bulk call may wait some times as long to be filled."""
        buffer.timer = None
        filling = len(buffer.prompts) > buffer.seen and buffer.prompts[-1].sink is not None
        age_ms = (asyncio.get_running_loop().time() - buffer.since) * 1000
        if filling and age_ms < _FILLING * self._settings.flush_ms:
            self._start_timer(buffer)
        else:
            self._ripen(buffer)

    def _ripen(self, buffer: Buffer) -> None:
        """The buffer is full, or its time has come."""
        if buffer.timer is not None:
            buffer.timer.cancel()
            buffer.timer = None
        if not buffer.due and buffer.prompts:
            buffer.due = True
            self._due.append(buffer)
        self._launch()

    def _launch(self) -> None:
        while self._due and len(self._flights) < self._settings.flushes_max:
            buffer = self._due.popleft()
            buffer.due = False
            deadline = (buffer.since or asyncio.get_running_loop().time()) + self._settings.submit_timeout_s
            prompts = buffer.cut(self._prompts_max, self._bytes_max)
            self._after_cut(buffer)
            task = asyncio.create_task(self._fly(_Flight(buffer.route, prompts, deadline)), name="gemqueue-flush")
            self._flights.add(task)
            task.add_done_callback(self._landed)

    def _after_cut(self, buffer: Buffer) -> None:
        if not buffer.prompts:
            del self._buffers[buffer.route]
            return
        buffer.since = asyncio.get_running_loop().time()
        if len(buffer.prompts) >= self._prompts_max or buffer.bytes >= self._bytes_max:
            self._ripen(buffer)
        else:
            self._start_timer(buffer)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        self._launch()

    # --- flights ---

    async def _fly(self, flight: _Flight) -> None:
        n_bytes = sum([len(prompt.request) for prompt in flight.prompts])
        try:
            while flight.prompts:
                self._cut_segment(flight)
                taken = await self._write(flight)
                if not taken:
                    self._acknowledge(flight)
                    return
                self._send_to_holders(flight, taken)
        except GemqueueError as error:
            self._refuse_all(flight, error)
        except Exception as error:  # whatever it was, nobody may wait for ever
            log.exception("A segment was not written")
            self._refuse_all(flight, StoreError(f"the prompt was not submitted: {type(error).__name__}: {error}"))
        finally:
            self.space.give_back(n_bytes)

    def _cut_segment(self, flight: _Flight) -> None:
        """A new segment of the flight's prompts; the listener expects news of it from now on."""
        named = any(ticket.name is not None for _, ticket in flight.tickets)
        segment = Segment(new_segment_id(), own=True, count=len(flight.prompts), plain=not named)
        segment.lane = flight.route.lane
        flight.segment = segment
        segment.place_all(flight.prompts)
        self._listener.expect(segment)

    async def _write(self, flight: _Flight) -> dict[int, Owner]:
        """Have the segment registered; empty, or the names that are taken (then nothing is written)."""
        segment, route = flight.segment, flight.route
        requests = [prompt.request for prompt in flight.prompts]
        text = lines(segment.prefix, requests)
        write = SegmentWrite(
            id=segment.id,
            lane=route.lane,
            producer=self._listener.producer,
            count=len(flight.prompts),
            raw_bytes=len(text),
            tokens=token_estimates(requests),
            tenant=route.tenant,
            priority=route.priority,
            deadline_at=route.deadline_at,
            names=[(i, t.name, flight.prompts[i].digests[0]) for i, t in flight.tickets if t.name is not None],
        )
        body = await codec.compress_async(text)
        del text, requests
        attempts = 0
        while True:
            reply, problem = await self._try(write, body)
            if reply is not None and reply.word in {"ok", "taken"}:
                return reply.taken
            if asyncio.get_running_loop().time() >= flight.deadline:
                if reply is not None and reply.word == "full":  # then, and only then, it is surely not registered
                    await self._discard(segment.id)
                raise problem
            await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2**attempts))
            attempts += 1

    async def _try(self, write: SegmentWrite, body: bytes) -> tuple[Enqueued | None, GemqueueError]:
        try:
            reply = await self._store.enqueue(write, body)
        except ServerFull as error:
            return None, self._full(f" ({error})")
        except StoreUnavailable as error:
            await self._on_lost()
            return None, StoreUnavailable(
                f"{error}. It was tried for {self._settings.submit_timeout_s:g} s, and nobody knows whether the prompt "
                "was stored before the server went away: under a name it may be submitted again and is bought once"
            )
        return reply, self._full("")

    def _full(self, detail: str) -> QueueFull:
        return QueueFull(
            f"the queue holds memory_bytes_max = {self._settings.memory_bytes_max} bytes and stayed so for "
            f"submit_timeout_s = {self._settings.submit_timeout_s:g} s{detail}; "
            "submit again later, run more workers, or raise the limit"
        )

    async def _discard(self, segment: str) -> None:
        with suppress(StoreError):  # it carries a TTL
            await self._store.discard(segment)

    def _acknowledge(self, flight: _Flight) -> None:
        self._bursts.acknowledged(flight.route.lane, len(flight.prompts))
        flight.segment.live = True
        flight.segment.news_at = asyncio.get_running_loop().time()
        for _, ticket in flight.tickets:
            if ticket.acked is not None and not ticket.acked.done():
                ticket.acked.set_result(None)
            if ticket.name is not None:
                self._attach_twins(ticket.name, flight.segment, ticket.index)

    def _attach_twins(self, name: str, segment: Segment, index: int) -> None:
        for twin in self._names.pop(name).twins:
            self._attach(twin, segment, index)

    def _attach(self, ticket: Ticket, segment: Segment, index: int) -> None:
        segment.place(ticket, index)
        if ticket.acked is not None and not ticket.acked.done():
            ticket.acked.set_result(None)
        if ticket.wanted:
            self._listener.want(ticket)

    def _send_to_holders(self, flight: _Flight, taken: dict[int, Owner]) -> None:
        """Prompts whose names are taken go to the prompts that have them; the others stay in the flight."""
        self._listener.forget(flight.segment)
        rest: list[Prompt] = []
        for index, prompt in enumerate(flight.prompts):
            ticket = prompt.ticket
            if ticket is not None:
                ticket.segment = None
            if index not in taken or ticket is None:
                rest.append(prompt)
                continue
            key, digest, merges = taken[index]
            name = ticket.name or ""
            if digest not in (prompt.digests[:1] if merges else prompt.digests):
                self._refuse(ticket, _conflict(name, key, digest))
                continue
            segment_id, at = split_key(key)
            segment = self._listener.segment(segment_id)
            self._attach(ticket, segment, at)
            self._attach_twins(name, segment, at)
        flight.load(rest)

    def _refuse_all(self, flight: _Flight, error: GemqueueError) -> None:
        self._listener.forget(flight.segment)
        for index, prompt in enumerate(flight.prompts):
            if prompt.ticket is not None:
                prompt.ticket.segment = None
                self._refuse(prompt.ticket, error)
            elif prompt.sink is not None and not flight.segment.routed[index]:  # landed, though no reply came
                tag = prompt.sink.tags.pop(prompt.position, None)
                prompt.sink.refused(prompt.position, refused(error, FailureKind.REFUSED, None, tag))

    def _refuse(self, ticket: Ticket, error: GemqueueError) -> None:
        kind = FailureKind.INVALID if isinstance(error, NameConflict) else FailureKind.REFUSED
        holder = self._names.pop(ticket.name, None) if ticket.name is not None else None
        for each in (ticket, *(holder.twins if holder else ())):
            outcome = refused(error, kind, each.name, each.tag)
            if each.acked is not None and not each.acked.done():
                each.acked.set_exception(outcome.error)
            each.settle(outcome)


def _conflict(name: str, key: str, digest: str) -> NameConflict:
    whose = f"prompt {key}" if key else "a prompt that is just being submitted"
    why = "with another body, model or config; give this prompt another name, or submit exactly the same one"
    if form_of(digest) > FORM:
        why = (
            "of a newer gemqueue, which this one cannot compare; upgrade this program, or give the prompt another name"
        )
    return NameConflict(f"the name {name!r} belongs to {whose} {why}", name=name, key=key)
