"""The inbox of a ``Queue``: the stream in which settle leaves a notice per call, and the task that reads it.

A notice is a hint. Where some may have been missed, because the inbox had expired or the server was away, those who
wait for outcomes are told to look for themselves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from gemqueue.errors import StoreError, StoreUnavailable
from gemqueue.store.scripts import ServerFull
from gemqueue.tasks import ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gemqueue.errors import GemqueueError
    from gemqueue.store.producer import ProducerStore

log = logging.getLogger("gemqueue")

_BLOCK_MS = 5_000
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 2.0


class Reader(Protocol):
    """Whom the notices are for."""

    def expect_news(self, ids: Iterable[str]) -> None:
        """These segments may have news."""
        ...

    def missed(self) -> None:
        """Notices may have been missed."""
        ...

    def abandon(self, error: GemqueueError) -> None:
        """The server has been away for ``server_gone_s``."""
        ...


class Inbox:
    """One producer's inbox; ``on_lost`` may revive the server."""

    def __init__(self, store: ProducerStore, producer: str, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._producer = producer
        self._on_lost = on_lost
        self._after: str | None = None

    async def open(self) -> None:
        """Have one, or on a full server none for now. Raises StoreUnavailable."""
        try:
            self._after = await self._store.open_inbox(self._producer)
        except ServerFull as error:
            log.warning("%s; answers are looked for every watchdog_s instead", error)

    async def close(self) -> None:
        """Remove it, if the server is there."""
        try:
            await self._store.close_inbox(self._producer)
        except StoreError:
            log.debug("The inbox was not removed; it expires")

    async def read(self, reader: Reader) -> None:
        """Tell the reader of every notice, until the task is ended."""
        failures = 0
        renew_at = lost_at = 0.0
        loop = asyncio.get_running_loop()
        settings = self._store.settings
        while not ending():
            try:
                if self._after is None or (
                    loop.time() >= renew_at and not await self._store.renew_inbox(self._producer)
                ):
                    self._after = await self._store.open_inbox(self._producer)
                    reader.missed()
                    renew_at = 0.0
                if loop.time() >= renew_at:
                    renew_at = loop.time() + settings.inbox_keep_s / 3
                block_ms = min(_BLOCK_MS, max(1, int((renew_at - loop.time()) * 1000)))
                self._after, ids = await self._store.read_inbox(self._producer, self._after or "$", block_ms)
                reader.expect_news(ids)
                failures = 0
            except Exception as error:  # noqa: BLE001 - a reader that dies would leave every future hanging
                self._after = None
                lost_at = lost_at if failures else loop.time()
                if loop.time() - lost_at >= settings.server_gone_s and isinstance(error, StoreUnavailable):
                    reader.abandon(error)
                await hold_off(error, failures, self._on_lost)
                failures += 1


async def hold_off(error: Exception, failures: int, on_lost: Callable[[], Awaitable[None]]) -> None:
    """Say what failed after so many ``failures`` in a row, and wait until it is worth another try."""
    if not isinstance(error, StoreUnavailable):
        log.error("The listener failed and goes on: %s: %s", type(error).__name__, error)
    elif failures == 0:
        log.warning("%s; waiting for it to come back", error)
    if failures:
        await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2**failures))
    await on_lost()
