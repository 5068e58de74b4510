"""The interactive lanes: prompts that a batch would not bring in time are asked one by one.

The life of an interactive batch: it is packed and sealed as any other, has no job, and comes straight to the resolver,
which asks for every open prompt by itself, so many at a time and a minute. An answer is settled before its slot is
free again, so that a crash leaves no more calls in doubt than there are slots. A call has no fence: it is noted before
it is made, and one of which no reply is known, lost or cut off by a crash, may be billed. ``policy/doubts.py`` says how
often a prompt is asked for all the same, and when its lane falls silent. A refusal for now goes back to the lane for
later, or on to the standard tier when Flex cannot make it any more; a refusal for good goes back to the batch lane,
which has the last word. Prompts that no batch may have wait in their batch, which says why.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import Ambiguous, ConfigError, ProviderError, Rejected, Transient
from gemqueue.policy import doubts
from gemqueue.policy.backoff import backoff_s
from gemqueue.policy.beliefs import RECORD_VERSION
from gemqueue.policy.deadlines import Next, Service, after_failure, after_refusal, way_now, ways
from gemqueue.policy.doubts import AfterDoubts, after_doubts, after_silence
from gemqueue.policy.holds import withheld
from gemqueue.records import BATCH, Note
from gemqueue.states import FailureKind
from gemqueue.store.deadlines import Asked, Leave, Replied
from gemqueue_workers.stages.collector import Collector, chunks
from gemqueue_workers.stages.loop import held_since_first
from gemqueue_workers.stages.lost import without_lost
from gemqueue_workers.stages.retries import RetryWriter, Why

if TYPE_CHECKING:
    from gemqueue.records import Batch, Hold, Lane, SegmentMeta
    from gemqueue_workers.stages.contents import Source
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.ask")

_BATCHES_MAX = 3  # that one process asks for at a time: a process has other steps to do
_TIMEOUT_S_MIN = 1.0
_BAD_REQUEST = 400
_INVALID_ARGUMENT = 3


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

    async def ask(self, lease: Lease, batch: Batch) -> bool:
        """Ask for every open prompt of the batch; each is then settled or has moved on, or the batch was put back.

        False where it was put back. Raises Rejected where the account is refused: what is open stays open.
        """
        lane = batch.lane
        self._batches += 1
        try:
            return await _Asking(self._kit, lease, batch, lane, self._slots[Service(lane.service)]).run()
        finally:
            self._batches -= 1


class _Prompt(msgspec.Struct, frozen=True):
    """One line that is open, and its calls whose replies are not known: those of this batch, and all."""

    source: Source
    number: int
    key: str
    asked: Asked

    @property
    def meta(self) -> SegmentMeta:
        return self.source.meta

    @property
    def doubts(self) -> int:
        return self.meta.doubts + self.asked.calls

    @property
    def batch_may(self) -> bool:
        """Whether it came from the batch lane: by a deadline. Without one its caller asked for the service."""
        return self.meta.deadline_at > 0

    @property
    def next(self) -> AfterDoubts:
        return after_doubts(self.doubts, batch_may=self.batch_may)

    def in_doubt(self) -> _Prompt:
        """The same after one more call."""
        return msgspec.structs.replace(self, asked=msgspec.structs.replace(self.asked, calls=self.asked.calls + 1))


class _Onward(NamedTuple):
    """What lines that go on together share."""

    service: str
    tenant: str
    priority: int
    deadline_at: int
    attempt: int
    requeues: int
    doubts: int


class _Leaving:
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
        self._leaving = _Leaving(kit, lease, batch)
        self._waits: list[tuple[float, Hold]] = []
        self._silent: Leave | None = None
        self._stop: ProviderError | ConfigError | None = None
        self._collector: Collector

    async def run(self) -> bool:
        """Ask for what is open, many prompts at once; returns when each is settled, has moved on, or waits.

        False where some wait, and the batch with them. Raises StaleFence when overtaken, and what a refused account
        raised, once the calls under way have landed.
        """
        contents = await without_lost(self._kit, self._lease, self._batch, read=True)
        await self._count_doubt(contents.open_prompts())
        asked = await self._kit.store.asked(self._batch.id)
        self._collector = Collector(self._kit, self._lease, self._batch, contents)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for source, lines in contents.bodies([source for source in contents.sources if source.lines]):
                    for number, line in zip(source.lines, lines, strict=True):
                        key = source.meta.key_of(number)
                        prompt = _Prompt(source, number, key, asked.get(key, Asked()))
                        tasks.create_task(self._one(prompt, line))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        await self._leaving.move()
        if self._stop is not None:
            raise self._stop
        await self._collector.account_for_missing()
        log.info("batch.asked", batch=self._batch.id, lane=str(self._batch.lane), **self._collector.counts)
        if self._waits:
            await self._put_back()
        return not self._waits

    async def _count_doubt(self, open_prompts: int) -> None:
        """Whoever held this batch before may have died with calls under way."""
        calls = min(self._kit.settings.interactive_calls_max, open_prompts)
        if self._batch.crashes and calls:
            counted = await self._kit.store.count_doubt(self._lease.claim, self._batch.crashes, calls)
            log.warning("calls.in_doubt", batch=self._batch.id, calls=counted)

    async def _put_back(self) -> None:
        """The batch waits with its prompts, for the first of them."""
        delay_s, hold = min(self._waits, key=lambda wait: wait[0])
        reason = (withheld(hold) if self._kit.settings.seal else hold).text
        log.warning("calls.wait", batch=self._batch.id, prompts=len(self._waits), reason=reason)
        hold = await held_since_first(self._kit, self._batch, hold)
        with effect(Effect.RESOLVE_RELEASE):
            await self._kit.store.release(self._lease.claim, delay_s, Note(v=RECORD_VERSION), hold=hold)

    # --- one prompt ---

    async def _one(self, prompt: _Prompt, line: bytes) -> None:
        async with self._slot:
            slack_s = await self._slack_s(prompt.meta)
            if slack_s is not None and self._overdue_for(slack_s) and prompt.next is AfterDoubts.ASK:
                self._go_on(prompt, Next(Service.STANDARD))
                return
            if self._has_doubts(prompt, await self._waits_s(prompt)) or not await self._may_call(prompt, slack_s):
                return
            try:
                response = await self._answer(line, slack_s)
            except ConfigError as error:
                self._stop = error
                await self._replied(prompt, Replied.REFUSED)
            except ProviderError as error:
                await self._failed(prompt, error)
            else:
                self._collector.feed(b'{"key":"%b","response":%b}' % (prompt.key.encode(), response))
                await self._land()
                await self._replied(prompt, Replied.ANSWERED)
                return
            await self._land()

    async def _waits_s(self, prompt: _Prompt) -> float:
        """How long it still waits where calls before this pass are in doubt."""
        if prompt.next is not AfterDoubts.WAIT:
            return 0.0
        return doubts.wait_s(prompt.asked.at_ms, await self._kit.store.server_now_ms())

    def _has_doubts(self, prompt: _Prompt, wait_s: float) -> bool:
        """Whether too many of its calls are in doubt: it goes to its batch, waits for so long, or fails."""
        after = prompt.next
        if after is AfterDoubts.BATCH:
            self._go_on(prompt, Next(BATCH))
        elif after is AfterDoubts.FAIL:
            message = doubts.why_failed(self._lane.service, prompt.doubts)
            self._collector.doom(prompt.key, FailureKind.DOUBT, message)
        elif after is AfterDoubts.WAIT and wait_s:
            self._wait(prompt, wait_s, doubts.why_doubt(self._lane.service, prompt.doubts))
        else:
            return False
        return True

    async def _may_call(self, prompt: _Prompt, slack_s: float | None) -> bool:
        """Wait for leave to make the call, and note it."""
        store = self._kit.store
        if self._silent is None:
            await self._kit.clock.sleep(await store.permit_s(self._lane.account, self._lane.service))
            if self._stop is not None:
                return False
        leave = self._silent
        if leave is None:
            calls_made = prompt.asked.calls + 1
            leave = await store.ask(self._lease.claim, prompt.key, calls_made, again=prompt.doubts > 0)
        if leave.settled:
            self._collector.skip(prompt.key)
        elif leave.silent_since:
            self._silent = leave
            self._keep_silent(prompt, leave, slack_s)
        return not leave.settled and not leave.silent_since

    def _keep_silent(self, prompt: _Prompt, leave: Leave, slack_s: float | None) -> None:
        """Nothing is bought while nothing comes back."""
        if not prompt.batch_may:
            self._wait(prompt, leave.wait_s, doubts.why_silent(self._lane.service, leave.silent_since))
            return
        here, lead_s = Next(self._lane.service, leave.wait_s), self._kit.settings.standard_lead_s
        self._go_on(prompt, after_silence(here, slack_s, prompt.meta.requeues, self._allowed, lead_s))

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

    async def _replied(self, prompt: _Prompt, how: Replied) -> None:
        calls_left = prompt.asked.calls + (how is Replied.LOST)
        lost, since_ms = await self._kit.store.replied(self._lease.claim, prompt.key, how, calls_left)
        if lost == doubts.SILENT_CALLS:
            log.error("lane.silent", lane=str(self._lane), reason=doubts.why_silent(self._lane.service, since_ms).text)

    # --- what brought no answer ---

    async def _failed(self, prompt: _Prompt, error: ProviderError) -> None:
        log.info("call.failed", key=prompt.key, lane=str(self._batch.lane), error=self._kit.said(error))
        if isinstance(error, Ambiguous):
            await self._replied(prompt, Replied.LOST)
            prompt = prompt.in_doubt()
            if not self._has_doubts(prompt, doubts.RETRY_S):
                self._go_on(prompt, await self._again(prompt, error))
            return
        await self._replied(prompt, Replied.REFUSED)
        if isinstance(error, Transient) and error.spend:
            if self._stop is None:  # the calls under way are refused alike
                await self._kit.store.add_count("spend_refused", 1)
            self._stop = error  # neither another service nor another minute brings money
        elif isinstance(error, Transient):
            self._go_on(prompt, await self._again(prompt, error))
        elif isinstance(error, Rejected) and error.auth:
            self._stop = error
        elif self._lane.service == Service.STANDARD and error.code == _BAD_REQUEST:
            refusal = {"key": prompt.key, "error": {"code": _INVALID_ARGUMENT, "message": str(error)}}
            self._collector.feed(msgspec.json.encode(refusal))
        else:
            self._go_on(prompt, after_refusal(self._lane.service, self._allowed))

    async def _again(self, prompt: _Prompt, error: ProviderError) -> Next:
        settings, meta = self._kit.settings, prompt.meta
        wish_s = error.retry_after_s if isinstance(error, Transient) else None
        first_s = settings.quota_backoff_s if isinstance(error, Transient) and error.quota else settings.backoff_first_s
        delay_s = backoff_s(first_s, settings.backoff_max_s, meta.requeues, prompt.key)
        if wish_s is not None:
            delay_s = min(max(wish_s, settings.backoff_first_s), settings.backoff_max_s)
        here = Next(self._lane.service, delay_s)
        return after_failure(here, await self._slack_s(meta), meta.requeues, self._allowed, settings.standard_lead_s)

    def _go_on(self, prompt: _Prompt, after: Next) -> None:
        self._collector.skip(prompt.key)
        self._leaving.add(prompt.source, prompt.number, after, prompt.doubts)

    def _wait(self, prompt: _Prompt, wait_s: float, hold: Hold) -> None:
        self._collector.skip(prompt.key)
        self._waits.append((wait_s, hold))
