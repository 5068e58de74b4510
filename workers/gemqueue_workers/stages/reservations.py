"""Room for a job: reserved before anything is uploaded, corrected when the provider refuses a create for quota.

A batch that finds no room waits: nothing fails and no attempt is charged. Only a refused create tells of open jobs and
enqueued tokens; a refused upload is about file storage, a refused poll about the rate of requests, and both only wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.policy import holds, quota
from gemqueue_workers.model_table import tier_tokens
from gemqueue_workers.stages.loop import held_since_first

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.records import Batch, Lane
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.submit")


def limits_of(settings: Settings, lane: Lane) -> quota.Limits:
    """The configured limits of a lane's account and model."""
    model = lane.model
    return quota.limits(settings, model, {model: tier_tokens(model)})


async def reserve(kit: Kit, lease: Lease, batch: Batch) -> str:
    """Take room: ``ok``, ``large`` for a batch that must be divided, or ``held`` when it has been put back to wait."""
    with effect(Effect.SUBMIT_RESERVE):
        found = await kit.store.reserve(lease.claim, limits_of(kit.settings, batch.lane))
    if isinstance(found, str):
        return found
    hold = await held_since_first(kit, batch, holds.why_no_room(found))
    with effect(Effect.SUBMIT_RELEASE):
        await kit.store.release(lease.claim, found.wait_s, hold=hold)
    if not batch.held_reason:
        log.info("batch.held", batch=batch.id, reason=hold.text)
    return "held"


async def suspended(kit: Kit, lease: Lease, batch: Batch, why: str, retry_after_s: float | None) -> float:
    """A create, or the upload for it, was refused for want of money: how long the account creates nothing."""
    with effect(Effect.SUBMIT_SUSPEND):
        hold_s = await kit.store.suspend(lease.claim, why, retry_after_s)
    log.error("spend.refused", batch=batch.id, account=kit.provider.account, hold_s=hold_s, error=why)
    return hold_s


async def refused(kit: Kit, lease: Lease, batch: Batch, named: str, retry_after_s: float | None) -> tuple[float, bool]:
    """A create was refused for quota: how long to wait, and whether the batch is to be divided first."""
    lane, limit = batch.lane, limits_of(kit.settings, batch.lane)
    resource = quota.blamed(named, await kit.store.ledger(lane.account), lane.model, limit)
    with effect(Effect.SUBMIT_SHRINK):
        hold_s, refusals, alone = await kit.store.shrink(lease.claim, resource, limit, retry_after_s)
    log.warning("quota.refused", batch=batch.id, resource=str(resource), hold_s=hold_s, refusals=refusals)
    return hold_s, quota.must_divide(batch, refusals, alone=alone)
