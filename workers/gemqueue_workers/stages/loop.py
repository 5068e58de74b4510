"""The loop around a step: claim, handle under a renewed lease, and put back whatever did not come to its end.

A step's life: somebody finds it overdue and runs it here. The claim raises the record's fence, so from that moment
nobody else's writes count. While the handler works, the lease is renewed at a third of its length; when that fails, the
handler is stopped, because somebody else may be at it. The handler ends by a transition that moves the step on. If it
raises, the step is put back with a reason and a delay. If the process dies, the lease runs out and the step is due
again.

Where a step makes the batch's next one due at once, and this worker has that role, it is claimed and run in the same
breath: a hint that needs no arq job and no sweep. Nothing rests on it.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import (
    ConfigError,
    GemqueueError,
    ProviderError,
    Rejected,
    SealError,
    StaleFence,
    StoreUnavailable,
    Transient,
    UnreadableRecord,
    WrongState,
)
from gemqueue.ids import retry_segment_id
from gemqueue.policy.backoff import backoff_s, counted, crash_hold_s, transient_delay_s
from gemqueue.policy.holds import hold_of, why_call_failed
from gemqueue.policy.pools import belongs
from gemqueue.records import Batch, Hold, LaneState, Note
from gemqueue.states import Cause, Step
from gemqueue.store.scripts import NotReplicated, ServerError
from gemqueue.tasks import end_tasks, ending
from gemqueue_workers.stages.waits import Waits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from gemqueue.clock import Clock
    from gemqueue.config import Settings
    from gemqueue.provider import Provider
    from gemqueue.store.batches import Claim
    from gemqueue.store.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")
R = TypeVar("R", bound=Batch | LaneState)


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """What every handler works with."""

    store: Store
    provider: Provider
    settings: Settings
    clock: Clock
    pool: str = ""
    """The pool that the worker takes part in, as lanes carry it."""
    waits: Waits = msgspec.field(default_factory=Waits)

    def said(self, words: ProviderError | str) -> str:
        """What the provider said, for a log. It may quote a prompt, so of a sealed queue it is left out."""
        return str(words) if not (self.settings.seal and str(words)) else "what it said is not logged (seal = true)"

    def account_of(self, step: Step, id_: str) -> str:
        """In whose due index a step of this worker's stands: a pool's lanes are packed for the pool."""
        return self.pool if step is Step.PACK and belongs(id_, self.pool) else self.provider.account


class Lease:
    """The claim that a handler holds; ``claim`` is always the newest."""

    def __init__(self, kit: Kit, claim: Claim) -> None:
        self.claim = claim
        self._kit = kit
        self._began = claim.since
        self._numbers = itertools.count()

    @property
    def left_s(self) -> float:
        """Seconds that are left of the lease, counted from before it was asked for."""
        return self.claim.since + self._kit.settings.lease_s - self._kit.clock.monotonic()

    @property
    def now_ms(self) -> int:
        """The clock that decides, without asking it: when it gave the claim, and what has passed here since."""
        return self.claim.at_ms + int((self._kit.clock.monotonic() - self._began) * 1000)

    def next_retry_id(self) -> str:
        """The id of the next retry segment that this claim makes of its batch."""
        return retry_segment_id(self.claim.id, self.claim.fence, next(self._numbers))

    async def renew(self) -> None:
        """Renew now. Raises StaleFence when overtaken."""
        self.claim = await self._kit.store.renew(self.claim)

    async def keep(self) -> None:
        """Renew at a third of the lease until cancelled or overtaken."""
        while not ending():
            await self._kit.clock.sleep(self._kit.settings.lease_s / 3)
            try:
                await self.renew()
            except StoreUnavailable as error:
                if self.left_s <= 0:
                    raise
                log.warning("renew.failed", step=self.claim.member, left_s=round(self.left_s, 1), error=str(error))


class Handler(Protocol[R]):
    """One stage's work on one claimed step; ``record`` is what its steps are claimed on."""

    step: Step
    record: type[R]
    claim_effect: Effect
    release_effect: Effect

    async def handle(self, lease: Lease, record: R) -> Step | None:
        """Carry the step to a transition that moves it on; raise to have it put back.

        Returns the batch's next step where that is due at once.
        """
        ...


class Turn(NamedTuple):
    """What came of looking at a step: whether it was claimed, and the next one, if that is due at once."""

    claimed: bool
    then: Step | None = None


@asynccontextmanager
async def _kept(lease: Lease) -> AsyncGenerator[None]:
    owner = asyncio.current_task()
    lost: list[BaseException] = []

    def overtaken(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and owner is not None:
            lost.append(error)
            owner.cancel()

    keeper = asyncio.create_task(lease.keep())
    keeper.add_done_callback(overtaken)
    try:
        yield
    except asyncio.CancelledError:
        if lost and owner is not None and owner.uncancel() == 0:
            raise lost[0] from None
        raise
    finally:
        keeper.remove_done_callback(overtaken)
        await end_tasks([keeper])


async def run_steps(
    kit: Kit, handlers: Mapping[Step, Handler[Any]], step: Step, id_: str, may_go_on: Callable[[], bool]
) -> bool:
    """Run a step, and what it makes due at once as far as ``handlers`` go; whether any was claimed."""
    turn = await take_step(kit, handlers[step], id_)
    claimed = turn.claimed
    while turn.then is not None and turn.then in handlers and may_go_on() and not ending():
        turn = await take_step(kit, handlers[turn.then], id_)
    return claimed


async def run_step(kit: Kit, handler: Handler[R], id_: str) -> bool:
    """Claim and handle one step; False when it is not due, not there, or somebody else's."""
    return (await take_step(kit, handler, id_)).claimed


async def take_step(kit: Kit, handler: Handler[R], id_: str) -> Turn:
    """Claim and handle one step.

    Every error ends here: the step is put back, or its lease runs out. Raises nothing but CancelledError.
    """
    try:
        with effect(handler.claim_effect):
            taken = await kit.store.claim(handler.step, id_, kit.account_of(handler.step, id_))
    except UnreadableRecord as error:  # said by the sweeper, once
        kit.store.unreadable.note(error)
        return Turn(claimed=False)
    except (GemqueueError, ServerError) as error:
        log.warning("claim.failed", step=handler.step, id=id_, error=str(error))
        return Turn(claimed=False)
    if taken is None:
        return Turn(claimed=False)
    claim, record = taken
    if not isinstance(record, handler.record):
        raise TypeError(
            f"{handler.step} steps are claimed on a {handler.record.__name__}, not a {type(record).__name__}"
        )
    if isinstance(record, Batch) and (hold_s := crash_hold_s(record, kit.settings)) is not None:
        await _hold(kit, handler, claim, record, hold_s)
        return Turn(claimed=True)
    return Turn(claimed=True, then=await _handled(kit, handler, Lease(kit, claim), record))


async def _handled(kit: Kit, handler: Handler[R], lease: Lease, record: R) -> Step | None:
    member = lease.claim.member
    try:
        kit.store.seals.check(getattr(record, "v", 0))
        async with _kept(lease):
            then = await handler.handle(lease, record)
        kit.waits.step_done(handler.step)
    except StaleFence as error:
        log.warning("step.overtaken", step=member, error=str(error))
    except WrongState as error:  # what was read before is old, but the step may still be ours: looked at anew
        log.warning("step.overtaken", step=member, error=str(error))
        await _put_back(kit, handler, lease.claim, record, error)
    except (ProviderError, ConfigError, NotReplicated) as error:
        if isinstance(error, Rejected) and error.auth:
            log.error("account.refused", step=member, account=kit.provider.account, error=str(error))  # noqa: TRY400 - no defect of ours
            await _count(kit, "account_refused")
        else:
            said = kit.said(error) if isinstance(error, ProviderError) else str(error)
            log.warning("step.held", step=member, error=said)
        kit.waits.step_failed(error)
        await _put_back(kit, handler, lease.claim, record, error)
    except StoreUnavailable as error:
        log.warning("step.store_unavailable", step=member, error=str(error))
        kit.waits.step_failed(error)
    except UnreadableRecord as error:  # said by the sweeper, once
        kit.store.unreadable.note(error)
        await _put_back(kit, handler, lease.claim, record, error)
    except ServerError as error:  # it refuses a command or a right
        log.error("step.failed", step=member, error=str(error))  # noqa: TRY400 - the server says where
        await _put_back(kit, handler, lease.claim, record, error)
    except Exception as error:  # a defect must not stop the other steps
        log.exception("step.failed", step=member)
        await _put_back(kit, handler, lease.claim, record, error)
    else:
        return then
    return None


async def _hold(kit: Kit, handler: Handler[R], claim: Claim, batch: Batch, hold_s: float) -> None:
    """A batch that may be what kills the workers is left alone for a while, and everybody can see why."""
    reason = f"crashes: {batch.crashes} leases on this batch ran out (workers died); it is tried again after a pause"
    log.error("step.kills_workers", step=claim.member, crashes=batch.crashes, hold_s=round(hold_s, 1))
    try:
        with effect(handler.release_effect):
            hold = Hold(Cause.CRASHES, reason, await kit.store.server_now_ms())
            await kit.store.release(claim, hold_s, Note(crashes_held=batch.crashes), hold=hold)
    except (GemqueueError, ServerError) as failure:
        log.warning("release.failed", step=claim.member, error=str(failure))


async def _count(kit: Kit, name: str) -> None:
    try:
        await kit.store.add_count(name, 1)
    except (GemqueueError, ServerError) as failure:
        log.warning("count.failed", name=name, error=str(failure))


async def _put_back(kit: Kit, handler: Handler[R], claim: Claim, record: R, error: Exception) -> None:
    try:
        with effect(handler.release_effect):
            if claim.step is Step.RESCUE:
                await kit.store.defer(claim, {}, kit.settings.quota_backoff_s)
                return
            if isinstance(record, LaneState):
                await kit.store.rest(claim, kit.settings.quota_backoff_s)  # at once would be a busy loop
                return
            delay_s, hold = _delay_and_hold(kit, record, error)
            hold = await held_since_first(kit, record, hold)
            await kit.store.release(claim, delay_s, counted(record, error), hold=hold)
    except (GemqueueError, ServerError) as failure:
        log.warning("release.failed", step=claim.member, error=str(failure))


async def held_since_first(kit: Kit, batch: Batch, hold: Hold) -> Hold:
    """The hold with its time, if it is the batch's first; another reason, or other numbers in it, keep the first's."""
    if batch.held_reason or not hold.text:
        return hold
    return msgspec.structs.replace(hold, since_ms=await kit.store.server_now_ms())


def _delay_and_hold(kit: Kit, batch: Batch, error: Exception) -> tuple[float, Hold]:
    settings = kit.settings
    if isinstance(error, WrongState) and not batch.tries:
        return 0.0, hold_of(batch.held_cause, batch.held_reason, 0)
    if isinstance(error, Transient):
        return transient_delay_s(batch, error, settings), why_call_failed(error)
    first_s = settings.backoff_first_s if not isinstance(error, ConfigError) else settings.quota_backoff_s
    if isinstance(error, ProviderError):
        hold = why_call_failed(error)
    elif isinstance(error, UnreadableRecord):
        hold = Hold(Cause.DEFECT, f"{error}: mend it, or delete it and give its prompts up")
    elif isinstance(error, SealError):
        hold = Hold(Cause.SEAL, f"seal: {error}")
    elif isinstance(error, NotReplicated):
        hold = Hold(Cause.REPLICA, f"replica: {error}")
    elif isinstance(error, ServerError):
        hold = Hold(Cause.DEFECT, f"server: {str(error).rpartition('caused error: ')[2]}")
    else:
        hold = Hold(Cause.DEFECT, f"{type(error).__name__}: {error}")
    delay_s = backoff_s(first_s, settings.backoff_max_s, batch.tries, batch.id)
    return delay_s, msgspec.structs.replace(hold, text=hold.text[:1000])
