"""What the stages do about input files: deleted when their jobs have ended, and jobs that missed theirs begun anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError
from gemqueue.policy import backoff, inputs
from gemqueue.records import Note
from gemqueue.setting_values import DeleteFiles

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.track")


async def delete_input(kit: Kit, batch: Batch, name: Effect) -> bool:
    """Delete the batch's input file, where the setting lets files go; False where it may still be there."""
    if kit.settings.delete_files == DeleteFiles.NEVER or not batch.input_file:
        return False
    try:
        with effect(name):
            await kit.provider.delete_file(batch.input_file)
    except ProviderError as error:
        log.warning("file.not_deleted", batch=batch.id, file=batch.input_file, error=str(error))
        return False
    return True


async def delete_while_running(kit: Kit, batch: Batch, status: JobStatus) -> Note:
    """Make room while a job runs, where that is chosen and the account has not proven it wrong; what to record."""
    account = kit.provider.account
    if not inputs.may_go_while_running(batch, status, kit.settings) or await kit.store.input_needed([account]):
        return Note()
    return Note(input_file="") if await delete_input(kit, batch, Effect.TRACK_DELETE) else Note()


async def restarted(kit: Kit, lease: Lease, batch: Batch, status: JobStatus) -> None:
    """A job that failed because its input was gone is replaced, with a file that is kept."""
    proven = inputs.was_deleted(batch)
    await delete_input(kit, batch, Effect.TRACK_DELETE)  # of no use any more, where it is there
    delay_s = backoff.retry_delay_s(batch.inputs_missed - 1, kit.settings, batch.id) if batch.inputs_missed else 0.0
    hold = inputs.why_begun_anew(status)
    with effect(Effect.TRACK_RESTART):
        await kit.store.restart(lease.claim, batch.job, delay_s=delay_s, hold=hold, proven=proven)
    log.error("job.missed_input", batch=batch.id, job=batch.job, deleted=proven, error=kit.said(status.error_message))
