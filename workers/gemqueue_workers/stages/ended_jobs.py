"""Looks at a job that has ended: its results are settled, and what they lack is believed slowly.

A look is a poll by name and a reading of the results, where there are any. Whatever came is settled at once. If nothing
came, or not all, the look counts as evidence in the batch's record, and the step is put back until the next look; when
enough looks agree (``policy.beliefs``), the batch goes on without what did not come. A look that contradicts the end
itself, a job that runs, takes all evidence back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gemqueue.effects import Effect
from gemqueue.errors import ProviderError, Rejected
from gemqueue.policy import beliefs, believed, quota, resolving
from gemqueue.policy.beliefs import Belief
from gemqueue.policy.resolving import ResolvePlan
from gemqueue_workers.stages import believing
from gemqueue_workers.stages.api_key import check_key
from gemqueue_workers.stages.collector import Collector
from gemqueue_workers.stages.contents import BatchContents

if TYPE_CHECKING:
    from gemqueue.policy.resolving import Reading
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

Ended = tuple[ResolvePlan, "JobStatus | None"]


class _Seen(msgspec.Struct, frozen=True):
    """What a look showed: ``shown`` is None where all results came; ``status`` is of the job as it is now."""

    batch: Batch
    status: JobStatus | None
    shown: str | None
    collector: Collector | None = None


class EndedJobs:
    """Looks at ended jobs, for the resolver."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def look(self, lease: Lease, batch: Batch) -> Ended | None:
        """Look once; what to do with the batch, or None where its step was put back for the next look.

        Raises what the provider raises, until nothing of the job can be left there: then any failure is a look that
        brings nothing.
        """
        end_ms = beliefs.results_end_ms(batch)
        over = lease.now_ms >= end_ms
        try:
            seen = await self._see(lease, batch, over=over)
        except ProviderError as error:
            if not over or (isinstance(error, Rejected) and error.auth):
                raise
            seen = _Seen(batch, None, f"{Belief.RESULTS_GONE} unread")
        if seen.shown is None:
            return _plan(seen.batch), seen.status
        if not seen.shown:
            if not over:
                await believing.contradicted(self._kit, lease, batch, Effect.RESOLVE_RELEASE)
                return None
            seen = msgspec.structs.replace(seen, shown=f"{Belief.RESULTS_GONE} running")
        return await self._weigh(lease, seen, end_ms)

    async def _weigh(self, lease: Lease, seen: _Seen, end_ms: int) -> Ended | None:
        batch = seen.batch
        taken = believing.look(self._kit, batch, seen.shown or "", lease.now_ms, end_ms)
        if not taken.verdict.concluded:
            await believing.wait(self._kit, lease, batch, taken, name=Effect.RESOLVE_RELEASE)
            return None
        if seen.collector is not None and taken.evidence.belief is Belief.ROWS_MISSING:
            await believing.concluded(self._kit, batch, taken, seen.collector.missing)
            if not resolving.came_short(batch):
                await seen.collector.account_for_missing()
            return _plan(batch), seen.status
        ordinary = taken.evidence.belief is Belief.NO_OUTPUT
        prompts = 0 if ordinary else (await BatchContents.load(self._kit.store, batch.id)).open_prompts()
        await believing.concluded(self._kit, batch, taken, prompts)
        return ResolvePlan.GIVE_BACK, seen.status

    async def _see(self, lease: Lease, record: Batch, *, over: bool) -> _Seen:
        known_whole = resolving.is_known_whole(record)
        status = resolving.known_output(record) if known_whole else await self._poll(record)
        batch = resolving.as_seen(record, status)
        source = status if status is not None and status.has_output else resolving.known_output(record)
        if source is None:
            return _Seen(batch, status, resolving.shown_at_end(batch, status))
        evidence = beliefs.evidence_of(record)
        polls_only = resolving.polls_only(evidence, self._kit.settings) and not believed.is_decided(record, evidence)
        if polls_only and not over:
            return _Seen(batch, status, evidence.what)
        try:
            reading, collector = await self._read(lease, batch, source, resolving.known_digest(evidence))
        except Rejected as error:
            if not error.missing:
                raise
            log.error("results.denied", batch=batch.id, job=batch.job, error=str(error))  # noqa: TRY400 - no defect of ours
            if known_whole:  # the same key must see the job, within the same look: that proves it, too
                status = await self._poll(record)
            return _Seen(batch, status, resolving.shown_at_end(batch, status, "file"))
        if not reading.missing:
            return _Seen(batch, status, None, collector)
        if known_whole:  # the record has no counters
            status = await self._poll(record)
        return _Seen(batch, status, resolving.shown_by_reading(status or source, reading), collector)

    async def _poll(self, batch: Batch) -> JobStatus | None:
        """The job as it is now; None where the provider does not know it."""
        try:
            return await self._kit.provider.poll(batch.job)
        except Rejected as error:
            if not error.missing:
                raise
        await check_key(self._kit, batch, "poll")
        log.error("job.missing", batch=batch.id, job=batch.job)
        return None

    async def _read(self, lease: Lease, batch: Batch, source: JobStatus, known: str) -> tuple[Reading, Collector]:
        contents = await BatchContents.load(self._kit.store, batch.id)
        collector = Collector(self._kit, lease, batch, contents)
        reading = await collector.collect(source, known=known)
        ratio = quota.token_ratio(batch, collector.token_counts)
        if ratio is not None and not reading.missing:
            await self._kit.store.learn_token_ratio(batch.lane, ratio)
        late = collector.counts.get("late", 0)
        if late and (not known or known != reading.digest):
            await self._kit.store.add_count("late", late)
        log.info("results.collected", batch=batch.id, job=batch.job, rows=collector.rows, **collector.counts)
        return reading, collector


def _plan(batch: Batch) -> ResolvePlan:
    return ResolvePlan.GIVE_BACK if resolving.came_short(batch) else ResolvePlan.COLLECT
