"""``gemqueue health``: whether the workers work, as a probe that costs a tenth of a second of CPU.

For ``redis://`` and ``unix://`` it speaks to the server on a bare socket. For TLS, sentinels and the embedded server it
imports what the store needs, and takes some three times as long.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gemqueue.accounts import api_key_from_env, lane_account
from gemqueue.config import load_settings
from gemqueue.connections.bare import BareConnection
from gemqueue.errors import StoreUnavailable
from gemqueue.ids import SHARD
from gemqueue.policy.servers import cleaned
from gemqueue.policy.workers import is_stuck, name_of, needed_roles, sweeps_missed_s, why_unhealthy, worker_of
from gemqueue.urls import safe_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.config import Settings
    from gemqueue.records import Worker
    from gemqueue.states import Step

HERE: Final = "here"
_WAIT_S: Final = 5.0


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker whose heartbeat is fresh. One of 0.2.0 tells its roles alone, and counts for every account.

    ``age_s`` is how long it has run, ``sweep_age_s`` how long ago a sweep of it went well, None where none has;
    ``stuck`` that this is too long. ``waiting_for`` is what it cannot go on without.
    """

    id: str
    roles: list[str]
    accounts: list[str]
    host: str
    pid: int
    version: str
    age_s: float | None
    sweep_age_s: float | None
    stuck: bool
    waiting_for: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict in a sentence, and the workers that it was made of. ``account`` is empty where any one counts."""

    healthy: bool
    said: str
    queue: str
    account: str
    workers: list[WorkerStatus]


class Wanted(NamedTuple):
    """What must be true: these roles, or all that prompts need; by this worker, or any; within so long."""

    roles: Sequence[Step] = ()
    worker: str = ""
    within_s: float = 0.0


def health(wanted: Wanted, *, emulate: bool | None) -> Health:
    """Look once. Raises ConfigError, StoreUnavailable."""
    settings = load_settings(emulate=emulate)
    workers, now_ms = _workers(settings)
    return judged(wanted, settings, workers, now_ms)


def judged(wanted: Wanted, settings: Settings, workers: Sequence[Worker], now_ms: int) -> Health:
    """What that means. One worker may have any account and some of the roles."""
    account = "" if wanted.worker else lane_account(settings, api_key_from_env())
    found = [worker for worker in workers if _is_wanted(worker, wanted.worker)]
    roles: Sequence[Step | None] = wanted.roles or ((None,) if wanted.worker else needed_roles(account))
    within_s = wanted.within_s or sweeps_missed_s(settings)
    why = why_unhealthy(found, account, roles, within_s=within_s, now_ms=now_ms)
    return Health(
        healthy=not why,
        said=f"{why}{'' if found else _where(wanted.worker)}" if why else _good(found, now_ms),
        queue=settings.queue,
        account=account,
        workers=[worker_status(worker, now_ms, settings) for worker in found],
    )


def worker_status(worker: Worker, now_ms: int, settings: Settings) -> WorkerStatus:
    """A worker's record as ``--json`` prints it."""
    return WorkerStatus(
        id=worker.id,
        roles=list(worker.roles),
        accounts=list(worker.accounts),
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        age_s=_age_s(worker.began_at, now_ms),
        sweep_age_s=_age_s(worker.last_good_sweep_at, now_ms),
        stuck=is_stuck(worker, settings),
        waiting_for=worker.waiting_for,
    )


def _age_s(since_ms: int, now_ms: int) -> float | None:
    return max(0, now_ms - since_ms) / 1000 if since_ms else None


def _is_wanted(worker: Worker, wanted: str) -> bool:
    return not wanted or worker.id == wanted or (wanted == HERE and worker.host == socket.gethostname())


def _where(wanted: str) -> str:
    return f" on {socket.gethostname()}" if wanted == HERE else f" {wanted}" if wanted else ""


def _good(workers: Sequence[Worker], now_ms: int) -> str:
    who = name_of(workers[0]) if len(workers) == 1 else f"{len(workers)} workers"
    swept_at = max(worker.last_good_sweep_at for worker in workers)
    return f"{who}, the last sweep {max(0, now_ms - swept_at) / 1000:.1f} s ago"


def _workers(settings: Settings) -> tuple[list[Worker], int]:
    """The workers whose heartbeat is fresh, and the server's time in ms."""
    if not BareConnection.takes(settings.redis_url):
        return _by_store(settings)
    place = f"{{gq:{settings.queue}:{SHARD}}}"
    with BareConnection(settings.redis_url, _WAIT_S) as server:
        (now,) = _checked(settings, server.run(["TIME"]))
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        (members,) = _checked(settings, server.run(["ZRANGEBYSCORE", f"{place}:workers", str(now_ms + 1), "+inf"]))
        ids = [member.decode().partition(" ")[0] for member in members]
        records = _checked(settings, server.run(*(["HGETALL", f"{place}:worker:{id_}"] for id_ in ids)))
    pairs = [dict(zip(record[::2], record[1::2], strict=True)) for record in records]
    return [worker_of(member, raw) for member, raw in zip(members, pairs, strict=True)], now_ms


def _checked(settings: Settings, replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise StoreUnavailable(f"Redis at {safe_url(settings.redis_url)}: {cleaned(str(reply))}")
    return replies


def _by_store(settings: Settings) -> tuple[list[Worker], int]:
    from gemqueue_workers.exits import run_main  # noqa: PLC0415 - these take as long as the whole probe
    from gemqueue_workers.manage.link import read_workers  # noqa: PLC0415

    return run_main(read_workers(settings))
