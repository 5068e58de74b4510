"""The sweeper: what is overdue in the due index gets an arq job, and this worker's heartbeat is kept.

arq carries the steps, the due index is the truth. A job's id holds the step and the due time that it is for, so that
any number of sweepers make one job of it, and an id is never used again. Whatever arq drops or forgets is overdue
still, and has a job again at the next sweep. A sweep runs every ``sweep_s``, when the next step that it saw is due,
after every step that did something, and when the bell rings, which the scripts do when they make a step due; so a batch
does not wait between its steps.

A server that is out of memory refuses arq's writes, and what is under way must come to its end all the same, for that
is what frees memory. Then the steps are run here, without arq; so they are where there is no arq (``own_loop``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue.policy.servers import SENTENCE_CHARS_MAX, cleaned
from gemqueue.records import Lane, Sign
from gemqueue.states import Step
from gemqueue.store.scripts import ServerError, ServerFull, translated
from gemqueue.tasks import end_tasks, ending
from gemqueue_workers.logs import installed_version
from gemqueue_workers.stages.pooling import read_room, why_left
from gemqueue_workers.stages.waits import Wait
from gemqueue_workers.worker.lookout import Lookout
from gemqueue_workers.worker.own_loop import OwnLoop
from gemqueue_workers.worker.recovery import HELD, Recovery

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from gemqueue.records import Known
    from gemqueue_workers.stages.loop import Kit
    from gemqueue_workers.worker.arq_client import ArqClient

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")

_GOODBYE_S_MAX = 0.5
_FOLLOWING = {Step.TRACK: Step.RESOLVE}
"""What a step's run goes on with by itself, where it makes that due at once."""


class Sweeper:
    """Runs in one worker process, for its roles: beside arq's worker, or without arq where ``pool`` is None."""

    def __init__(
        self,
        kit: Kit,
        pool: ArqClient | None,
        queue_name: str,
        roles: tuple[Step, ...],
        run: Callable[[Step, str], Coroutine[Any, Any, None]],
        *,
        on_jobs: Callable[[], None] | None = None,
        worker_id: str = "",
    ) -> None:
        self._kit = kit
        self._full = False
        self._here = OwnLoop(run, kit.settings.steps_max, self.wake)
        self._pool = pool
        self._queue_name = queue_name
        self._roles = roles
        self._on_jobs = on_jobs
        self._wake = asyncio.Event()
        self._worker = worker_id or secrets.token_hex(6)
        self._last_good_sweep_at = 0
        self._beat_now = asyncio.Event()
        self._works = asyncio.Event()
        self._recovery = Recovery(kit)
        self._lookout = Lookout(kit)
        self._tasks: list[asyncio.Task[None]] = []
        self._hinted: dict[str, float] = {}
        self._followed: Counter[str] = Counter()
        self._passed_over = False
        self._forgot = ""

    def start(self) -> None:
        """Begin to sweep, to listen and to beat."""
        bells = [self._listen_forever(of) for of in (self._kit.provider.account, self._kit.pool) if of]
        looks = [self._lookout.watch()] if Step.TRACK in self._roles else []
        runs = (self._sweep_forever(), *bells, self._beat_forever(), *looks)
        self._tasks = [asyncio.create_task(run) for run in runs]

    async def works(self) -> None:
        """Return once a sweep has gone well: arq would end this worker where the server refuses it."""
        await self._works.wait()

    def wake(self) -> None:
        """Sweep now."""
        self._wake.set()

    @contextmanager
    def under_way(self, step: Step, id_: str) -> Generator[None]:
        """While a step runs here, what may follow it here needs no hint of ours."""
        member = f"{_FOLLOWING.get(step, '')} {id_}"
        self._followed[member] += 1
        try:
            yield
        finally:
            self._followed[member] -= 1
            if not self._followed[member]:
                del self._followed[member]
            if self._passed_over:
                self._passed_over = False
                self.wake()

    async def drain(self) -> None:
        """Begin no further step here, and let those that run end within ``drain_s``; heartbeats go on meanwhile."""
        await self._here.drain(self._kit.settings.drain_s)

    async def stop(self) -> None:
        """Stop, let the steps that run here end within ``drain_s``, and say goodbye."""
        await end_tasks(self._tasks)
        await self._recovery.stop()
        await self.drain()
        try:
            async with asyncio.timeout(_GOODBYE_S_MAX):
                await self._kit.store.goodbye(self._worker, self._role_names)
        except (StoreUnavailable, TimeoutError) as error:
            log.info("goodbye.failed", error=str(error) or "the server does not answer in time")

    @property
    def _role_names(self) -> str:
        return "+".join(self._roles)

    async def sweep(self) -> float:
        """Have every overdue step of this worker's roles run; returns for how long nothing more is due.

        The first one tries whether the server lets arq work at all: without steps nothing else would show it.
        """
        if self._pool is not None and not self._last_good_sweep_at:
            with suppress(ServerFull):  # steps run here then
                await self._pool.try_out(self._kit.store, self._queue_name)
        due = await self._kit.store.due_steps(self._kit.provider.account, self._roles)
        self._forget_hints()
        hints: list[tuple[str, str, str]] = []
        for member, due_ms in due.overdue + await self._of_pool():
            job_id = f"{self._queue_name}:{member}:{due_ms}:{self._late(due.now_ms - due_ms)}"
            if member in self._followed:
                self._passed_over = True
            elif job_id not in self._hinted:
                step, _, id_ = member.partition(" ")
                hints.append((step, id_, job_id))
        if hints:
            await self._hint(hints)
        if due.overdue and self._on_jobs is not None:
            self._on_jobs()
        self._last_good_sweep_at = due.now_ms
        self._works.set()
        for record, why in self._kit.store.unreadable.untold().items():
            log.error("record.unreadable", record=record, why=why, but="everything else goes on")
        sweep_s = self._kit.settings.sweep_s
        return sweep_s if due.next_ms is None else min(sweep_s, due.next_ms / 1000)

    async def _of_pool(self) -> list[tuple[str, int]]:
        """The pool's lanes that are due and that this account has room to pack; the others are left to other accounts.

        Those stay due, and are looked at again at the next sweep; so do lanes that cannot be read.
        """
        if not self._kit.pool or Step.PACK not in self._roles:
            return []
        due = await self._kit.store.due_steps(self._kit.pool, (Step.PACK,))
        room = await read_room(self._kit) if due.overdue else None
        return [
            (member, due_ms)
            for member, due_ms in due.overdue
            if room is not None
            and (lane := Lane.named(member.partition(" ")[2])) is not None
            and not await why_left(self._kit, lane, room)
        ]

    async def _hint(self, hints: list[tuple[str, str, str]]) -> None:
        """Give the steps their jobs, or run them here while the server refuses arq's writes, and without arq."""
        if self._pool is None or not await self._enqueued(self._pool, hints):
            hints = [(step, id_, job_id) for step, id_, job_id in hints if self._here.begin(Step(step), id_)]
        at = self._kit.clock.monotonic()
        self._hinted |= {job_id: at for *_, job_id in hints}

    async def _enqueued(self, pool: ArqClient, hints: list[tuple[str, str, str]]) -> bool:
        try:
            with translated(self._kit.store.url):
                await pool.enqueue_steps(hints, self._queue_name)
        except ServerFull:
            if not self._full:
                log.warning("server.full", queue=self._queue_name)
            self._full = True
        else:
            self._full = False
        return not self._full

    def _forget_hints(self) -> None:
        """A step that waits for a free slot has its job, and one that nobody may claim is left alone for a while.

        After ``sweep_s`` it is tried again: arq may lose jobs.
        """
        since = self._kit.clock.monotonic() - self._kit.settings.sweep_s
        self._hinted = {job_id: at for job_id, at in self._hinted.items() if at > since}

    def _late(self, overdue_ms: int) -> int:
        """For how many leases a step has been overdue: a job whose worker died before its claim blocks its id."""
        return max(0, overdue_ms) // int(self._kit.settings.lease_s * 1000)

    async def _sweep_forever(self) -> None:
        while not ending():
            self._wake.clear()
            pause_s = self._kit.settings.sweep_s
            try:
                is_first = not self._last_good_sweep_at
                pause_s = await self.sweep()
                if self._kit.waits.end(Wait.SWEEP) or is_first:
                    self._beat_now.set()
            except (GemqueueError, ServerError, OSError) as error:
                why = cleaned(str(error), SENTENCE_CHARS_MAX)
                log.warning("sweep.failed", error=why)
                self._wait_for(f"server: {why}")
            except Exception as error:  # without sweeps this worker would live on and do nothing
                log.exception("sweep.failed")
                self._wait_for(f"defect: {type(error).__name__}, the log says more")
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    def _wait_for(self, why: str) -> None:
        """Sweeps fail: who waits for answers learns of it at once."""
        if self._kit.waits.begin(Wait.SWEEP, why):
            self._beat_now.set()

    async def _listen_forever(self, account: str) -> None:
        """Sweep when the bell rings; without it (an ACL may refuse it) steps wait for the next sweep."""
        while not ending():
            try:
                async with self._kit.store.bell(account) as rang:
                    while not ending():
                        if await rang():
                            self.wake()
            except (GemqueueError, ServerError, OSError) as error:
                log.debug("bell.failed", error=str(error))
            await asyncio.sleep(self._kit.settings.heartbeat_s)

    async def _tick(self) -> None:
        """A clock that goes back would hold everything that is due later, and nothing would say why."""
        for account in filter(None, (self._kit.provider.account, self._kit.pool)):
            back_s = await self._kit.store.tick(account)
            if back_s:
                log.warning("server.clock_back", account=account, back_s=round(back_s))

    async def _beat_forever(self) -> None:
        while not ending():
            self._beat_now.clear()
            try:
                if self._kit.pool:
                    await self._kit.store.join_pool(self._kit.pool, self._kit.provider.account)
                await self._tick()
                await self._beat()
            except (GemqueueError, ServerError, OSError) as error:
                log.warning("heartbeat.failed", error=cleaned(str(error), SENTENCE_CHARS_MAX))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._beat_now.wait(), self._kit.settings.heartbeat_s)

    async def _beat(self) -> None:
        account, waits = self._kit.provider.account, self._kit.waits
        sign = Sign(
            accounts=(account, self._kit.pool) if self._kit.pool else (account,),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=installed_version(),
            last_good_sweep_at=self._last_good_sweep_at,
            waiting_for=waits.text,
        )
        held = await self._kit.store.beat(self._worker, self._role_names, account, sign)
        known = self._kit.store.known(account)
        self._say(known)
        if held:
            self._recovery.begin()
        if held or known.forgot:
            waits.begin(Wait.PAUSE, known.forgot or HELD)
        else:
            waits.end(Wait.PAUSE)

    def _say(self, known: Known) -> None:
        """Say once that the server has forgotten the queue, and once that it goes on under another home."""
        if known.forgot != self._forgot:
            self._forgot = known.forgot
            if known.forgot:
                log.error("server.forgot", account=self._kit.provider.account, home=known.home, reason=known.forgot)
        if known.was:
            log.warning("server.rehomed", account=self._kit.provider.account, home=known.home, was=known.was)
            known.was = ""
