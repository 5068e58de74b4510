"""A flight: prompts on their way into the store as one segment, tried until it is registered or out of time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from gemqueue.client.tickets import Segment
from gemqueue.errors import GemqueueError, QueueFull, StoreError, StoreUnavailable
from gemqueue.language.lines import lines, token_estimates
from gemqueue.policy.beliefs import evidence_of
from gemqueue.policy.believed import belief_words
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.scripts import ServerFull, ServerRefuses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.client.tickets import Prompt, Route
    from gemqueue.config import Settings
    from gemqueue.records import Batch
    from gemqueue.store.producer import Enqueued, Owner, ProducerStore

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0
_LOOKED_AT_MAX = 100
_LOOK_S = 10.0


class Flight:
    """Prompts on their way; ``deadline`` is the loop's time until which their writing is tried."""

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


class Writer:
    """Writes flights for one producer; ``on_lost`` may revive the server."""

    def __init__(self, store: ProducerStore, producer: str, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._settings = store.settings
        self._producer = producer
        self._on_lost = on_lost
        self._believed = ""
        self._looked_s = -_LOOK_S

    async def write(self, flight: Flight) -> dict[int, Owner]:
        """Have the flight's segment registered; empty, or the names that are taken (then nothing is written).

        Raises QueueFull, StoreUnavailable once the flight is out of time.
        """
        write, text = self._segment_of(flight)
        body = await codec.compress_async(text)
        del text
        attempts = 0
        while True:
            reply, problem = await self._try(write, body)
            if reply is not None and reply.word in {"ok", "taken"}:
                return reply.taken
            if asyncio.get_running_loop().time() >= flight.deadline:
                if reply is not None and reply.word == "full":  # then, and only then, it is surely not registered
                    await self._discard(write.id)
                    raise self._full(await self._why_full())
                raise problem
            await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2**attempts))
            attempts += 1

    def _segment_of(self, flight: Flight) -> tuple[SegmentWrite, bytes]:
        segment, route = flight.segment, flight.route
        requests = [prompt.request for prompt in flight.prompts]
        text = lines(segment.prefix, requests)
        write = SegmentWrite(
            id=segment.id,
            lane=route.lane,
            producer=self._producer,
            count=len(flight.prompts),
            raw_bytes=len(text),
            tokens=token_estimates(requests),
            tenant=route.tenant,
            priority=route.priority,
            deadline_at=route.deadline_at,
            names=[(i, t.name, flight.prompts[i].digests[0]) for i, t in flight.tickets if t.name is not None],
        )
        return write, text

    async def _try(self, write: SegmentWrite, body: bytes) -> tuple[Enqueued | None, GemqueueError]:
        try:
            reply = await self._store.enqueue(write, body)
        except ServerFull as error:
            return None, QueueFull(
                f"{error}: nothing more fits into the server, and it stayed so for submit_timeout_s = "
                f"{self._settings.submit_timeout_s:g} s; run more workers, which make room, or raise its maxmemory"
            )
        except ServerRefuses as error:
            return None, error
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

    async def _why_full(self) -> str:
        """What beliefs keep in the queue, as one look at the oldest batches shows it, for all who are refused soon."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s < _LOOK_S:
            return self._believed
        self._looked_s = now_s
        with suppress(StoreError):
            self._believed = _words(await self._store.believed(_LOOKED_AT_MAX), self._settings)
        return self._believed

    async def _discard(self, segment: str) -> None:
        with suppress(StoreError):  # it carries a TTL
            await self._store.discard(segment)


def _words(batches: list[Batch], settings: Settings) -> str:
    if not batches:
        return ""
    mb = sum(batch.raw_bytes for batch in batches) / 1e6
    first = belief_words(batches[0], evidence_of(batches[0]), settings)
    n = f"{len(batches)} batches with" if len(batches) > 1 else "a batch with"
    return f" (in it {n} {mb:,.1f} MB of prompts before compression: {first}; gemqueue belief show)"
