"""arq's worker as this project runs it: it starts jobs together, looks when a sweep has made some, and ends cleanly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from arq.constants import in_progress_key_prefix
from arq.worker import Worker

from gemqueue.store.scripts import ServerError
from gemqueue.tasks import check_ending

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")

_POLL_GAP_S = 0.005
_CLOSE_S_MAX = 0.5


class PromptWorker(Worker):
    """An arq worker that looks for jobs when its sweeper has made some, else every ``poll_s`` and not all the time.

    For ``taken_s`` no other worker starts a job that this one has started. arq's own six hours would let the jobs of
    workers that were killed stand before all others; one that runs longer and is started again finds nothing to claim.
    """

    def __init__(self, poll_s: float, taken_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._taken_ms = int(taken_s * 1000)
        self.poll_delay_s = _POLL_GAP_S
        self._poll_s = poll_s
        self._jobs = asyncio.Event()
        self.ctx["on_jobs"] = self._jobs.set
        self.ctx["may_go_on"] = lambda: self.allow_pick_jobs

    async def _poll_iteration(self) -> None:
        check_ending()  # or this worker would go on after SIGTERM
        self._jobs.clear()
        await super()._poll_iteration()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._jobs.wait(), self._poll_s)

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """As arq's, in one round trip for all of them, where arq takes four for each, and for those that run, too."""
        waiting = [job_id for job_id in map(bytes.decode, job_ids) if not self._runs_here(job_id)]
        while waiting and (free := self.max_jobs - self.job_counter) > 0:
            await self._start_those_free(waiting[:free])  # the others run elsewhere
            del waiting[:free]

    async def _start_those_free(self, job_ids: list[str]) -> None:
        pipe = self.pool.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.set(in_progress_key_prefix + job_id, b"1", px=self._taken_ms, nx=True)
            pipe.zscore(self.queue_name, job_id)
        found = await pipe.execute(raise_on_error=False)  # a full server refuses; then the sweeper runs the steps
        for job_id, taken, score in zip(job_ids, found[::2], found[1::2], strict=True):
            if taken is True and score:
                await self._start(job_id, int(score))
            elif taken is True:  # it has ended since it was listed
                await self.pool.delete(in_progress_key_prefix + job_id)

    def _runs_here(self, job_id: str) -> bool:
        task = self.tasks.get(job_id)
        return task is not None and not task.done()

    async def _start(self, job_id: str, score: int) -> None:
        await self.sem.acquire()
        self.job_counter += 1
        task = self.tasks[job_id] = self.loop.create_task(self.run_job(job_id, score))
        task.add_done_callback(lambda _: self._release_sem_dec_counter_on_complete())


async def run_once(worker: Worker) -> None:
    """Run an arq worker until a signal ends it; raises ServerError, StoreUnavailable or OSError for its server."""
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        return  # arq's way of ending after a signal
    finally:
        for task in worker.tasks.values():
            task.cancel()
        await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        worker.tasks.clear()  # arq awaits them once more, and a job that was cancelled would end this process, too
        if worker.on_shutdown is not None:
            await worker.on_shutdown(worker.ctx)
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                await worker.close()
        except (ServerError, OSError, TimeoutError) as error:  # arq's mark in the server goes by its TTL
            log.info("worker.close_failed", error=f"{type(error).__name__}: {error}")
            pool: Any = worker.pool.connection_pool
            await pool.disconnect()
