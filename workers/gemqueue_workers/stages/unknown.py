"""A listing is held against the records: is there a job of ours that none of them knows, or one beside another?

It is only looked at here, and noted in the store: which job, since when, and whether it was counted. What follows is
the comparison of the account (``worker/lookout.py``). A look never stops the step that it is made in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.errors import GemqueueError
from gemqueue.policy import job_names
from gemqueue.policy.unknown import KEEP_S, Unknown, again_s, is_twice, is_unknown
from gemqueue.store.scripts import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.policy.job_names import Token
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.unknown")


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
        prompts = job.rows or record.prompts
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
