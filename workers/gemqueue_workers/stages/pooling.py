"""Which lanes an account packs now: a pool's by ``policy/pools.py``, its own by ``policy/packing.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy import packing, pools, quota
from gemqueue_workers.stages.reservations import limits_of

if TYPE_CHECKING:
    from gemqueue.policy.packing import Parked
    from gemqueue.records import Lane, LaneState
    from gemqueue_workers.stages.loop import Kit


async def read_room(kit: Kit) -> pools.Room:
    """What the worker's account has under way."""
    account, store = kit.provider.account, kit.store
    return pools.Room(
        account=account,
        batches=await store.open_batches_of(account),
        ledger=await store.ledger(account),
        now_ms=await store.server_now_ms(),
    )


async def why_left(kit: Kit, lane: Lane, room: pools.Room) -> str:
    """Why a pool's lane is left to other accounts, which is noted in the lane; empty when it may be packed."""
    state = await kit.store.lane(lane)
    own = await kit.store.lane(pools.lane_of(lane, kit.provider.account))
    limit = limits_of(kit.settings, lane)
    tokens = min(state.tokens, quota.batch_tokens_max(kit.settings, limit, own.token_ratio))
    raw_bytes = min(state.raw_bytes, kit.settings.batch_bytes_max)
    reason = pools.why_left(room, lane.model, int(tokens * own.token_ratio), limit, raw_bytes)
    if reason:
        await kit.store.leave_lane(state, reason)
    return reason


async def own_lane(kit: Kit, packed: LaneState) -> LaneState:
    """The lane whose batches a claimed lane's prompts go to: itself, or its account's beside a pool's."""
    if not pools.belongs(str(packed.lane), kit.pool):
        return packed
    return await kit.store.lane(pools.lane_of(packed.lane, kit.provider.account))


async def why_parked(kit: Kit, lane: Lane) -> Parked | None:
    """Why a lane of the account's own waits until the line for room has moved; None where it may be packed."""
    line = await kit.store.line(lane)
    if lane.interactive or not line.batches:
        return None
    limit, state = limits_of(kit.settings, lane), await kit.store.lane(lane)
    tokens_max = quota.batch_tokens_max(kit.settings, limit, state.token_ratio)
    bounds = quota.Limits(1, tokens_max, stored_bytes_max=kit.settings.batch_bytes_max)
    parked = packing.why_parked(await read_room(kit), line, state, limit, bounds)
    if parked is not None and any(not one.beat_at for one in await kit.store.workers()):
        return None  # a worker of 0.2.0 moves the line, and wakes no lane
    return parked
