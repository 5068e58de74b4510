"""The rescuer: prompts that their lane cannot be expected to answer in time leave it for an interactive one.

The life of a deadline: a segment that has one stands in its lane's index by the time of its next review, at first at
once. The rescuer claims the lane's rescue step when the earliest review is due, and judges each segment that is due: it
stays, and a time for the next review is noted; or, waiting still, it goes over to an interactive lane as it is; or its
open prompts are copied out of their batch, which they may still outrun. Without a ``deadline_policy`` there is no
index, and nothing of this runs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import WrongState
from gemqueue.ids import rescue_segment_id
from gemqueue.policy.deadlines import Prospect, Verdict, given_back_s, judge, ways, where_of
from gemqueue.records import Lane, LaneState
from gemqueue.states import SegmentState, Step
from gemqueue.store import bitmap, codec
from gemqueue.store.deadlines import RescueSegment
from gemqueue_workers.stages.contents import BatchContents, BodyLostError
from gemqueue_workers.stages.retries import RetryWriter, keys_of_parts

if TYPE_CHECKING:
    from gemqueue.policy.deadlines import Service
    from gemqueue.records import Batch, SegmentMeta
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.rescue")

_SEGMENTS_MAX = 100
_ROUNDS_MAX = 50
_SOON_MS = 1000


class Rescuer:
    """Handles ``rescue <lane>``."""

    step = Step.RESCUE
    record = LaneState
    claim_effect = Effect.RESCUE_CLAIM
    release_effect = Effect.RESCUE_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def handle(self, lease: Lease, record: LaneState) -> None:
        """Look at every segment that is due for it, then put the step back for the next one."""
        await _Round(self._kit, lease, record.lane).run()
        with effect(Effect.RESCUE_RELEASE):
            await self._kit.store.defer(lease.claim, {}, not_within_s=0.0)


class _Round:
    """One pass over what is due, a hundred segments at a time."""

    def __init__(self, kit: Kit, lease: Lease, lane: Lane) -> None:
        self._kit = kit
        self._store = kit.store
        self._lease = lease
        self._lane = lane
        self._allowed = ways(kit.settings.deadline_policy, lane.kind)
        self._numbers = itertools.count()
        self._left: set[str] = set()
        self._ahead = 0

    async def run(self) -> None:
        lanes = [self._lane.of(service) for service in self._allowed]
        self._ahead = sum(await self._store.waiting_prompts(lanes)) if lanes else 0
        for _ in range(_ROUNDS_MAX):
            now_ms = await self._store.server_now_ms()
            due = await self._store.watched(self._lane, now_ms, _SEGMENTS_MAX)
            if not due:
                break
            await self._review(due, now_ms)
        for batch in sorted(self._left):
            await self._store.hasten(Step.TRACK, batch, self._lane.account)

    async def _review(self, due: list[str], now_ms: int) -> None:
        metas = await self._store.segment_metas(due)
        known = {meta.id: meta for meta in metas if meta is not None and meta.state is SegmentState.LIVE}
        again_at = {id_: 0 for id_ in due if id_ not in known}
        records = await self._store.batch_records(sorted({meta.batch for meta in known.values()} - {""}))
        batches = {batch.id: batch for batch in records}
        batch_s = await self._batch_s()
        for meta in sorted(known.values(), key=lambda meta: meta.deadline_at):
            batch = batches.get(meta.batch)
            ahead, doubt_s = self._ahead + meta.count, given_back_s(batch, now_ms, self._kit.settings)
            prospect = Prospect(meta.deadline_at, now_ms, where_of(batch), batch_s, ahead, doubt_s)
            verdict = judge(prospect, self._allowed, self._kit.settings)
            if verdict.service is not None or verdict.again_at:
                self._ahead += meta.count
            next_at = await self._carry_out(meta, batch, verdict, now_ms)
            if next_at is not None:
                again_at[meta.id] = next_at
        with effect(Effect.RESCUE_RELEASE):
            await self._store.defer(self._lease.claim, again_at)

    async def _batch_s(self) -> float | None:
        waiting = (await self._store.waiting_prompts([self._lane]))[0]
        prompts = min(max(1, waiting), self._kit.settings.batch_prompts_max)
        history = await self._store.turnaround(self._lane.account, self._lane.model, prompts)
        return history.p90_s if history is not None else None

    async def _carry_out(self, meta: SegmentMeta, batch: Batch | None, verdict: Verdict, now_ms: int) -> int | None:
        """When to review it again, in ms; 0 for never, None where it has left the lane."""
        if verdict.service is None:
            return max(verdict.again_at, now_ms + 1) if verdict.again_at else 0
        if batch is None:
            return await self._divert(meta, verdict.service, now_ms)
        return await self._rescue(meta, batch, verdict.service, now_ms)

    async def _divert(self, meta: SegmentMeta, service: Service, now_ms: int) -> int | None:
        with effect(Effect.RESCUE_DIVERT):
            prompts = await self._store.divert(self._lease.claim, meta.id, self._lane.of(service))
        if prompts is None:  # packed in this moment
            return now_ms + _SOON_MS
        log.info("segment.diverted", segment=meta.id, prompts=prompts, service=service)
        return None

    async def _rescue(self, meta: SegmentMeta, batch: Batch, service: Service, now_ms: int) -> int | None:
        contents = await BatchContents.load(self._store, batch.id, only=[meta.id])
        if not contents.open_prompts():
            return 0 if contents.sources else now_ms + _SOON_MS
        part = (contents.sources[0], contents.sources[0].lines)
        try:
            body = b"".join(await RetryWriter(self._kit, self._lease, batch).lines([part]))
        except BodyLostError as error:  # nothing to ask for: its batch may bring the answers yet, or fails what is lost
            log.warning("body.unreadable", batch=batch.id, segment=meta.id, why=error.why)
            return 0
        rescued = RescueSegment(
            id=rescue_segment_id(batch.id, self._lease.claim.fence, next(self._numbers)),
            lane=self._lane.of(service),
            tenant=meta.tenant,
            priority=meta.priority,
            count=len(part[1]),
            raw_bytes=len(body),
            tokens=len(body) // 4 + 1,
            attempt=meta.attempt,
            deadline_at=meta.deadline_at,
            doubts=meta.doubts,
            keys=keys_of_parts([part]),
            segment=meta.id,
            lines=bitmap.of(part[1], meta.count),
            batch=batch.id,
        )
        try:
            with effect(Effect.RESCUE_RESCUE):
                await self._store.rescue(self._lease.claim, rescued, await codec.compress_async(body))
        except WrongState:
            return now_ms + _SOON_MS
        self._left.add(batch.id)
        log.info("prompts.rescued", segment=meta.id, batch=batch.id, prompts=rescued.count, service=service)
        return None
