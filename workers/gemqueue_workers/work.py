"""``gemqueue work``: a worker that is started again when Redis comes back.

arq runs its steps; beside the embedded server and on a Cluster, where arq cannot run, our own loop does. An arq worker
ends when its server restarts, and drops nothing that matters: the truth is in the due index. It is started anew, with
growing pauses, until SIGTERM, SIGINT or SIGHUP says to stop, and then running steps end first.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from gemqueue.accounts import api_key_from_env
from gemqueue.config import data_dir, load_settings
from gemqueue.embedded.server import acquire
from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.store.scripts import ServerError
from gemqueue.store.store import Store
from gemqueue.tasks import end_tasks, ending_signals
from gemqueue.urls import names_cluster
from gemqueue_workers.logs import identify, set_up_logs
from gemqueue_workers.settings import begin, make_provider, stop, worker_options
from gemqueue_workers.worker.memory import give_back_large_buffers

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.states import Step

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")

_PAUSE_FIRST_S = 0.2
_PAUSE_MAX_S = 10.0


async def start(
    roles: tuple[Step, ...], *, emulate: bool | None, log_json: bool, verbose: bool, companion: bool = False
) -> None:
    """Run the roles, as ``work`` does, on the server of the settings or the embedded one.

    Raises ConfigError when the settings cannot work at all, before any server is asked.
    """
    settings = load_settings(emulate=emulate)
    set_up_logs(json=log_json or settings.log_json, verbose=verbose)
    await make_provider(settings, api_key_from_env()).aclose()
    if settings.redis_url:
        await work(settings, roles, companion=companion)
        return
    server = await acquire(data_dir(settings))
    try:
        await work(msgspec.structs.replace(settings, redis_url=server.url), roles)
    finally:
        await server.release()


async def work(settings: Settings, roles: tuple[Step, ...], *, companion: bool = False) -> None:
    """Run the roles until SIGTERM, SIGINT or SIGHUP; a ``companion`` of the embedded server does without arq.

    So does a worker on a Cluster. Raises ConfigError when the settings cannot work at all.
    """
    give_back_large_buffers()
    worker_id = secrets.token_hex(6)
    identify(worker_id)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    pause_s = _PAUSE_FIRST_S

    def end(signum: signal.Signals) -> None:
        log.info("worker.stops", signal=signum.name, drain_s=settings.drain_s)
        stopping.set()

    for signum in ending_signals():
        loop.add_signal_handler(signum, end, signum)
    run = _by_own_loop if companion or names_cluster(settings.redis_url) else _by_arq
    while not stopping.is_set():
        started = loop.time()
        try:
            await run(settings, roles, stopping, worker_id)
        except (ServerError, StoreUnavailable, OSError) as error:
            if stopping.is_set():
                break
            pause_s = _PAUSE_FIRST_S if loop.time() - started > 30 else min(pause_s * 2, _PAUSE_MAX_S)
            log.warning("worker.restarts", error=f"{type(error).__name__}: {error}", pause_s=pause_s)
            try:
                await asyncio.wait_for(stopping.wait(), pause_s)
            except TimeoutError:
                continue


async def _by_arq(settings: Settings, roles: tuple[Step, ...], stopping: asyncio.Event, worker_id: str) -> None:
    options = worker_options(settings, roles, worker_id)
    from gemqueue_workers.worker.arq_worker import PromptWorker, run_once  # noqa: PLC0415 - our own loop needs no arq

    worker = PromptWorker(settings.sweep_s, 2 * settings.lease_s, handle_signals=False, **options)

    async def end() -> None:
        await stopping.wait()
        worker.handle_sig_wait_for_completion(signal.SIGTERM)

    if not await _reached(settings, stopping):
        return
    ending = asyncio.create_task(end())
    try:
        await run_once(worker)
    finally:
        await end_tasks([ending])


async def _by_own_loop(settings: Settings, roles: tuple[Step, ...], stopping: asyncio.Event, worker_id: str) -> None:
    """Without arq nothing ends a worker when its server restarts: its sweeps fail until they succeed again."""
    worker: dict[str, Any] = {"may_go_on": lambda: not stopping.is_set()}
    if not await _reached(settings, stopping):
        return
    try:
        await begin(worker, settings=settings, roles=roles, worker_id=worker_id)
        await stopping.wait()
        await worker["sweeper"].drain()
    finally:
        await stop(worker)


async def _reached(settings: Settings, stopping: asyncio.Event) -> bool:
    """Whether the server answers; False when it is time to stop. Raises StoreUnavailable."""
    tasks = [asyncio.create_task(_reach(settings)), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            return False
        await tasks[0]
    finally:
        await end_tasks(tasks)
    return True


async def _reach(settings: Settings) -> None:
    """Raise StoreUnavailable within seconds, in words: arq's own connection would try for a minute and say less."""
    store = Store(settings.redis_url, settings, role="work")
    try:
        with suppress(ConfigError):  # a login may be refused for a while only
            await store.ping()
    finally:
        await store.aclose()
