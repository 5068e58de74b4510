"""The packer: a due lane becomes sealed batches.

A lane's life: it is due when it is full, or when its oldest segment has lingered. The packer claims it, moves
segments into a batch a slice at a time until the script says that the batch is sealed, goes on while the lane is
still full, and lets it rest. While one of the lane's model waits for room the lane is parked instead, so that who is
next is chosen when there is room. A crash in between leaves the batch ``packing``, named in the lane; the next claim
goes on with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.ids import new_batch_id
from gemqueue.policy import packing, quota
from gemqueue.policy.packing import full_limits
from gemqueue.records import Lane, LaneState
from gemqueue.setting_values import tenant_weights
from gemqueue.states import Step
from gemqueue_workers.stages.pooling import own_lane, read_room, why_left, why_parked
from gemqueue_workers.stages.reservations import limits_of

if TYPE_CHECKING:
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.pack")


class Packer:
    """Handles ``pack <lane>``."""

    step = Step.PACK
    record = LaneState
    claim_effect = Effect.PACK_CLAIM
    release_effect = Effect.PACK_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._weights = tenant_weights(kit.settings.tenant_weights)
        self._large: set[Lane] = set()

    async def handle(self, lease: Lease, record: LaneState) -> None:
        """Pack one batch, and another as long as what is left fills one."""
        full = full_limits(self._kit.settings, record.lane)["prompts"]
        own = await own_lane(self._kit, record)
        ceiling = min(own.ceiling or full, full)
        batch = record.batch
        while not await self._left_for_later(lease, record, own, begun=bool(batch)):
            left = await self._pack_one(lease, batch or new_batch_id(), record, own)
            if left < ceiling:
                with effect(Effect.PACK_RELEASE):
                    await self._kit.store.rest(lease.claim)
                return
            batch = ""

    async def _left_for_later(self, lease: Lease, lane: LaneState, own: LaneState, *, begun: bool) -> bool:
        if own is lane:
            parked = None if begun else await why_parked(self._kit, lane.lane)
            delay_s = None if parked is None else 0.0
        else:
            parked, left = None, await why_left(self._kit, lane.lane, await read_room(self._kit))
            delay_s = self._kit.settings.sweep_s if left else None  # shortly: another account may have room
        if delay_s is None:
            return False
        with effect(Effect.PACK_RELEASE):
            await self._kit.store.rest(lease.claim, delay_s, parked)
        return True

    async def _pack_one(self, lease: Lease, batch: str, lane: LaneState, own: LaneState) -> int:
        limits = {} if lane.lane.interactive else await self._limits(lane, own)
        word = "packing"
        left = prompts = 0
        while word == "packing":
            with effect(Effect.PACK_PACK):
                word, prompts, left = await self._kit.store.pack(lease.claim, batch, self._weights, own.lane, **limits)
        if word == "sealed":
            log.info("batch.sealed", batch=batch, lane=str(own.lane), prompts=prompts, left=left)
            self._warn_of_large(lane.lane, prompts)
        return left

    def _warn_of_large(self, lane: Lane, prompts: int) -> None:
        """A batch of one segment may hold more than a batch may: only its producer's settings could have helped."""
        prompts_max = full_limits(self._kit.settings, lane)["prompts"]
        if prompts > prompts_max and not lane.interactive and lane not in self._large:
            self._large.add(lane)
            why = "one segment holds more: its producer's segment_prompts_max is above batch_prompts_max here"
            log.warning("batch.large", lane=str(lane), prompts=prompts, batch_prompts_max=prompts_max, why=why)

    async def _limits(self, lane: LaneState, own: LaneState) -> dict[str, int]:
        """What a job of this lane may hold."""
        limit = limits_of(self._kit.settings, own.lane)
        tokens = quota.batch_tokens_max(self._kit.settings, limit, own.token_ratio)
        return {"tokens": tokens, "prompts": await self._prompts_max(own.lane, lane.prompts)}

    async def _prompts_max(self, own: Lane, prompts: int) -> int:
        store = self._kit.store
        known = await store.turnaround(own.account, own.model, prompts)
        return packing.first_batch_prompts(known, await store.open_count(), self._kit.settings)
