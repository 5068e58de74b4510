"""``gemqueue work``: an arq worker that is started again when Redis comes back.

An arq worker ends when its server restarts, and drops nothing that matters: the truth is in the due index. This loop
starts it anew, with growing pauses, until it is told to stop by SIGTERM or SIGINT, and then lets running steps end
first.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from arq.constants import in_progress_key_prefix
from arq.worker import Worker

from gemqueue.accounts import api_key_from_env
from gemqueue.config import data_dir, load_settings
from gemqueue.embedded.server import acquire
from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.store.scripts import ServerError
from gemqueue.store.store import Store
from gemqueue_workers.settings import make_provider, stop, worker_options
from gemqueue_workers.worker.memory import give_back_large_buffers

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.states import Step

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")

_PAUSE_FIRST_S = 0.2
_PAUSE_MAX_S = 10.0
_POLL_GAP_S = 0.005


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


async def start(roles: tuple[Step, ...], *, emulate: bool | None) -> None:
    """Run the roles, as ``work`` does, on the server of the settings or the embedded one.

    Raises ConfigError when the settings cannot work at all, before any server is asked.
    """
    settings = load_settings(emulate=emulate)
    await make_provider(settings, api_key_from_env()).aclose()
    if settings.redis_url:
        await work(settings, roles)
        return
    server = await acquire(data_dir(settings))
    try:
        await work(msgspec.structs.replace(settings, redis_url=server.url), roles)
    finally:
        await server.release()


async def work(settings: Settings, roles: tuple[Step, ...]) -> None:
    """Run the roles until SIGTERM or SIGINT. Raises ConfigError when the settings cannot work at all."""
    give_back_large_buffers()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    pause_s = _PAUSE_FIRST_S
    current: list[Worker] = []

    def end(signum: signal.Signals) -> None:
        stopping.set()
        for worker in current:
            worker.handle_sig_wait_for_completion(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, end, signum)
    while not stopping.is_set():
        started = loop.time()
        worker = PromptWorker(
            settings.sweep_s, 2 * settings.lease_s, handle_signals=False, **worker_options(settings, roles)
        )
        current[:] = [worker]
        try:
            await _reach(settings)
            await run_once(worker)
        except (ServerError, StoreUnavailable, OSError) as error:
            if stopping.is_set():
                break
            pause_s = _PAUSE_FIRST_S if loop.time() - started > 30 else min(pause_s * 2, _PAUSE_MAX_S)
            log.warning("worker.restarts", error=f"{type(error).__name__}: {error}", pause_s=pause_s)
            try:
                await asyncio.wait_for(stopping.wait(), pause_s)
            except TimeoutError:
                continue


async def _reach(settings: Settings) -> None:
    """Raise StoreUnavailable within seconds, in words: arq's own connection would try for a minute and say less."""
    store = Store(settings.redis_url, settings)
    try:
        with suppress(ConfigError):  # a login may be refused for a while only
            await store.ping()
    finally:
        await store.aclose()


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
        await stop(worker.ctx)
        try:
            await worker.close()
        except (ServerError, OSError) as error:
            log.info("worker.close_failed", error=f"{type(error).__name__}: {error}")
