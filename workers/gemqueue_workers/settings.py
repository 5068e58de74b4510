"""The composition root: settings and key become a kit, a kit becomes a worker, which arq runs or our own loop.

``arq gemqueue_workers.settings.TrackSettings`` runs a tracker, and so for PackSettings, SubmitSettings,
ResolveSettings, RescueSettings and AllSettings; the classes are made when they are asked for, from the environment.
Each account and combination of roles has an arq queue of its own, because an arq worker drops jobs that it does not
know, and cannot claim another account's steps.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from gemqueue.accounts import account_id, api_key_from_env, pool_id
from gemqueue.clock import clock_from_env
from gemqueue.config import DEFAULT_BASE_URL, Settings, load_settings
from gemqueue.connections.links import client_name
from gemqueue.errors import ConfigError, SealError
from gemqueue.extras import need
from gemqueue.states import Step
from gemqueue.store.scripts import ServerError
from gemqueue.store.store import Store
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.logs import identify, set_up_under_arq
from gemqueue_workers.stages.loop import Handler, Kit, run_steps
from gemqueue_workers.stages.packer import Packer
from gemqueue_workers.stages.rescuer import Rescuer
from gemqueue_workers.stages.resolver import Resolver
from gemqueue_workers.stages.submitter import Submitter
from gemqueue_workers.stages.tracker import Tracker
from gemqueue_workers.worker.sweeper import Sweeper

if TYPE_CHECKING:
    from arq.worker import Function

    from gemqueue.provider import Provider
    from gemqueue.records import Known

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.workers")

ROLES: tuple[Step, ...] = tuple(Step)
_HANDLERS: dict[Step, type[Packer | Submitter | Tracker | Resolver | Rescuer]] = {
    Step.PACK: Packer,
    Step.SUBMIT: Submitter,
    Step.TRACK: Tracker,
    Step.RESOLVE: Resolver,
    Step.RESCUE: Rescuer,
}
CLOSE_S_MAX = 0.5
"""How long saying goodbye to a server may take, which may be away."""
_warned: set[str] = set()
"""The accounts of whose keys this process has warned: a worker is started again with each change of the server."""
_memory: dict[tuple[str, str], dict[str, Known]] = {}
"""What this process remembers of each server and queue: its workers come and go with the server."""
_STEP_S_MAX = 6 * 3600
"""arq drops a job for good at its timeout; the lease, not arq, finds a step that hangs."""
_CLASSES: dict[str, tuple[Step, ...]] = {
    "PackSettings": (Step.PACK,),
    "SubmitSettings": (Step.SUBMIT,),
    "TrackSettings": (Step.TRACK,),
    "ResolveSettings": (Step.RESOLVE,),
    "RescueSettings": (Step.RESCUE,),
    "AllSettings": ROLES,
}


def provider_key(settings: Settings, api_key: str) -> str:
    """The key that the provider is shown. Raises ConfigError where it or an emulator's address is missing."""
    if settings.emulate:
        if not settings.base_url:
            raise ConfigError(
                "Emulation is asked for, but there is no emulator's address: start `gemqueue emulate` and "
                "set base_url / GOOGLE_GEMINI_BASE_URL to what it prints"
            )
        return f"emulated-{settings.account or 'local'}"
    if not api_key:
        raise ConfigError("No API key: a worker needs GOOGLE_API_KEY or GEMINI_API_KEY")
    return api_key


def make_provider(settings: Settings, api_key: str) -> Provider:
    """The provider that the settings name. Raises ConfigError where a key or an emulator's address is missing."""
    api_key = provider_key(settings, api_key)
    return GeminiProvider(
        api_key=api_key,
        account=account_id(settings, api_key),
        base_url=settings.base_url or DEFAULT_BASE_URL,
        api_version=settings.api_version,
        emulate=settings.emulate,
        timeout_s=settings.call_timeout_s,
        create_timeout_s=settings.create_timeout_s,
        webhook_url=settings.webhook_url,
        sleep=clock_from_env().sleep,
    )


def make_kit(settings: Settings, role: str = "command") -> Kit:
    """Store, provider and clock for the stages; ``role`` is what connections are called by."""
    clock = clock_from_env()
    memory = _memory.setdefault((settings.redis_url, settings.queue), {})
    store = Store(settings.redis_url, settings, clock, memory, role=role)
    return Kit(
        store=store,
        provider=make_provider(settings, api_key_from_env()),
        settings=settings,
        clock=clock,
        pool=pool_id(settings),
    )


def role_name(roles: tuple[Step, ...]) -> str:
    """A combination of roles in one word."""
    return "all" if set(roles) == set(ROLES) else "+".join(sorted(roles))


def worker_queue(settings: Settings, roles: tuple[Step, ...]) -> str:
    """The arq queue of an account and a combination of roles, lest somebody takes a step that it cannot claim.

    Who takes from a pool has one beside those of its account who do not.
    """
    parts = ["gq", settings.queue, role_name(roles), account_id(settings, api_key_from_env()), pool_id(settings)]
    return ":".join(part for part in parts if part)


def worker_options(settings: Settings, roles: tuple[Step, ...], worker_id: str = "") -> dict[str, Any]:
    """What ``arq.Worker`` is made with (queues.md section 4 says why each); without an id it gets one of its own.

    Raises ConfigError where Redis's URL or arq is missing.
    """
    if not settings.redis_url:
        raise ConfigError("A worker needs redis_url / GEMQUEUE_REDIS_URL (`gemqueue work` finds the embedded server)")
    need("worker", "A worker that others start")
    from gemqueue_workers.worker import arq_client  # noqa: PLC0415 - others need no arq

    queue_name = worker_queue(settings, roles)
    return {
        "functions": [_function(step) for step in roles],
        "queue_name": queue_name,
        "redis_pool": arq_client.make_arq_client(
            settings.redis_url, queue_name, client_name(settings.queue, role_name(roles))
        ),
        "on_startup": partial(begin, settings=settings, roles=roles, queue_name=queue_name, worker_id=worker_id),
        "on_shutdown": stop,
        "job_completion_wait": settings.drain_s,
        "max_jobs": settings.steps_max,
        "job_timeout": _STEP_S_MAX,
        "keep_result": 0,
        "max_tries": 1_000_000,
        "poll_delay": 0.1,
        "allow_abort_jobs": False,
        "expires_extra_ms": arq_client.EXPIRES_MS,
        "job_serializer": arq_client.write_job,
        "job_deserializer": arq_client.read_job,
        "log_results": False,
        "health_check_key": f"{queue_name}:health-check:{socket.gethostname()}",
        "health_check_interval": max(settings.heartbeat_s, settings.sweep_s),
    }


def _function(step: Step) -> Function:
    from arq.worker import func  # noqa: PLC0415 - others need no arq

    async def run(ctx: dict[str, Any], id_: str) -> None:
        await _run(ctx, step, id_)

    return func(run, name=str(step), timeout=_STEP_S_MAX, keep_result=0, max_tries=1_000_000)


async def _run(ctx: dict[str, Any], step: Step, id_: str) -> None:
    handlers: dict[Step, Handler[Any]] = ctx["handlers"]
    sweeper: Sweeper = ctx["sweeper"]
    with sweeper.under_way(step, id_):
        claimed = await run_steps(ctx["kit"], handlers, step, id_, ctx.get("may_go_on", _always))
    if claimed:
        sweeper.wake()


def _always() -> bool:
    return True


async def begin(
    ctx: dict[str, Any], *, settings: Settings, roles: tuple[Step, ...], queue_name: str = "", worker_id: str = ""
) -> None:
    """Make a worker in ``ctx`` and start it; ``stop`` undoes this, also where it ended in an error.

    With arq's client as ``ctx["redis"]`` arq runs the steps, else our own loop does. Raises StoreUnavailable.
    """
    worker_id = worker_id or secrets.token_hex(6)
    identify(worker_id)
    kit = make_kit(settings, role_name(roles))
    ctx["kit"] = kit
    ctx["handlers"] = {step: _HANDLERS[step](kit) for step in roles}
    ctx["sweeper"] = Sweeper(
        kit, ctx.get("redis"), queue_name, roles, partial(_run, ctx), on_jobs=ctx.get("on_jobs"), worker_id=worker_id
    )
    await kit.store.greet(kit.provider.account)
    if kit.pool:
        await kit.store.join_pool(kit.pool, kit.provider.account)
    await _check_seal(kit)
    for warning in await kit.store.durability_warnings():
        log.warning("server.durability", warning=warning)
    account = kit.provider.account
    if account not in _warned and (warning := await kit.store.key_warning(account)):
        _warned.add(account)
        log.warning("account.of_key", warning=warning)
    ctx["sweeper"].start()
    await ctx["sweeper"].works()
    log.info("worker.started", roles=[str(role) for role in roles], queue=settings.queue, account=kit.provider.account)


async def _check_seal(kit: Kit) -> None:
    """A worker that cannot open a sealed queue works on what it can read, and says so."""
    try:
        await kit.store.seals.begin()
    except SealError as error:
        log.error("seal.closed", error=str(error), but="sealed batches wait for a worker with the key")  # noqa: TRY400 - no defect of ours


async def stop(ctx: dict[str, Any]) -> None:
    """Undo what starting made; may be called again."""
    sweeper: Sweeper | None = ctx.pop("sweeper", None)
    if sweeper is not None:
        await sweeper.stop()
        await ctx["kit"].provider.aclose()
        with suppress(TimeoutError, ServerError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await ctx["kit"].store.aclose()
        log.info("worker.stopped")


def __getattr__(name: str) -> type:
    """Make a WorkerSettings class on demand, so that importing this module needs no configuration."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    settings = load_settings()
    set_up_under_arq(json=settings.log_json)
    options = worker_options(settings, _CLASSES[name])
    from gemqueue_workers.worker.arq_client import check_settings  # noqa: PLC0415 - others need no arq

    return type(name, (), options | {"redis_settings": check_settings(settings.redis_url)})
