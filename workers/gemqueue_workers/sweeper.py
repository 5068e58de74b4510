"""The sweeper: what is overdue in the due index gets an arq job, and this worker's heartbeat is kept.

arq carries the steps, the due index is the truth. A job's id holds the step and the due time that it is for, so that
any number of sweepers make one job of it, and an id is never used again. Whatever arq drops or forgets is overdue
still, and has a job again at the next sweep. A sweep runs every ``sweep_s``, when the next step that it saw is due,
after every step that did something, and when the bell rings, which the scripts do when they make a step due; so a batch
does not wait between its steps.

A server that is out of memory refuses arq's writes, and what is under way must come to its end all the same, for that
is what frees memory. Then the steps are run here, without arq.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue.states import Step
from gemqueue.tasks import end_tasks, ending
from gemqueue_workers.aftermath import Aftermath
from gemqueue_workers.pooling import look_at_room, why_left

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from arq.connections import ArqRedis

    from gemqueue_workers.stage import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")


class Sweeper:
    """Runs beside the arq worker of one process, for the process's roles."""

    def __init__(
        self,
        kit: Kit,
        pool: ArqRedis,
        queue_name: str,
        roles: tuple[Step, ...],
        run: Callable[[Step, str], Coroutine[Any, Any, None]],
        *,
        on_jobs: Callable[[], None] | None = None,
    ) -> None:
        self._kit = kit
        self._run = run
        self._full = False
        self._here: set[asyncio.Task[None]] = set()
        self._pool = pool
        self._queue_name = queue_name
        self._roles = roles
        self._on_jobs = on_jobs
        self._wake = asyncio.Event()
        self._worker = secrets.token_hex(6)
        self._aftermath = Aftermath(kit)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to sweep, to listen and to beat."""
        bells = [self._listen_forever(of) for of in (self._kit.provider.account, self._kit.pool) if of]
        runs = (self._sweep_forever(), *bells, self._beat_forever())
        self._tasks = [asyncio.create_task(run) for run in runs]

    def wake(self) -> None:
        """Sweep now."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop, let the steps that run here end within ``drain_s``, and say goodbye."""
        await end_tasks(self._tasks)
        await self._aftermath.stop()
        if self._here:
            await asyncio.wait(self._here, timeout=self._kit.settings.drain_s)
            await end_tasks(self._here)
        try:
            await self._kit.store.goodbye(self._worker, self._role_names)
        except StoreUnavailable as error:
            log.info("goodbye.failed", error=str(error))

    @property
    def _role_names(self) -> str:
        return "+".join(self._roles)

    async def sweep(self) -> float:
        """Give every overdue step of this worker's roles an arq job; returns for how long nothing more is due."""
        due = await self._kit.store.look_at_due(self._kit.provider.account, self._roles)
        for member, due_ms in due.overdue + await self._of_pool():
            step, _, id_ = member.partition(" ")
            job_id = f"{self._queue_name}:{member}:{due_ms}:{self._late(due.now_ms - due_ms)}"
            if not await self._enqueued(step, id_, job_id):
                self._run_here(Step(step), id_)
        if due.overdue and self._on_jobs is not None:
            self._on_jobs()
        sweep_s = self._kit.settings.sweep_s
        return sweep_s if due.next_ms is None else min(sweep_s, due.next_ms / 1000)

    async def _of_pool(self) -> list[tuple[str, int]]:
        """The pool's lanes that are due and that this account has room to pack; the others are left to other accounts.

        Those stay due, and are looked at again at the next sweep.
        """
        if not self._kit.pool or Step.PACK not in self._roles:
            return []
        due = await self._kit.store.look_at_due(self._kit.pool, (Step.PACK,))
        room = await look_at_room(self._kit) if due.overdue else None
        return [
            (member, due_ms)
            for member, due_ms in due.overdue
            if room is not None and not await why_left(self._kit, member.partition(" ")[2], room)
        ]

    async def _enqueued(self, step: str, id_: str, job_id: str) -> bool:
        """Whether arq has the job; one that it had before is believed only while the server takes arq's writes."""
        try:
            job = await self._pool.enqueue_job(step, id_, _job_id=job_id, _queue_name=self._queue_name)
        except OutOfMemoryError:
            if not self._full:
                log.warning("server.full", queue=self._queue_name)
            self._full = True
            return False
        if job is not None:
            self._full = False
        return not self._full

    def _run_here(self, step: Step, id_: str) -> None:
        if len(self._here) < self._kit.settings.steps_max:
            task = asyncio.create_task(self._run(step, id_))
            self._here.add(task)
            task.add_done_callback(self._here.discard)

    def _late(self, overdue_ms: int) -> int:
        """For how many leases a step has been overdue: a job whose worker died before its claim blocks its id."""
        return max(0, overdue_ms) // int(self._kit.settings.lease_s * 1000)

    async def _sweep_forever(self) -> None:
        while not ending():
            self._wake.clear()
            pause_s = self._kit.settings.sweep_s
            try:
                pause_s = await self.sweep()
            except (GemqueueError, RedisError, OSError) as error:
                log.warning("sweep.failed", error=str(error))
            except Exception:  # without sweeps this worker would live on and do nothing
                log.exception("sweep.failed")
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    async def _listen_forever(self, account: str) -> None:
        """Sweep when the bell rings; without it (an ACL may refuse it) steps wait for the next sweep."""
        while not ending():
            try:
                async with self._kit.store.bell(account) as rang:
                    while not ending():
                        if await rang():
                            self.wake()
            except (GemqueueError, RedisError, OSError) as error:
                log.debug("bell.failed", error=str(error))
            await asyncio.sleep(self._kit.settings.heartbeat_s)

    async def _beat_forever(self) -> None:
        while not ending():
            try:
                if self._kit.pool:
                    await self._kit.store.join_pool(self._kit.pool, self._kit.provider.account)
                if await self._kit.store.beat(self._worker, self._role_names, self._kit.provider.account):
                    self._aftermath.begin()
            except (GemqueueError, RedisError, OSError) as error:
                log.warning("heartbeat.failed", error=str(error))
            await asyncio.sleep(self._kit.settings.heartbeat_s)
