"""The interactive lanes: prompts that a batch would not bring in time are asked one by one.

The life of an interactive batch: it is packed and sealed as any other, has no job, and comes straight to the resolver,
which asks for every open prompt by itself, so many at a time and a minute. An answer is settled before its slot is
free again, so that a crash leaves no more calls in doubt than there are slots. A call has no fence: what was in doubt
may be bought again, and is counted. A refusal for now goes back to the lane for later, or on to the standard tier when
Flex cannot make it any more; a refusal for good goes back to the batch lane, which has the last word.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import Ambiguous, ConfigError, ProviderError, Rejected, Transient
from gemqueue.ids import split_key
from gemqueue.policy.backoff import backoff_s
from gemqueue.policy.deadlines import Next, Service, after_failure, after_refusal, way_now, ways
from gemqueue.records import BATCH, Lane
from gemqueue_workers.stages.collector import Collector, chunks
from gemqueue_workers.stages.lost import without_lost
from gemqueue_workers.stages.retries import RetryWriter, Why

if TYPE_CHECKING:
    from gemqueue.records import Batch, SegmentMeta
    from gemqueue_workers.stages.contents import Source
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.ask")

_BATCHES_MAX = 3  # that one process asks for at a time: a process has other steps to do
_TIMEOUT_S_MIN = 1.0
_BAD_REQUEST = 400
_INVALID_ARGUMENT = 3


class _Onward(NamedTuple):
    """What lines that go on together share."""

    service: str
    tenant: str
    priority: int
    deadline_at: int
    attempt: int
    requeues: int


class Interactive:
    """Asks for the prompts of interactive batches; one per process, which has so many slots for each service class."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._slots = {service: asyncio.Semaphore(kit.settings.interactive_calls_max) for service in Service}
        self._batches = 0

    @property
    def full(self) -> bool:
        """Whether as many batches are under way as this process takes."""
        return self._batches >= _BATCHES_MAX

    async def ask(self, lease: Lease, batch: Batch) -> None:
        """Ask for every open prompt of the batch; each is then settled, or has moved on.

        Raises Rejected where the account is refused: what is open stays open.
        """
        lane = batch.lane
        self._batches += 1
        try:
            await _Asking(self._kit, lease, batch, lane, self._slots[Service(lane.service)]).run()
        finally:
            self._batches -= 1


class _Asking:
    """One pass over one batch."""

    def __init__(self, kit: Kit, lease: Lease, batch: Batch, lane: Lane, slot: asyncio.Semaphore) -> None:
        self._kit = kit
        self._lease = lease
        self._batch = batch
        self._lane = lane
        self._slot = slot
        self._allowed = ways(kit.settings.deadline_policy, lane.kind)
        self._landing = asyncio.Lock()
        self._on: dict[_Onward, dict[str, tuple[Source, list[int]]]] = {}
        self._delays_s: dict[_Onward, float] = {}
        self._stop: ProviderError | ConfigError | None = None
        self._collector: Collector

    async def run(self) -> None:
        """Ask for what is open, many prompts at once; returns when each is settled or has moved on.

        Raises StaleFence when overtaken, and what a refused account raised, once the calls under way have landed.
        """
        contents = await without_lost(self._kit, self._lease, self._batch)
        await self._count_doubt(contents.open_prompts())
        self._collector = Collector(self._kit, self._lease, self._batch, contents)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for source, lines in contents.bodies([source for source in contents.sources if source.lines]):
                    for number, line in zip(source.lines, lines, strict=True):
                        tasks.create_task(self._one(source, number, line))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        await self._send_on()
        if self._stop is not None:
            raise self._stop
        await self._collector.account_for_missing()
        log.info("batch.asked", batch=self._batch.id, lane=str(self._batch.lane), **self._collector.counts)

    async def _count_doubt(self, open_prompts: int) -> None:
        """Whoever held this batch before may have died with calls under way."""
        calls = min(self._kit.settings.interactive_calls_max, open_prompts)
        if self._batch.crashes and calls:
            counted = await self._kit.store.count_doubt(self._lease.claim, self._batch.crashes, calls)
            log.warning("calls.in_doubt", batch=self._batch.id, calls=counted)

    async def _one(self, source: Source, number: int, line: bytes) -> None:
        async with self._slot:
            key = source.meta.key_of(number)
            slack_s = await self._slack_s(source.meta)
            if slack_s is not None and self._overdue_for(slack_s):
                self._go_on(source, number, Next(Service.STANDARD))
                return
            await self._kit.clock.sleep(await self._kit.store.permit_s(self._lane.account, self._lane.service))
            if self._stop is not None:
                return
            if await self._kit.store.is_settled(*split_key(key)):
                self._collector.skip(key)
                return
            try:
                response = await self._answer(line, slack_s)
            except ConfigError as error:
                self._stop = error
            except ProviderError as error:
                await self._failed(source, number, error)
            else:
                self._collector.feed(b'{"key":"%b","response":%b}' % (key.encode(), response))
            await self._land()

    async def _answer(self, line: bytes, slack_s: float | None) -> bytes:
        settings, lane = self._kit.settings, self._lane
        timeout_s = settings.interactive_timeout_s
        if slack_s is not None and lane.service == Service.FLEX and Service.STANDARD in self._allowed:
            timeout_s = min(timeout_s, max(_TIMEOUT_S_MIN, slack_s - settings.standard_lead_s))
        with effect(Effect.RESOLVE_ASK):
            return await self._kit.provider.answer(
                line, model=lane.model, kind=lane.kind, service=lane.service, timeout_s=timeout_s
            )

    async def _slack_s(self, meta: SegmentMeta) -> float | None:
        if not meta.deadline_at:
            return None
        return (meta.deadline_at - await self._kit.store.server_now_ms()) / 1000

    def _overdue_for(self, slack_s: float) -> bool:
        """Whether this lane's service cannot make it any more and another can."""
        return self._lane.service == Service.FLEX and (
            way_now(slack_s, self._allowed or (Service.FLEX,), self._kit.settings) is Service.STANDARD
        )

    async def _land(self) -> None:
        """Settle what has come, this prompt's row included; rows that come meanwhile share the next write."""
        async with self._landing:
            await self._collector.land()

    # --- what brought no answer ---

    async def _failed(self, source: Source, number: int, error: ProviderError) -> None:
        key = source.meta.key_of(number)
        log.info("call.failed", key=key, lane=str(self._batch.lane), error=str(error))
        if isinstance(error, Transient) and error.spend:
            if self._stop is None:  # the calls under way are refused alike
                await self._kit.store.add_count("spend_refused", 1)
            self._stop = error  # neither another service nor another minute brings money
        elif isinstance(error, Transient | Ambiguous):
            if isinstance(error, Ambiguous):
                await self._kit.store.add_count("interactive_in_doubt", 1)
            self._go_on(source, number, await self._again(source.meta, key, error))
        elif isinstance(error, Rejected) and error.auth:
            self._stop = error
        elif self._lane.service == Service.STANDARD and error.code == _BAD_REQUEST:
            refusal = {"key": key, "error": {"code": _INVALID_ARGUMENT, "message": str(error)}}
            self._collector.feed(msgspec.json.encode(refusal))
        else:
            self._go_on(source, number, after_refusal(self._lane.service, self._allowed))

    async def _again(self, meta: SegmentMeta, key: str, error: ProviderError) -> Next:
        settings = self._kit.settings
        wish_s = error.retry_after_s if isinstance(error, Transient) else None
        first_s = settings.quota_backoff_s if isinstance(error, Transient) and error.quota else settings.backoff_first_s
        delay_s = backoff_s(first_s, settings.backoff_max_s, meta.requeues, key)
        if wish_s is not None:
            delay_s = min(max(wish_s, settings.backoff_first_s), settings.backoff_max_s)
        slack_s = await self._slack_s(meta)
        here = Next(self._lane.service, delay_s)
        return after_failure(here, slack_s, meta.requeues, self._allowed, settings.standard_lead_s)

    def _go_on(self, source: Source, number: int, after: Next) -> None:
        meta = source.meta
        self._collector.skip(meta.key_of(number))
        same = after.service == self._lane.service
        deadline_at = 0 if after.service == BATCH else meta.deadline_at
        requeues = meta.requeues + 1 if same else 0
        onward = _Onward(after.service, meta.tenant, meta.priority, deadline_at, meta.attempt, requeues)
        self._on.setdefault(onward, {}).setdefault(meta.id, (source, []))[1].append(number)
        self._delays_s[onward] = max(self._delays_s.get(onward, 0.0), after.delay_s)

    async def _send_on(self) -> None:
        settings = self._kit.settings
        writer = RetryWriter(self._kit, self._lease, self._batch)
        for onward, parts in self._on.items():
            ordered = [(source, sorted(numbers)) for source, numbers in parts.values()]
            why = Why(
                attempt=onward.attempt,
                requeues=onward.requeues,
                delay_ms=int(self._delays_s[onward] * 1000),
                lane=self._lane.of(onward.service),
                forgets_deadline=onward.service == BATCH,
            )
            for chunk in chunks(ordered, settings.segment_prompts_max, settings.segment_bytes_max):
                with effect(Effect.RESOLVE_REQUEUE):
                    await writer.move(self._lease.next_retry_id(), chunk, why)
