"""Looks that are shared: one page of the provider's list tells of a hundred jobs.

While an account has only a few open batches, each job is polled by name, and so is one of a few seconds. With more,
a poll is answered from the last page where that is fresh enough for a job of its age, else from a new page. Only "still
running" is believed of a list: its entries lack results, their counters may be stale (protocol section 6), and a job
that is not in it is not gone. Any other job is polled by name at once, and so is one whose end was announced.

Each page also shows whether there is a job of ours that no record knows (``unknown.py``).

One step asks for the page, and whoever comes meanwhile waits for it, so long as a page may take. A page that cannot be
had serves nobody: all of them are polled by name, and no page is asked for until a growing pause is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gemqueue.errors import ProviderError
from gemqueue.policy.backoff import backoff_s
from gemqueue_workers.stages.unknown import UnknownJobs

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.track")

SHARED_FROM = 8
"""Open batches from which on a page is worth more than a poll by name."""
_SHARED_FROM_MS = 20_000
"""The age of a job from which on a page stays fresh for a second and more, so that others come while it does."""
_FRESH_SHARE = 0.05
"""Of a job's age: how old a page may be to stand for a poll of it."""
PAGE_S_MAX = 10.0
"""How long a page may take before a poll by name is sooner."""


class SharedPolls:
    """The newest page of the account's jobs, as one process saw it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._unknown = UnknownJobs(kit)
        self._page: dict[str, JobStatus] = {}
        self._listed_ms = 0
        self._listing: asyncio.Event | None = None
        self._failures = 0
        self._rests_until_s = 0.0

    async def poll(self, batch: Batch) -> JobStatus:
        """Poll the batch's job. Raises what ``Provider.poll`` raises."""
        if self._may_share(batch) and await self._kit.store.open_count() >= SHARED_FROM:
            seen = await self._on_a_page(batch)
            if seen is not None and not seen.state.terminal:
                return seen
        return await self._kit.provider.poll(batch.job)

    def _may_share(self, batch: Batch) -> bool:
        return not batch.event_at and self._kit.clock.now_ms() - batch.accepted_at >= _SHARED_FROM_MS

    async def _on_a_page(self, batch: Batch) -> JobStatus | None:
        now_ms = self._kit.clock.now_ms()
        fresh_ms = min((now_ms - batch.accepted_at) * _FRESH_SHARE, self._kit.settings.poll_max_s * 250)
        oldest_ms = now_ms - fresh_ms
        if self._listed_ms < oldest_ms:
            if self._listing is not None:
                await self._listing.wait()
            elif self._kit.clock.monotonic() >= self._rests_until_s:
                await self._list()
        return self._page.get(batch.job) if self._listed_ms >= oldest_ms else None

    async def _list(self) -> None:
        """Ask for the page, which ends within ``PAGE_S_MAX`` one way or the other."""
        listed_ms = self._kit.clock.now_ms()
        listing = self._listing = asyncio.Event()
        listed = False
        try:
            async with asyncio.timeout(PAGE_S_MAX):
                self._page = {job.job: job for job in await self._kit.provider.newest()}
            self._listed_ms, self._failures = listed_ms, 0
            listed = True
        except (ProviderError, TimeoutError) as error:
            settings = self._kit.settings
            rest_s = backoff_s(settings.backoff_first_s, settings.backoff_max_s, self._failures)
            self._failures += 1
            self._rests_until_s = self._kit.clock.monotonic() + rest_s
            log.warning("page.failed", error=str(error) or "it takes too long", rest_s=round(rest_s, 1))
        finally:
            self._listing = None
            listing.set()
        if listed:
            await self._unknown.look_now_and_then(self._page.values())
