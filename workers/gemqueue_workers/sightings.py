"""Looks that are shared: one page of the provider's list tells of a hundred jobs.

While an account has only a few open batches, each job is looked at by name. With more, a look is answered from the last
page where that is fresh enough for a job of its age, else from a new page. Only "still running" is believed of a list:
its entries lack results, their counters may be stale (protocol section 6), and a job that is not in it is not gone.
Any other job is looked at by name at once, and so is one whose end was announced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemqueue.models import Batch
    from gemqueue.provider import JobStatus
    from gemqueue_workers.stage import Kit

SHARED_FROM = 8
"""Open batches from which on a page is worth more than a look by name."""
_FRESH_SHARE = 0.05
"""Of a job's age: how old a page may be to stand for a look at it."""


class Sightings:
    """The newest page of the account's jobs, as one process saw it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lock = asyncio.Lock()
        self._page: dict[str, JobStatus] = {}
        self._listed_ms = 0

    async def look(self, batch: Batch) -> JobStatus:
        """A look at the batch's job. Raises what ``Provider.poll`` raises."""
        if not batch.event_at and await self._kit.store.open_count() >= SHARED_FROM:
            seen = await self._on_a_page(batch)
            if seen is not None and not seen.state.terminal:
                return seen
        return await self._kit.provider.poll(batch.job)

    async def _on_a_page(self, batch: Batch) -> JobStatus | None:
        now_ms = self._kit.clock.now_ms()
        fresh_ms = min((now_ms - batch.accepted_at) * _FRESH_SHARE, self._kit.settings.poll_max_s * 250)
        async with self._lock:
            if self._listed_ms < now_ms - fresh_ms:
                listed_ms = self._kit.clock.now_ms()
                self._page = {job.job: job for job in await self._kit.provider.newest()}
                self._listed_ms = listed_ms
        return self._page.get(batch.job)
