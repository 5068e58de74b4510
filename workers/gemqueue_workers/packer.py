"""The packer: a due lane becomes sealed batches.

A lane's life: it is due when it is full, or when its oldest segment has lingered. The packer claims it, moves
segments into a batch a slice at a time until the script says that the batch is sealed, goes on while the lane is
still full, and lets it rest. A crash in between leaves the batch ``packing``, named in the lane; the next claim goes
on with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue import quota, slow
from gemqueue.effects import Effect, effect
from gemqueue.models import Batch, Lane, LaneState, new_batch_id
from gemqueue.states import Step
from gemqueue.store_producer import full_limits
from gemqueue_workers.reservations import limits_of

if TYPE_CHECKING:
    from gemqueue_workers.stage import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.pack")


class Packer:
    """Handles ``pack <lane>``."""

    step = Step.PACK
    claim_effect = Effect.PACK_CLAIM
    release_effect = Effect.PACK_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def handle(self, lease: Lease, record: Batch | LaneState) -> None:
        """Pack one batch, and another as long as what is left fills one."""
        assert isinstance(record, LaneState)  # noqa: S101 - a pack step's record is a lane
        full = full_limits(self._kit.settings, record.lane)["prompts"]
        ceiling = min(record.ceiling or full, full)
        batch = record.batch or new_batch_id()
        while True:
            left = await self._pack_one(lease, batch, record)
            if left < ceiling:
                break
            batch = new_batch_id()
        with effect(Effect.PACK_RELEASE):
            await self._kit.store.rest(lease.claim)

    async def _pack_one(self, lease: Lease, batch: str, lane: LaneState) -> int:
        limits = {} if Lane.parse(lane.lane).interactive else await self._limits(lane)
        word = "packing"
        left = prompts = 0
        while word == "packing":
            with effect(Effect.PACK_PACK):
                word, prompts, left = await self._kit.store.pack(lease.claim, batch, {}, **limits)
        if word == "sealed":
            log.info("batch.sealed", batch=batch, lane=lease.claim.id, prompts=prompts, left=left)
        return left

    async def _limits(self, lane: LaneState) -> dict[str, int]:
        """What a job of this lane may hold."""
        limit = limits_of(self._kit.settings, lane.lane)
        tokens = quota.batch_tokens_max(self._kit.settings, limit, lane.token_ratio)
        return {"tokens": tokens, "prompts": await self._prompts_max(lane)}

    async def _prompts_max(self, lane: LaneState) -> int:
        store, where = self._kit.store, Lane.parse(lane.lane)
        known = await store.turnaround(where.account, where.model, lane.prompts)
        return slow.first_batch_prompts(known, await store.open_count(), self._kit.settings)
