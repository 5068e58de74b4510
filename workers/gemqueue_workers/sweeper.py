"""The sweeper: what is overdue in the due index gets an arq job, and this worker's heartbeat is kept.

arq carries the steps, the due index is the truth. A job's id holds the step and the due time that it is for, so that
any number of sweepers make one job of it, and an id is never used again. Whatever arq drops or forgets is overdue
still, and has a job again at the next sweep. After every step that did something the sweep runs at once, so a batch
does not wait for it between its steps.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue.tasks import end_tasks, ending

if TYPE_CHECKING:
    from arq.connections import ArqRedis

    from gemqueue.states import Step
    from gemqueue_workers.stage import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")


class Sweeper:
    """Runs beside the arq worker of one process, for the process's roles."""

    def __init__(self, kit: Kit, pool: ArqRedis, queue_name: str, roles: tuple[Step, ...]) -> None:
        self._kit = kit
        self._pool = pool
        self._queue_name = queue_name
        self._roles = roles
        self._wake = asyncio.Event()
        self._worker = secrets.token_hex(6)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to sweep and to beat."""
        self._tasks = [asyncio.create_task(self._sweep_forever()), asyncio.create_task(self._beat_forever())]

    def wake(self) -> None:
        """Sweep now."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop, and say goodbye."""
        await end_tasks(self._tasks)
        try:
            await self._kit.store.goodbye(self._worker, self._role_names)
        except StoreUnavailable as error:
            log.info("goodbye.failed", error=str(error))

    @property
    def _role_names(self) -> str:
        return "+".join(self._roles)

    async def sweep(self) -> int:
        """Give every overdue step of this worker's roles an arq job; returns how many were overdue."""
        overdue = await self._kit.store.overdue(self._kit.provider.account, self._roles)
        now_ms = await self._kit.store.server_now_ms() if overdue else 0
        for member, due_ms in overdue:
            step, _, id_ = member.partition(" ")
            job_id = f"{self._queue_name}:{member}:{due_ms}:{self._late(now_ms - due_ms)}"
            await self._pool.enqueue_job(step, id_, _job_id=job_id, _queue_name=self._queue_name)
        return len(overdue)

    def _late(self, overdue_ms: int) -> int:
        """For how many leases a step has been overdue: a job whose worker died before its claim blocks its id."""
        return max(0, overdue_ms) // int(self._kit.settings.lease_s * 1000)

    async def _sweep_forever(self) -> None:
        while not ending():
            self._wake.clear()
            try:
                await self.sweep()
            except (GemqueueError, RedisError, OSError) as error:
                log.warning("sweep.failed", error=str(error))
            try:
                await asyncio.wait_for(self._wake.wait(), self._kit.settings.sweep_s)
            except TimeoutError:
                continue

    async def _beat_forever(self) -> None:
        while not ending():
            try:
                await self._kit.store.heartbeat(self._worker, self._role_names)
            except (GemqueueError, RedisError, OSError) as error:
                log.warning("heartbeat.failed", error=str(error))
            await asyncio.sleep(self._kit.settings.heartbeat_s)
