"""From a prompt at the door to a durable segment: group commit, backpressure, acknowledgement.

The life of a prompt here. ``put`` takes room for it in the budget of bytes that wait in this process, and lays it into
the buffer of its route. The buffer is cut when it is ripe: when it holds a full segment, or ``flush_ms`` after its
first prompt, ten times as long while a bulk call is just filling it. What is cut becomes a *flight*: one segment,
written in one round trip. While ``flushes_max`` flights are under way the buffers gather, so that load makes segments
larger instead of more numerous. A flight retries under the same segment id, which the store registers once, until it is
acknowledged or ``submit_timeout_s`` is over. Names that are taken send their prompts to the prompts that have them, and
the rest of the flight is cut anew under another id. The room is free again when the flight has ended, however it did.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from typing import TYPE_CHECKING

from gemqueue.client.buffer import Buffer, Limits, Space
from gemqueue.client.bursts import Bursts
from gemqueue.client.flights import Flight, Writer
from gemqueue.client.names import Names, conflict
from gemqueue.client.tickets import Prompt, Route, Segment, Ticket
from gemqueue.errors import GemqueueError, NameConflict, QueueFull, StoreError
from gemqueue.ids import new_segment_id, split_key
from gemqueue.language.outcomes import refused
from gemqueue.states import FailureKind, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.client.listener import Listener
    from gemqueue.store.producer import Owner, ProducerStore

log = logging.getLogger("gemqueue")


class Producer:
    """The producing side of one ``Queue``; ``listener`` learns of every segment before it can have news."""

    def __init__(self, store: ProducerStore, listener: Listener, on_lost: Callable[[], Awaitable[None]]) -> None:
        self.now_ms = store.clock.now_ms
        self._settings = store.settings
        self._listener = listener
        self._writer = Writer(store, listener.producer, on_lost)
        self._bursts = Bursts(lambda lane: store.hasten(Step.PACK, lane, listener.account))
        self._limits = Limits(
            store.settings.segment_prompts_max, store.settings.segment_bytes_max, store.settings.flush_ms / 1000
        )
        self._space = Space(store.settings.buffer_bytes_max)
        self._names = Names()
        self._buffers: dict[Route, Buffer] = {}
        self._ripe: deque[Buffer] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._closed: GemqueueError | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed is not None

    def try_put(self, route: Route, prompt: Prompt) -> bool:
        """Take a prompt if there is room for it and nobody waits for room; its ticket hears of the rest.

        Raises NameConflict when another body under the same name is on its way; once closed, what ``close`` was told.
        """
        if not self._space.try_take(len(prompt.request)):
            return False
        self._take(route, prompt)
        return True

    async def put(self, route: Route, prompt: Prompt, wait_s: float | None = None) -> None:
        """Take a prompt as ``try_put`` does, once there is room for it.

        Raises what that raises, and QueueFull when there was no room for ``wait_s``.
        """
        if self.try_put(route, prompt):
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._space.take(len(prompt.request))
        except TimeoutError:
            raise QueueFull(
                f"{self._space.used_bytes} bytes of prompts wait in this process (buffer_bytes_max) and the store took "
                f"none of them for {wait_s:g} s; submit it again later"
            ) from None
        self._take(route, prompt)

    async def close(self, error: GemqueueError) -> None:
        """Take nothing more; return when all that was put is acknowledged or refused. Later prompts get ``error``."""
        self._closed = error
        while self._buffers or self._flights:
            for buffer in list(self._buffers.values()):
                buffer.ripen()
            await asyncio.wait(self._flights)
        await self._bursts.close()

    # --- from the door to the buffer ---

    def _take(self, route: Route, prompt: Prompt) -> None:
        """Lay a prompt that has room into its buffer; one that is not laid there gives its room back."""
        ticket = prompt.ticket
        named = ticket is not None and ticket.name is not None
        if (named or self._closed is not None) and not self._is_new(prompt):
            return
        buffer = self._buffers.get(route)
        if buffer is None:
            loop = asyncio.get_running_loop()
            buffer = self._buffers[route] = Buffer(route, self._limits, self._on_ripe, loop)
        buffer.add(prompt)

    def _is_new(self, prompt: Prompt) -> bool:
        """Whether the prompt is to be written; else the same one is on its way under its name."""
        is_new = False
        try:
            if self._closed is not None:
                raise copy.copy(self._closed)
            ticket = prompt.ticket
            assert ticket is not None  # noqa: S101 - what has a name has a ticket
            assert ticket.name is not None  # noqa: S101 - only what has a name is asked about
            is_new = self._names.claim(ticket.name, ticket, prompt.digests[0])
        finally:
            if not is_new:
                self._space.give_back(len(prompt.request))
        return is_new

    def _on_ripe(self, buffer: Buffer) -> None:
        self._ripe.append(buffer)
        self._launch()

    # --- flights ---

    def _launch(self) -> None:
        while self._ripe and len(self._flights) < self._settings.flushes_max:
            buffer = self._ripe.popleft()
            prompts, since = buffer.cut()
            flight = Flight(buffer.route, prompts, since + self._settings.submit_timeout_s)
            task = asyncio.create_task(self._fly(flight), name="gemqueue-flush")
            self._flights.add(task)
            task.add_done_callback(self._landed)
            if buffer.prompts:
                buffer.wait_on()
            else:
                del self._buffers[buffer.route]

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        self._launch()

    async def _fly(self, flight: Flight) -> None:
        n_bytes = sum([len(prompt.request) for prompt in flight.prompts])
        try:
            while flight.prompts:
                self._cut_segment(flight)
                taken = await self._writer.write(flight)
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
            self._space.give_back(n_bytes)

    def _cut_segment(self, flight: Flight) -> None:
        """A new segment of the flight's prompts; the listener expects news of it from now on."""
        named = any(ticket.name is not None for _, ticket in flight.tickets)
        segment = Segment(new_segment_id(), own=True, count=len(flight.prompts), plain=not named)
        segment.lane = flight.route.lane
        flight.segment = segment
        segment.place_all(flight.prompts)
        self._listener.expect(segment)

    def _acknowledge(self, flight: Flight) -> None:
        self._bursts.acknowledged(flight.route.lane, len(flight.prompts))
        flight.segment.live = True
        flight.segment.news_at = asyncio.get_running_loop().time()
        for _, ticket in flight.tickets:
            ticket.acknowledge()
            if ticket.name is not None:
                self._attach_twins(ticket.name, flight.segment, ticket.index)

    def _attach_twins(self, name: str, segment: Segment, index: int) -> None:
        for twin in self._names.release(name):
            self._attach(twin, segment, index)

    def _attach(self, ticket: Ticket, segment: Segment, index: int) -> None:
        segment.place(ticket, index)
        ticket.acknowledge()
        if ticket.wanted:
            self._listener.want(ticket)

    def _send_to_holders(self, flight: Flight, taken: dict[int, Owner]) -> None:
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
                self._refuse(ticket, conflict(name, key, digest))
                continue
            segment_id, at = split_key(key)
            segment = self._listener.segment(segment_id)
            self._attach(ticket, segment, at)
            self._attach_twins(name, segment, at)
        flight.load(rest)

    def _refuse_all(self, flight: Flight, error: GemqueueError) -> None:
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
        twins = self._names.release(ticket.name) if ticket.name is not None else ()
        for each in (ticket, *twins):
            each.refuse(refused(error, kind, each.name, each.tag))
