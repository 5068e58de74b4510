"""Where one prompt is: what the store knows of a single key, read and never written."""

from __future__ import annotations

from typing import Any

import msgspec

from gemqueue.models import Held, Lane, why_held
from gemqueue.scripts import translated
from gemqueue.store_base import keys_of
from gemqueue.store_turnaround import TurnaroundStore

_HOPS_MAX = 32
_FIELDS = ("lane", "batch", "went", "keys")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a prompt is. ``moved`` without a batch: it went on, and the store no longer says where to."""

    known: bool = True
    lane: str = ""
    settled: bool = False
    moved: bool = False
    batch: str = ""
    batch_state: str = ""
    held_reason: str = ""
    held_since: int = 0
    accepted_at: int = 0
    prompts: int = 0


class LookStore(TurnaroundStore):
    """Looks at single prompts."""

    async def place(self, segment: str, index: int) -> Place:
        """Where the prompt is; follows it through its retry segments."""
        at, line, lane = segment, index, ""
        for _ in range(_HOPS_MAX):
            fields, settled, moved = await self._segment(segment, index, at, line)
            if fields[0] is None:
                break
            lane, batch = fields[0].decode(), (fields[1] or b"").decode()
            if settled or not moved:
                return await self._in_batch(lane, batch, settled=settled)
            following = await self._following((fields[2] or b"").decode().split(), segment, index)
            if following is None:
                return Place(lane=lane, moved=True)
            at, line = following
        return Place(known=bool(lane), lane=lane, moved=True)

    async def _segment(self, segment: str, index: int, at: str, line: int) -> tuple[list[bytes | None], bool, bool]:
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.hmget(self.key("segmeta", at), _FIELDS)
            pipe.getbit(self.key("settled", segment), index)
            pipe.getbit(self.key("moved", at), line)
            fields, settled, moved = await pipe.execute()
        return fields, bool(settled), bool(moved)

    async def _in_batch(self, lane: str, batch: str, *, settled: bool) -> Place:
        if not batch:
            reason, since = await self._lane_held(lane)
            return Place(lane=lane, settled=settled, held_reason=reason, held_since=since)
        names = ("state", "held_reason", "held_since", "accepted_at", "prompts", "lane")
        with translated(self.url):
            values: list[bytes | None] = await self.redis.hmget(self.key("batch", batch), names)
        state, reason, since_ms, accepted_at, prompts, own = [(value or b"").decode() for value in values]
        held = (reason, int(since_ms or 0))
        if not reason and not settled:
            held = why_held(state, held, await self._pause(own or lane))
        return Place(
            lane=own or lane,
            settled=settled,
            batch=batch,
            batch_state=state,
            held_reason=held[0],
            held_since=held[1],
            accepted_at=int(accepted_at or 0),
            prompts=int(prompts or 0),
        )

    async def _lane_held(self, lane: str) -> Held:
        paused = await self._pause(lane)
        if paused[0]:
            return paused
        with translated(self.url):
            return (await self.redis.hget(self.key("lane", lane), "held_reason") or b"").decode(), 0

    async def _pause(self, lane: str) -> Held:
        """The pause of the lane's account after a change of the server."""
        server = self.key("server", Lane.parse(lane).account)
        with translated(self.url):
            reason, since = await self.redis.hmget(server, "held_reason", "noticed_at")
        return (reason or b"").decode(), int(since or 0)

    async def _following(self, went: list[str], segment: str, index: int) -> tuple[str, int] | None:
        """The retry segment that holds the prompt now, and its line there."""
        key = f"{segment}.{index}"
        for id_ in reversed(went):
            with translated(self.url):
                packed: bytes | None = await self.redis.hget(self.key("segmeta", id_), "keys")
            keys = keys_of(packed) if packed else ()
            if key in keys:
                return id_, keys.index(key)
        return None
