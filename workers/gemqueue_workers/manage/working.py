"""Who works, for ``status`` and ``doctor``: each worker as its last heartbeat left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.policy.workers import is_stuck, name_of, why_unserved
from gemqueue_workers.screen import duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.config import Settings
    from gemqueue.records import Worker

_SHOWN_MAX: Final = 20


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker whose heartbeat is fresh. One of 0.2.0 tells its roles alone, and counts for every account.

    ``sweep_age_s`` is how long ago a sweep of it went well, None where none has; ``stuck`` that this is too long.
    ``waiting_for`` is what it cannot go on without.
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


def waiting_workers(workers: Sequence[WorkerStatus]) -> Table | None:
    """The workers that wait for something, the first of them; None where all get on."""
    waiting = [worker for worker in workers if worker.stuck or worker.waiting_for]
    if not waiting:
        return None
    title = f"Workers that wait, {len(waiting)} of {len(workers)}"
    columns = ("worker", "pid", "last sweep", "accounts", "roles", "for")
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for worker in waiting[:_SHOWN_MAX]:
        swept = duration(worker.sweep_age_s) if worker.sweep_age_s is not None else "never"
        table.add_row(
            plain(worker.host or worker.id),
            str(worker.pid or ""),
            Text(swept, style="red" if worker.stuck else ""),
            plain(", ".join(worker.accounts)),
            plain(", ".join(worker.roles)),
            plain(worker.waiting_for or "no sweep goes well"),
        )
    return table


def unserved(workers: Sequence[Worker], settings: Settings, account: str) -> tuple[str, str]:
    """For ``doctor``: how many run, and what the account lacks of them; ok, or a warning."""
    why = why_unserved(workers, account, settings)
    own = "; the next command starts one" if not settings.redis_url else ": start gemqueue work"
    said = f"{len(workers)} run{f'; {why}' if workers and why else ''}{own if why else ''}"
    return "warning" if why and settings.redis_url else "ok", said


def troubled(workers: Sequence[Worker], settings: Settings) -> list[str]:
    """For ``doctor``: the workers that are alive and get nothing done, and what they wait for."""
    found: list[str] = []
    for worker in workers:
        waits = [f"waits for {worker.waiting_for}"] if worker.waiting_for else []
        if is_stuck(worker, settings):
            late_s = (worker.beat_at - max(worker.last_good_sweep_at, worker.began_at)) / 1000
            waits.insert(0, f"beats, and no sweep has gone well for {duration(late_s)}")
        if waits:
            found.append(f"{name_of(worker)} {'; '.join(waits)}")
    return found
