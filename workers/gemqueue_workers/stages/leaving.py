"""Lines that leave an interactive batch: for the same service later, for another one, or for the batch lane."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gemqueue.effects import Effect, effect
from gemqueue.records import BATCH
from gemqueue_workers.stages.collector import chunks
from gemqueue_workers.stages.retries import RetryWriter, Why

if TYPE_CHECKING:
    from gemqueue.policy.deadlines import Next
    from gemqueue.records import Batch
    from gemqueue_workers.stages.contents import Source
    from gemqueue_workers.stages.loop import Kit, Lease


class _Onward(NamedTuple):
    """What lines that go on together share."""

    service: str
    tenant: str
    priority: int
    deadline_at: int
    attempt: int
    requeues: int
    doubts: int


class Leaving:
    """Gathers the lines of one batch that go on elsewhere, and moves them."""

    def __init__(self, kit: Kit, lease: Lease, batch: Batch) -> None:
        self._kit = kit
        self._lease = lease
        self._batch = batch
        self._on: dict[_Onward, dict[str, tuple[Source, list[int]]]] = {}
        self._delays_s: dict[_Onward, float] = {}

    def add(self, source: Source, number: int, after: Next, doubts: int) -> None:
        """This line goes on there; so many of its calls are in doubt."""
        meta = source.meta
        same = after.service == self._batch.lane.service
        deadline_at = 0 if after.service == BATCH else meta.deadline_at
        requeues = meta.requeues + 1 if same else 0
        onward = _Onward(after.service, meta.tenant, meta.priority, deadline_at, meta.attempt, requeues, doubts)
        self._on.setdefault(onward, {}).setdefault(meta.id, (source, []))[1].append(number)
        self._delays_s[onward] = max(self._delays_s.get(onward, 0.0), after.delay_s)

    async def move(self) -> None:
        """Move what was gathered. What may have been billed and is bought once more by a batch is counted before."""
        settings = self._kit.settings
        writer = RetryWriter(self._kit, self._lease, self._batch)
        for onward, parts in self._on.items():
            ordered = [(source, sorted(numbers)) for source, numbers in parts.values()]
            why = Why(
                attempt=onward.attempt,
                requeues=onward.requeues,
                delay_ms=int(self._delays_s[onward] * 1000),
                lane=self._batch.lane.of(onward.service),
                forgets_deadline=onward.service == BATCH,
                doubts=onward.doubts,
            )
            if onward.doubts and onward.service == BATCH:
                await self._kit.store.add_count("bought_again", sum(len(numbers) for _, numbers in ordered))
            for chunk in chunks(ordered, settings.segment_prompts_max, settings.segment_bytes_max):
                with effect(Effect.RESOLVE_REQUEUE):
                    await writer.move(self._lease.next_retry_id(), chunk, why)
