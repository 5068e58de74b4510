"""Looks that are shared: one page of the provider's list tells of a hundred jobs.

While an account has only a few open batches, each job is polled by name, and so is one of a few seconds. With more,
a poll is answered from the last page where that is fresh enough for a job of its age, else from a new page. Only "still
running" is believed of a list: its entries lack results, their counters may be stale (protocol section 6), and a job
that is not in it is not gone. Any other job is polled by name at once, and so is one whose end was announced.

Each page is also held against the records: is there a job of ours that none of them knows, or one beside another? That
is noted in the store, and what follows is the comparison of the account (``worker/lookout.py``).

One step asks for the page, and whoever comes meanwhile waits for it, so long as a page may take. A page that cannot be
had serves nobody: all of them are polled by name, and no page is asked for until a growing pause is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gemqueue.errors import GemqueueError, ProviderError
from gemqueue.policy import job_names
from gemqueue.policy.backoff import backoff_s
from gemqueue.policy.unknown import KEEP_S, Unknown, again_s, is_twice, is_unknown
from gemqueue.store.scripts import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.policy.job_names import Token
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


class UnknownJobs:
    """Looks for one process, at most once in ``again_s``."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._account = kit.provider.account
        self._next_s = 0.0

    async def look_now_and_then(self, jobs: Iterable[JobStatus]) -> None:
        """As ``look``, unless the last one was a moment ago; what goes wrong is logged."""
        now_s = self._kit.clock.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + again_s(self._kit.settings)
        try:
            await self.look(jobs)
            await self._kit.store.looked(self._account, await self._kit.store.server_now_ms())
        except (GemqueueError, ServerError) as error:
            log.warning("look.failed", error=str(error))

    async def look(self, jobs: Iterable[JobStatus]) -> None:
        """Hold these jobs, as they were listed just now, against the records. Raises StoreUnavailable."""
        store = self._kit.store
        home = (await store.server(self._account)).home
        named = [(job, token) for job in jobs if (token := _ours(job, home)) is not None]
        records = await store.records_of(list(dict.fromkeys(token.batch for _, token in named)))
        whole = [(job, token, records[token.batch]) for job, token in named if token.batch in records]
        now_ms = await store.server_now_ms()
        seen = [job for job, token, record in whole if is_unknown(job, token, record, now_ms, self._kit.settings)]
        await self._note(seen)
        for job, token, record in whole:
            if record is not None and is_twice(job, token, record):
                await self._count_twice(job, token, record)
        unknown = {job.job for job in seen}
        await self._forget({job.job for job, *_ in whole} - unknown, now_ms)

    async def _note(self, jobs: list[JobStatus]) -> None:
        if not jobs:
            return
        noted = [
            Unknown(job=job.job, token=job.display_name, state=str(job.state), created_at=job.created_at_ms)
            for job in jobs
        ]
        by_name = {job.job: job for job in jobs}
        for name in await self._kit.store.note_unknown(self._account, noted):
            job = by_name[name]
            batch = job_names.batch_of(job.display_name)
            log.error("job.unknown", job=name, batch=batch, state=str(job.state), rows=job.rows)

    async def _count_twice(self, job: JobStatus, token: Token, record: Batch) -> None:
        prompts = record.given_back or job.rows or record.prompts
        if await self._kit.store.count_twice(token.batch, job.job, prompts):
            log.error("bought.twice", batch=token.batch, token=job.display_name, job=job.job, prompts=prompts)

    async def _forget(self, known: set[str], now_ms: int) -> None:
        """What was noted and is known now, or long gone at the provider."""
        noted = await self._kit.store.unknown_jobs(self._account)
        gone = [one.job for one in noted if one.job in known or now_ms - one.first_at > KEEP_S * 1000]
        await self._kit.store.clear_unknown(self._account, dict.fromkeys(gone, ""))


def _ours(job: JobStatus, home: str) -> Token | None:
    """The job's name, read, where it may be this home's."""
    token = job_names.parse(job.display_name)
    return token if token is not None and token.fence and token.is_of(home) else None
