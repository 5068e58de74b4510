"""After a change of the server, packing and submitting wait until the provider's jobs have been compared.

The scripts notice the change and hold what could buy twice (``gemqueue/store/lua/_server.lua``, ``changed``). A
worker learns of it from its heartbeat and compares, one worker at a time. Creates that were in flight when the server
went may take effect, and show in the provider's list, for another ``settle_s``, so the comparison waits until then,
counted from when the change was noticed; a look a minute before that must agree with it. It lifts the pause when no
question is left open; a job whose record is lost and that still runs is such a question, and keeps it until it ends,
or until a person decides otherwise (``gemqueue admin reconcile``). A worker that dies in between leaves the pause
where it is, and the next one goes on.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import GemqueueError
from gemqueue.policy import beliefs
from gemqueue.policy.reconciling import Standing
from gemqueue.policy.tracking import poll_delay_s
from gemqueue.policy.unknown import KEEP_S
from gemqueue.store.scripts import ServerError
from gemqueue.tasks import end_tasks, ending
from gemqueue_workers.worker.reconciler import Reconciler

if TYPE_CHECKING:
    from gemqueue.store.operations import Server
    from gemqueue_workers.stages.loop import Kit
    from gemqueue_workers.worker.reconciler import Survey

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.reconcile")

HELD = "reconciling after a server restart"
LOOK_BACK_S = KEEP_S


class Recovery:
    """One worker's part in it; ``on_resumed`` is called when packing and submitting may go on."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._account = kit.provider.account
        self._holder = secrets.token_hex(6)
        self._task: asyncio.Task[None] | None = None
        self._gap_s = min(beliefs.unit_s(kit.settings), kit.settings.settle_s)
        self._pause_s = 0.0
        self._clean: tuple[object, int] = (None, 0)

    def begin(self) -> None:
        """The heartbeat has said that packing and submitting are held; asking again changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="gemqueue-recovery")

    async def stop(self) -> None:
        """Leave it to the next worker."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _run(self) -> None:
        checks = 0
        while not ending():
            try:
                if not await self.check():
                    return
            except (GemqueueError, ServerError, OSError) as error:
                log.warning("reconcile.failed", error=str(error))
            await self._kit.clock.sleep(max(poll_delay_s(checks, self._kit.settings), self._pause_s))
            checks += 1

    async def check(self) -> bool:
        """Compare once, if it is time and nobody else does; whether the pause goes on."""
        home, held = await self._kit.store.greet(self._account)
        if not held:
            return False
        server = await self._kit.store.server(self._account)
        before_s = await self._left_s(server) - self._gap_s
        if before_s > 0:
            await self._kit.clock.sleep(before_s)
        if not await self._kit.store.take_reconciling(self._account, self._holder, self._kit.settings.lease_s):
            return True
        try:
            survey = await Reconciler(self._kit, home, apply=True).survey(since_ms(server, self._kit))
            if survey.open_questions():
                self._clean = None, 0
            elif not await self._agreed(server):
                return True
            return not await resume(self._kit, server, survey)
        finally:
            await self._kit.store.leave_reconciling(self._account)

    async def _left_s(self, server: Server) -> float:
        return self._kit.settings.settle_s - (await self._kit.store.server_now_ms() - server.noticed_at) / 1000

    async def _agreed(self, server: Server) -> bool:
        """Whether this look, without an open question, is the last of two that lie apart: a list may lack what is."""
        now_ms, left_s = await self._kit.store.server_now_ms(), await self._left_s(server)
        change, first_ms = self._clean
        if change != server.noticed:
            self._clean = server.noticed, now_ms
            self._pause_s = max(self._gap_s, left_s)
            return False
        self._pause_s = max(left_s, self._gap_s - (now_ms - first_ms) / 1000)
        return self._pause_s <= 0


def since_ms(server: Server, kit: Kit) -> int:
    """How far back jobs are looked at: what a server kept is the beginning of what it was told, so until then."""
    if not server.seen_at:
        return max(0, server.noticed_at - LOOK_BACK_S * 1000)
    return server.seen_at - int((kit.settings.skew_s + kit.settings.create_timeout_s) * 1000)


async def resume(kit: Kit, server: Server, survey: Survey) -> bool:
    """Lift the pause, or say why it goes on; whether it is lifted."""
    reason = _reason(survey)
    with effect(Effect.RECONCILE_RESUME):
        on_this_server = await kit.store.resume(kit.provider.account, server.noticed, reason=reason)
    if reason or not on_this_server:
        log.warning("server.held", reason=reason or "the server has changed again")
        return False
    log.warning("server.resumed", jobs=len(survey.findings), adopted=sum(bool(f.done) for f in survey.findings))
    return True


def _reason(survey: Survey) -> str:
    open_ = survey.open_questions()
    if not open_:
        return ""
    first = open_[0]
    what = "its record is lost and it still runs" if first.standing is Standing.RUNNING else first.done
    return f"{HELD}: {first.job}: {what} ({len(open_)} such jobs; `gemqueue admin reconcile` says more)"
