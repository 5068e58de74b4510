"""A worker's share of its pool: which lanes its account may pack now, by the rule of ``gemqueue/policy/pools.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy import pools, quota
from gemqueue_workers.stages.reservations import limits_of

if TYPE_CHECKING:
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
