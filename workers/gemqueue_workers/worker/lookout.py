"""Once in a while the account's newest jobs are looked at, and compared with the records where one is unknown.

A lookout's life: every minute it asks the store whether a look is due. While batches are open one is, every ten minutes
for all workers of the account together; the shared pages of a busy account count as looks. A job of ours that no record
knows is compared at once, and again when its state changes: a batch that waits for it adopts it, one whose record is
lost is rebuilt from the results. Nothing is held meanwhile, and nothing is cancelled. What is noted stands in the
store, so a worker that dies in between leaves it to the next one.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import structlog

from gemqueue.errors import GemqueueError, ProviderError
from gemqueue.policy.job_names import older_homes
from gemqueue.policy.reconciling import Standing
from gemqueue.policy.unknown import KEEP_S, again_s, look_every_s
from gemqueue.store.scripts import ServerError
from gemqueue.tasks import ending
from gemqueue_workers.stages.shared_polls import UnknownJobs
from gemqueue_workers.worker.reconciler import BUSY, Reconciler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.policy.unknown import Unknown
    from gemqueue.provider import JobStatus
    from gemqueue_workers.stages.loop import Kit
    from gemqueue_workers.worker.reconciler import Survey

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.unknown")

_POLLS_MAX: Final = 10


class Lookout:
    """One worker's part in it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._account = kit.provider.account
        self._holder = secrets.token_hex(6)
        self._unknown = UnknownJobs(kit)
        self._first_s = kit.clock.monotonic() + look_every_s(kit.settings)

    async def watch(self) -> None:
        """Take turns until cancelled."""
        await self._guarded(self.look_back)
        while not ending():
            await self._kit.clock.sleep(again_s(self._kit.settings))
            await self._guarded(self.turn)

    async def _guarded(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except (GemqueueError, ServerError, OSError) as error:
            log.warning("look.failed", error=str(error))
        except Exception:  # the worker's other tasks go on
            log.exception("look.failed")

    async def look_back(self) -> None:
        """Once in a home's life: does the account have jobs of another one from before? This one may have lost it.

        Raises ProviderError, StoreUnavailable.
        """
        server = await self._kit.store.server(self._account)
        if server.older_homes is not None or not server.began_at or self._account.startswith("emulated."):
            return
        homes = older_homes(await self._kit.provider.newest(), server.home, server.began_at)
        await self._kit.store.note_older(self._account, homes)
        for home in homes:
            log.warning("home.older", account=self._account, home=home, say=f"gemqueue admin reconcile --home {home}")

    async def turn(self) -> None:
        """Look, if it is time, and compare, if there is a reason. Raises ProviderError, StoreUnavailable."""
        noted = await self._kit.store.unknown_jobs(self._account)
        if await self._is_time(noted):
            page = await self._kit.provider.newest()
            await self._unknown.look([*page, *await self._polled(noted, {job.job for job in page})])
            noted = await self._kit.store.unknown_jobs(self._account)
        if any(one.is_new for one in noted):
            await self._compare(noted)

    async def _is_time(self, noted: list[Unknown]) -> bool:
        """A worker that has just begun waits for its first turn, so that short runs list nothing."""
        if not noted and (self._kit.clock.monotonic() < self._first_s or not await self._kit.store.open_count()):
            return False
        now_ms = await self._kit.store.server_now_ms()
        return await self._kit.store.take_look(self._account, look_every_s(self._kit.settings, noted), now_ms)

    async def _polled(self, noted: list[Unknown], listed: set[str]) -> list[JobStatus]:
        """Noted jobs that run and are not among the newest any more, by name."""
        found: list[JobStatus] = []
        for one in [one for one in noted if one.job not in listed and one.state == "running"][:_POLLS_MAX]:
            try:
                found.append(await self._kit.provider.poll(one.job))
            except ProviderError as error:
                log.info("job.not_seen", job=one.job, error=str(error))
        return found

    async def _compare(self, noted: list[Unknown]) -> None:
        """One worker at a time; while the account waits after a change of the server, its recovery compares."""
        store = self._kit.store
        server = await store.server(self._account)
        if server.noticed or not await store.take_reconciling(self._account, self._holder, self._kit.settings.lease_s):
            return
        try:
            survey = await Reconciler(self._kit, server.home, apply=True).survey(await self._since_ms(noted))
            await store.clear_unknown(self._account, compared(noted, survey))
            log.warning("unknown.compared", noted=len(noted), jobs=len(survey.findings))
        finally:
            await store.leave_reconciling(self._account)

    async def _since_ms(self, noted: list[Unknown]) -> int:
        now_ms = await self._kit.store.server_now_ms()
        oldest_ms = min(one.created_at or now_ms - KEEP_S * 1000 for one in noted)
        return max(0, oldest_ms - int(self._kit.settings.skew_s * 1000))


def compared(noted: list[Unknown], survey: Survey) -> dict[str, str]:
    """What is kept of each job that was noted: nothing where it is known now, or over, else its state.

    One whose batch was held by somebody is compared again, until it is counted.
    """
    found = {finding.job: finding for finding in survey.findings}
    kept: dict[str, str] = {}
    for one in noted:
        finding = found.get(one.job)
        if finding is not None and finding.standing in {Standing.KNOWN, Standing.OVER, Standing.TWICE}:
            kept[one.job] = ""
        elif finding is None or finding.done != BUSY or one.counted:
            kept[one.job] = one.state
    return kept
