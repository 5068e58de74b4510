"""The resolver: an ended job's results become outcomes, and the batch is closed.

A batch's last chapter: the job is looked at once more, and its results are collected (``ended_jobs.py``). What a job
that did not succeed has not brought goes back to its lane in the segments as they are, free of charge, until these
have been sent back too often, and then the prompts fail with the reason. The batch is closed a slice at a time when
each of its prompts is settled or moved. What is left at the provider is deleted as configured: the input file before
the batch is closed, so that a crash leaves it to the next resolver; results and job after it, because they are needed
until then, and a crash leaves them to their 48 h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError, ShortRead, UnreadableRecord
from gemqueue.policy import backoff, resolving
from gemqueue.policy.resolving import ResolvePlan
from gemqueue.records import Batch
from gemqueue.setting_values import DeleteFiles
from gemqueue.states import FailureKind, Step
from gemqueue.store.base import segment_record
from gemqueue_workers.stages.collector import Collector
from gemqueue_workers.stages.contents import BatchContents
from gemqueue_workers.stages.ended_jobs import EndedJobs
from gemqueue_workers.stages.inputs import delete_input
from gemqueue_workers.stages.interactive import Interactive

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_LOST_AGAIN = "what was settled is open again: the server has lost it"
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
        self._ended = EndedJobs(kit)

    async def handle(self, lease: Lease, record: Batch) -> None:
        """Settle or requeue every prompt of an ended batch, close it, and clean up at the provider."""
        plan = resolving.first_plan(record)
        status: JobStatus | None = None
        if plan is ResolvePlan.ASK:
            if self._interactive.full:
                with effect(Effect.RESOLVE_RELEASE):
                    await self._kit.store.release(lease.claim, _BUSY_S)
                return
            if not await self._interactive.ask(lease, record):
                return
        if plan is ResolvePlan.LOOK:
            ended = await self._ended.look(lease, record)
            if ended is None:
                return
            plan, status = ended
        elif plan is ResolvePlan.REFUSE:
            await self._fail_all(lease, record, FailureKind.INVALID, record.error, bury=False)
        await delete_input(self._kit, record, Effect.RESOLVE_DELETE)
        await self._close(lease, record, plan)
        await self._forget(record, status)

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
                raise ShortRead(_LOST_AGAIN, call="results")
            if segments == before:
                raise RuntimeError(f"batch {batch.id} does not close: {len(segments)} segments stay open")
            await self._close_open(lease, batch, segments, give_back=give_back)
            before = segments

    async def _close_open(self, lease: Lease, batch: Batch, segments: list[str], *, give_back: bool) -> None:
        """Segments that went back too often fail; lines that a collection has settled are not bought again."""
        contents = await BatchContents.load(self._kit.store, batch.id, only=segments)
        if contents.unreadable:
            record = segment_record(contents.unreadable)
            raise UnreadableRecord(record, self._kit.store.unreadable.found[record])
        collector = Collector(self._kit, lease, batch, contents)
        if give_back:
            message = f"its jobs came to nothing {self._kit.settings.requeues_max + 1} times, last: {batch.job_state}"
            detail = f"{message}: {batch.error}" if batch.error else message
            await collector.fail_all(FailureKind.EXPIRED, detail, bury=True)
        elif not batch.job:
            await collector.account_for_missing()
        elif collector.missing:
            raise ShortRead(_LOST_AGAIN, call="results")

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
