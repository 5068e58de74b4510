"""The resolver: an ended job's results become outcomes, and the batch is closed.

A batch's last chapter: the job is polled once more, but where it was seen to succeed and its result file is known.
If it brought results, they are collected. What a job that did not succeed has not brought goes back to its lane in the
segments as they are, free of charge, until these have been sent back too often, and then the prompts fail with the
reason. The batch is closed a slice at a time when each of its prompts is settled or moved. What is left at the provider
is deleted as configured: the input file before the batch is closed, so that a crash leaves it to the next resolver;
results and job after it, because they are needed until then, and a crash leaves them to their 48 h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError, Rejected, ShortRead
from gemqueue.policy import backoff, quota, resolving
from gemqueue.policy.resolving import ResolvePlan
from gemqueue.records import Batch
from gemqueue.setting_values import DeleteFiles
from gemqueue.states import FailureKind, Step
from gemqueue_workers.stages.api_key import check_key
from gemqueue_workers.stages.collector import Collector
from gemqueue_workers.stages.contents import BatchContents
from gemqueue_workers.stages.inputs import delete_input
from gemqueue_workers.stages.interactive import Interactive

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_BUSY_S = 2.0  # until an interactive batch is tried again where others are under way


class Resolver:
    """Handles ``resolve <batch>``."""

    step = Step.RESOLVE
    record = Batch
    claim_effect = Effect.RESOLVE_CLAIM
    release_effect = Effect.RESOLVE_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._interactive = Interactive(kit)

    async def handle(self, lease: Lease, record: Batch) -> None:
        """Settle or requeue every prompt of an ended batch, close it, and clean up at the provider."""
        status = await self._poll(record)
        plan = resolving.resolve_plan(record, status)
        if plan is ResolvePlan.ASK:
            if self._interactive.full:
                with effect(Effect.RESOLVE_RELEASE):
                    await self._kit.store.release(lease.claim, _BUSY_S)
                return
            await self._interactive.ask(lease, record)
        if plan is ResolvePlan.COLLECT and status is not None:
            plan = await self._collect(lease, record, status)
        elif plan is ResolvePlan.REFUSE:
            await self._fail_all(lease, record, FailureKind.INVALID, record.error, bury=False)
        await delete_input(self._kit, record, Effect.RESOLVE_DELETE)
        await self._close(lease, record, plan)
        await self._forget(record, status)

    async def _poll(self, batch: Batch) -> JobStatus | None:
        if not batch.job:
            return None
        if resolving.is_known_whole(batch):
            return resolving.known_output(batch)
        try:
            return await self._kit.provider.poll(batch.job)
        except Rejected as error:
            if error.missing:
                await check_key(self._kit, batch, "poll")
            known = resolving.known_output(batch)
            if not error.missing or (known is None and not resolving.believe_gone(batch)):
                raise
            log.error("job.missing", batch=batch.id, job=batch.job)  # noqa: TRY400 - no defect of ours
            return known

    async def _collect(self, lease: Lease, batch: Batch, status: JobStatus) -> ResolvePlan:
        contents = await BatchContents.load(self._kit.store, batch.id)
        collector = Collector(self._kit, lease, batch, contents)
        try:
            await collector.collect(status)
        except Rejected as error:
            if error.missing:
                await check_key(self._kit, batch, "results")
            if not error.missing or not resolving.believe_gone(batch):
                raise
            log.error("results.gone", batch=batch.id, job=batch.job, error=str(error))  # noqa: TRY400 - as above
            return ResolvePlan.GIVE_BACK
        ratio = quota.token_ratio(batch, collector.token_counts)
        if ratio is not None:
            await self._kit.store.learn_token_ratio(batch.lane, ratio)
        if late := collector.counts.get("late", 0):
            await self._kit.store.add_count("late", late)
        log.info("results.collected", batch=batch.id, job=batch.job, rows=collector.rows, **collector.counts)
        return ResolvePlan.GIVE_BACK if resolving.came_short(batch) else ResolvePlan.COLLECT

    async def _fail_all(self, lease: Lease, batch: Batch, kind: FailureKind, message: str, *, bury: bool) -> None:
        contents = await BatchContents.load(self._kit.store, batch.id)
        await Collector(self._kit, lease, batch, contents).fail_all(kind, message, bury=bury)

    async def _close(self, lease: Lease, batch: Batch, plan: ResolvePlan) -> None:
        give_back = plan is ResolvePlan.GIVE_BACK
        delay_s = backoff.retry_delay_s(0, self._kit.settings, batch.id)
        before: list[str] = []
        while True:
            word = "closing"
            segments: list[str] = []
            while word == "closing":
                with effect(Effect.RESOLVE_CLOSE):
                    word, segments = await self._kit.store.close(lease.claim, give_back=give_back, delay_s=delay_s)
            if word == "closed":
                log.info("batch.closed", batch=batch.id, job_state=batch.job_state)
                return
            if plan is ResolvePlan.COLLECT and resolving.read_again(batch):
                raise ShortRead("what was settled is open again: the server has lost it", call="results")
            if segments == before:
                raise RuntimeError(f"batch {batch.id} does not close: {len(segments)} segments stay open")
            await self._close_open(lease, batch, segments, give_back=give_back)
            before = segments

    async def _close_open(self, lease: Lease, batch: Batch, segments: list[str], *, give_back: bool) -> None:
        """Segments that went back too often fail; lines that a collection left open are missing."""
        contents = await BatchContents.load(self._kit.store, batch.id, only=segments)
        collector = Collector(self._kit, lease, batch, contents)
        if give_back:
            message = f"its jobs came to nothing {self._kit.settings.requeues_max + 1} times, last: {batch.job_state}"
            detail = f"{message}: {batch.error}" if batch.error else message
            await collector.fail_all(FailureKind.EXPIRED, detail, bury=True)
        else:
            await collector.account_for_missing()

    async def _forget(self, batch: Batch, status: JobStatus | None) -> None:
        settings, provider = self._kit.settings, self._kit.provider
        if not await self._kit.store.confirm_closed(batch.id):  # what is deleted exists in Redis alone from now on
            log.error("batch.open_again", batch=batch.id, job=batch.job, but="its files are kept")
            return
        files = {batch.output_file, status.output_file if status else ""} - {""}
        with effect(Effect.RESOLVE_FORGET):
            for file in sorted(files) if settings.delete_files != DeleteFiles.NEVER else ():
                try:
                    await provider.delete_file(file)
                except ProviderError as error:
                    log.info("file.not_deleted", batch=batch.id, file=file, error=str(error))
            if settings.delete_jobs and batch.job:
                try:
                    await provider.delete_job(batch.job)
                except ProviderError as error:
                    log.info("job.not_deleted", batch=batch.id, job=batch.job, error=str(error))
