"""Where one prompt is, and what is believed of the open batches: read, and never written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.policy.beliefs import evidence_of
from gemqueue.policy.holds import hold_of, waits_for, why_held
from gemqueue.policy.tenants import over_of, why_passed_over
from gemqueue.records import NOT_HELD, Batch, Hold, Lane
from gemqueue.states import Cause
from gemqueue.store.base import batch_of, keys_of
from gemqueue.store.scripts import translated
from gemqueue.store.tenants import TenantStore
from gemqueue.store.turnaround import TurnaroundStore
from gemqueue.store.unreadable import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HOPS_MAX = 32
_FIELDS = ("lane", "batch", "went", "keys", "tenant")
_POOL_KEEP_MS = 360_000_000
"""An account that had no worker for so long is not waited for (lua/_server.lua)."""


_READ_AT_ONCE = 500
_BELIEVED = (
    "v", "state", "lane", "fence", "prompts", "raw_bytes", "job", "job_state", "intent_at", "accepted_at", "ended_at",
    "held_reason", "held_cause", "held_since", "seen_what", "seen_n", "seen_first_at", "seen_last_at", "decided",
)  # fmt: skip
_BRIEF = tuple(name for name in Batch.__struct_fields__ if name not in {"id", "operation"})
"""What an operation says takes up to 64 KiB a batch."""


_PAUSED = ("held_reason", "noticed_at", "forgot_reason", "forgot_at")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a prompt is. ``moved`` without a batch: it went on, and the store no longer says where to."""

    known: bool = True
    lane: Lane | None = None
    settled: bool = False
    moved: bool = False
    batch: str = ""
    batch_state: str = ""
    held_reason: str = ""
    held_since: int = 0
    held_cause: Cause = Cause.NONE
    accepted_at: int = 0
    prompts: int = 0


class LookStore(TurnaroundStore, TenantStore):
    """Looks at single prompts."""

    async def place(self, segment: str, index: int) -> Place:
        """Where the prompt is; follows it through its retry segments. Raises UnreadableRecord."""
        with reading(f"segment {segment}"):
            return await self._place(segment, index)

    async def _place(self, segment: str, index: int) -> Place:
        at, line = segment, index
        lane: Lane | None = None
        for _ in range(_HOPS_MAX):
            fields, settled, moved = await self._segment(segment, index, at, line)
            if fields[0] is None:
                break
            lane, batch = Lane.parse(fields[0].decode()), (fields[1] or b"").decode()
            if settled or not moved:
                return await self._in_batch(lane, batch, (fields[4] or b"default").decode(), settled=settled)
            following = await self._following((fields[2] or b"").decode().split(), segment, index)
            if following is None:
                return Place(lane=lane, moved=True)
            at, line = following
        return Place(known=lane is not None, lane=lane, moved=True)

    async def _segment(self, segment: str, index: int, at: str, line: int) -> tuple[list[bytes | None], bool, bool]:
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.hmget(self.key("segmeta", at), _FIELDS)
            pipe.getbit(self.key("settled", segment), index)
            pipe.getbit(self.key("moved", at), line)
            fields, settled, moved = await pipe.execute()
        return fields, bool(settled), bool(moved)

    async def _in_batch(self, lane: Lane, batch: str, tenant: str, *, settled: bool) -> Place:
        if not batch:
            held = await self._lane_held(lane, tenant)
            return Place(
                lane=lane, settled=settled, held_reason=held.text, held_since=held.since_ms, held_cause=held.cause
            )
        names = ("state", "held_cause", "held_reason", "held_since", "accepted_at", "prompts", "lane", "pool")
        with translated(self.url):
            values: list[bytes | None] = await self.redis.hmget(self.key("batch", batch), names)
        state, cause, reason, since_ms, accepted_at, prompts, own, pool = [(value or b"").decode() for value in values]
        lane = Lane.parse(own) if own else lane
        held = hold_of(cause, reason, int(since_ms or 0))
        if not reason and not settled:
            pauses = await self.pauses(waits_for(lane, pool))
            held = why_held(state, held, *pauses.values())
        return Place(
            lane=lane,
            settled=settled,
            batch=batch,
            batch_state=state,
            held_reason=held.text,
            held_since=held.since_ms,
            held_cause=held.cause,
            accepted_at=int(accepted_at or 0),
            prompts=int(prompts or 0),
        )

    async def _lane_held(self, lane: Lane, tenant: str) -> Hold:
        (account,) = waits_for(lane)
        paused = await self.pause(account)
        if paused.text:
            return paused
        with translated(self.url):
            over: bytes | None = await self.redis.hget(self.key("over", str(lane)), tenant)
            if over is not None:
                return why_passed_over(over_of(tenant, over.decode()))
            reason = (await self.redis.hget(self.key("lane", str(lane)), "held_reason") or b"").decode()
        return hold_of("", reason, 0)

    async def pause(self, account: str) -> Hold:
        """Why packing and submitting of an account wait after a change of the server, or a loss, and since when.

        A pool waits for each of its accounts, and says for which.
        """
        return (await self.pauses([account]))[account]

    async def pauses(self, accounts: Iterable[str]) -> dict[str, Hold]:
        """The same of several, in their order."""
        asked = list(dict.fromkeys(accounts))
        since_ms = self.clock.now_ms() - _POOL_KEEP_MS
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for account in asked:
                pipe.zrangebyscore(self.key("pool", account), since_ms, "+inf")
            members: list[list[bytes]] = await pipe.execute() if asked else []
            parts = [[account, *map(bytes.decode, ids)] for account, ids in zip(asked, members, strict=True)]
            for part in parts:
                for one in part:
                    pipe.hmget(self.key("server", one), _PAUSED)
            found: list[list[bytes | None]] = await pipe.execute() if asked else []
        rows = iter(found)
        return {part[0]: _first_held(part, [next(rows) for _ in part]) for part in parts}

    async def batch_records(self, batches: Sequence[str]) -> list[Batch]:
        """The records of those of the batches that are there and can be read, in order, without ``operation``."""
        found: list[Batch] = []
        for start in range(0, len(batches), _READ_AT_ONCE):
            ids = batches[start : start + _READ_AT_ONCE]
            with translated(self.url):
                pipe: Any = self.redis.pipeline(transaction=False)
                for id_ in ids:
                    pipe.hmget(self.key("batch", id_), _BRIEF)
                rows = await self.replies(pipe)
            read = [
                self.unreadable.read(f"batch {id_}", partial(_brief, id_), row)
                for id_, row in zip(ids, rows, strict=True)
            ]
            found += [batch for batch in read if batch is not None]
        return found

    async def open_records(self) -> list[Batch]:
        """The records of all batches that are not closed, oldest first, without those that cannot be read."""
        return await self.batch_records(await self.open_batches())

    async def open_batches(self) -> list[str]:
        """The ids of all batches that are not closed, oldest first."""
        with translated(self.url):
            ids: list[bytes] = await self.redis.zrange(self.key("batches"), 0, -1)
        return [id_.decode(errors="replace") for id_ in ids]

    async def believed(self, batches_max: int = 0) -> list[Batch]:
        """The open batches that are under a belief, oldest first, without what no belief is about.

        With ``batches_max`` only so many of the oldest open ones are looked at. One that cannot be read is left out.
        """
        with translated(self.url):
            ids: list[bytes] = await self.redis.zrange(self.key("batches"), 0, batches_max - 1)
            found: list[list[bytes | None]] = []
            for start in range(0, len(ids), _READ_AT_ONCE):
                pipe: Any = self.redis.pipeline(transaction=False)
                for id_ in ids[start : start + _READ_AT_ONCE]:
                    pipe.hmget(self.key("batch", id_.decode(errors="replace")), _BELIEVED)
                found += await self.replies(pipe)
        names = [id_.decode(errors="replace") for id_ in ids]
        read = [
            self.unreadable.read(f"batch {id_}", partial(_believed, id_), row)
            for id_, row in zip(names, found, strict=True)
        ]
        return [batch for batch in read if batch is not None]

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


def _believed(id_: str, row: list[bytes | None]) -> Batch | None:
    raw = {name.encode(): value for name, value in zip(_BELIEVED, row, strict=True) if value is not None}
    batch = batch_of(id_, raw) if raw else None
    return batch if batch is not None and batch.seen_n and evidence_of(batch).belief is not None else None


def _first_held(accounts: list[str], servers: list[list[bytes | None]]) -> Hold:
    """An account's own pause, else that of the first of those that it waits for."""
    for account, (changed, changed_at, forgot, forgot_at) in zip(accounts, servers, strict=True):
        reason, since = (forgot, forgot_at) if forgot else (changed, changed_at)
        if reason:
            words = reason.decode(errors="replace")
            since_ms = int(since) if since is not None and since.isdigit() else 0
            cause = Cause.FORGOTTEN if forgot else Cause.SERVER
            return Hold(cause, words if account == accounts[0] else f"{account}: {words}", since_ms)
    return NOT_HELD


def _brief(id_: str, row: list[bytes | None]) -> Batch | None:
    raw = {name.encode(): value for name, value in zip(_BRIEF, row, strict=True) if value is not None}
    return batch_of(id_, raw) if raw else None
