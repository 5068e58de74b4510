"""Pools' side of the store: who takes part, what an account has under way, and why nobody takes what waits."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gemqueue.policy.holds import hold_of
from gemqueue.policy.packing import Line
from gemqueue.policy.pools import OpenBatch
from gemqueue.records import Lane
from gemqueue.states import BatchState
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import ServerFull, translated

if TYPE_CHECKING:
    from gemqueue.records import LaneState

_FIELDS = (
    "state", "lane", "held_cause", "held_reason", "held_since", "held_for", "tokens", "raw_bytes", "input_file",
    "priority",
)  # fmt: skip
_CLASS = 4_398_046_511_104
"""How far apart priorities are in the scores of a lane's tenants (lua/_lanes.lua)."""


class PoolStore(StoreBase):
    """See the module's text."""

    async def join_pool(self, pool: str, account: str) -> None:
        """A worker of the account takes from the pool: after a change of the server the pool waits for the account.

        On a full server nothing is noted: ``pack`` does so too, and the worker has to go on.
        """
        with suppress(ServerFull), translated(self.url):
            await self.redis.zadd(self.key("pool", pool), {account: await self.server_now_ms()})

    async def open_batches_of(self, account: str) -> list[OpenBatch]:
        """The account's batches that are not closed, oldest first, without those of lanes that cannot be read."""
        with translated(self.url):
            ids: list[bytes] = await self.redis.zrange(self.key("batches"), 0, -1)
            pipe: Any = self.redis.pipeline(transaction=False)
            for id_ in ids:
                pipe.hmget(self.key("batch", id_.decode(errors="replace")), _FIELDS)
            rows: list[list[bytes | None]] = await self.replies(pipe) if ids else []
        read = [
            self.unreadable.read(f"batch {id_}", partial(_open_batch, id_), row)
            for id_, row in zip([id_.decode(errors="replace") for id_ in ids], rows, strict=True)
        ]
        return [batch for batch in read if batch is not None and batch.lane.account == account]

    async def line(self, lane: Lane) -> Line:
        """The line for room at the lane's account, and the highest priority of what waits in the lane."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.zrange(self.key("waiting", lane.account), 0, -1)
            pipe.zrange(self.key("tenants", str(lane)), 0, 0, withscores=True)
            ids, first = await pipe.execute()
        priority = -int(first[0][1] // _CLASS) if first else 0
        return Line(batches=[id_.decode() for id_ in ids], priority=priority)

    async def leave_lane(self, lane: LaneState, reason: str) -> None:
        """Say why nobody packs a lane, unless the server is full; ``pack`` takes it back."""
        if lane.held_reason != reason:
            with suppress(ServerFull), translated(self.url):
                await self.redis.hset(self.key("lane", str(lane.lane)), "held_reason", reason)


def _open_batch(id_: str, row: list[bytes | None]) -> OpenBatch | None:
    """None for one that is gone, or in a lane that only a newer gemqueue knows."""
    text = [(value or b"").decode(errors="replace") for value in row]
    state, lane, held_cause, held_reason, held_since, held_for, tokens, raw_bytes, input_file, priority = text
    if not state or (named := Lane.named(lane)) is None:
        return None
    return OpenBatch(
        id=id_,
        state=BatchState(state),
        lane=named,
        hold=hold_of(held_cause, held_reason, int(held_since or 0)),
        held_for=held_for,
        tokens=int(tokens or 0),
        raw_bytes=int(raw_bytes or 0),
        input_file=input_file,
        priority=int(priority or 0),
    )
