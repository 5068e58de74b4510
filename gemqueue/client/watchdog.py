"""The one watchdog of a ``Queue``: looks at what should have happened by itself.

Every ``watchdog_s`` it compares the segments that somebody waits for, and that have been silent, with the store, so
that a lost notice costs seconds; tells the store which outcomes the caller has taken; and sees whether any worker is
alive.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

from gemqueue.client.looks import Looks, due_step
from gemqueue.client.waiting import SignOfLife
from gemqueue.errors import GemqueueError, StoreError
from gemqueue.policy.workers import NO_WORKER, why_nobody, why_unserved
from gemqueue.states import SegmentState
from gemqueue.store.producer import forgotten_words
from gemqueue.tasks import end_tasks, ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.client.listener import Listener
    from gemqueue.client.looks import Look
    from gemqueue.client.tickets import Segment
    from gemqueue.records import Worker
    from gemqueue.store.producer import ProducerStore

log = logging.getLogger("gemqueue")

_SEGMENTS_MAX = 1_000
_ROUNDS_MAX = 5
_WORKER_GRACE_S = 5.0
_WARNINGS_MAX = 20


class Watchdog:
    """``on_no_worker`` may start a worker, where nobody works for this account.

    ``held_reason`` is why the oldest held batch of this account waits, or empty.
    """

    def __init__(
        self, store: ProducerStore, listener: Listener, on_no_worker: Callable[[], Awaitable[None]] | None
    ) -> None:
        self.held_reason = ""
        self.looks = Looks(store)
        self._store = store
        self._listener = listener
        self._on_no_worker = on_no_worker
        self._workers: list[Worker] | None = None
        self._sign_of_life = SignOfLife(store, listener, self.looks)
        self._task: asyncio.Task[None] | None = None
        self._warned: set[str] = set()
        self._forgot_at = 0.0

    def start(self) -> None:
        """Start looking."""
        self._task = asyncio.create_task(self._run(), name="gemqueue-watchdog")
        self._sign_of_life.start()

    async def stop(self) -> None:
        """Stop, after telling the store what has been taken."""
        await self._sign_of_life.stop()
        if self._task is not None:
            await end_tasks([self._task])
        try:
            await self._listener.deliver()
        except StoreError as error:
            log.debug("What was taken was not told to the store: %s", error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        worried_at = loop.time() + _WORKER_GRACE_S
        while not ending():
            await asyncio.sleep(self._store.settings.watchdog_s)
            try:
                await self._listener.deliver(ripe=True)
                await self._recall()
                await self._compare()
                await self._find_workers(late=loop.time() >= worried_at)
                await self._find_held()
                await self.looks.refresh()
            except GemqueueError as error:
                log.debug("The watchdog could not look: %s", error)
            except Exception:  # it must outlive whatever it meets
                log.exception("The watchdog failed and goes on")

    async def _recall(self) -> None:
        """Whether the server still knows the home under which it took the prompts of this process."""
        account, loop = self._listener.account, asyncio.get_running_loop()
        if not (self._listener.waited or self._store.known(account).home):
            return
        known = await self._store.recall(account)
        if known.was:
            self._warn(f"The server has forgotten the home {known.was} of the account {account}, and it goes on")
        if known.forgot:
            self._warn(f"Queue {self._store.settings.queue!r}, account {account}: {known.forgot}")
            self._forgot_at = self._forgot_at or loop.time()
        else:
            self._forgot_at = 0.0
        self._listener.forgot = known.forgot or (forgotten_words(known.was) if known.was else "")

    @property
    def forgot(self) -> str:
        """What the server has forgotten, in words, while nobody has said that the queue goes on without it."""
        return self._store.known(self._listener.account).forgot if self._forgot_at else ""

    def _holds(self, segment: Segment) -> bool:
        """Whether what the server has forgotten is waited for: the right one may come back, or a person decide."""
        held_s = asyncio.get_running_loop().time() - self._forgot_at
        return segment.own and bool(self.forgot) and held_s < self._store.settings.server_gone_s

    async def _compare(self) -> None:
        waited = self._listener.waited
        silent_since = asyncio.get_running_loop().time() - self._store.settings.watchdog_s
        for _ in range(_ROUNDS_MAX):
            ids = [
                id_
                for id_, segment in islice(waited.items(), _SEGMENTS_MAX)
                if segment.live and segment.watched and segment.news_at <= silent_since
            ]
            await self._check(ids)
            self._listener.checked(_SEGMENTS_MAX)
            if len(waited) <= _SEGMENTS_MAX:
                return

    async def _check(self, ids: list[str]) -> None:
        states = await self._store.outcome_counts(ids)
        now = asyncio.get_running_loop().time()
        for id_, (state, blobs) in zip(ids, states, strict=True):
            segment = self._listener.waited.get(id_)
            if segment is None:
                continue
            segment.news_at = now
            if blobs > segment.cursor:
                self._listener.expect_news((id_,))
            elif not state and self._holds(segment):
                continue
            elif not state or (state is SegmentState.CLOSED and segment.read_anew):
                self._listener.gone(segment, unreadable=bool(state))
            elif state is SegmentState.CLOSED:  # after a failover others may stand where this cursor has been
                segment.read_anew = True
                segment.rewind()
                self._listener.expect_news((id_,))

    async def _find_held(self) -> None:
        """A refused key or a quota shows in no outcome, so whoever waits is told here."""
        self.held_reason = await self._store.held_reason(self._listener.account) if self._listener.waited else ""
        if self.held_reason and not self.forgot:
            self._warn(f"Prompts of the queue {self._store.settings.queue!r} are held: {self.held_reason}")

    async def _find_workers(self, *, late: bool) -> None:
        account, settings = self._listener.account, self._store.settings
        self._workers = await self._store.workers()
        why = why_unserved(self._workers, account, settings)
        if self._on_no_worker is not None:
            try:
                await self._on_no_worker()
            except GemqueueError as error:
                self._warn(f"No worker could be started: {error}")
        elif why and late:
            told = "No worker is running" if why == NO_WORKER else why[0].upper() + why[1:]
            self._warn(
                f"{told} (queue {settings.queue!r}, account {account}): prompts are kept, and nothing is answered "
                "until one does (`gemqueue work`, with the same GEMQUEUE_REDIS_URL and GEMQUEUE_QUEUE, and the same "
                "API key or GEMQUEUE_ACCOUNT)"
            )

    def why_nobody(self, look: Look | None) -> str:
        """Why no worker takes the step that a prompt waits for, as the last look at both saw it; else empty."""
        if self._workers is None:
            return ""
        account, step = due_step(look) if look is not None else ("", None)
        return why_nobody(self._workers, account or self._listener.account, step, self._store.settings)

    def _warn(self, message: str) -> None:
        if message not in self._warned and len(self._warned) < _WARNINGS_MAX:
            self._warned.add(message)
            log.warning(message)
