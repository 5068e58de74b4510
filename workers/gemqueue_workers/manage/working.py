"""Who works, for ``status`` and ``doctor``: each worker as its last heartbeat left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.policy.workers import is_stuck, name_of, serves, why_unserved
from gemqueue.states import Step
from gemqueue_workers.screen import duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.config import Settings
    from gemqueue.records import Worker
    from gemqueue_workers.manage.health import WorkerStatus

_SHOWN_MAX: Final = 20


def workers_table(workers: Sequence[WorkerStatus]) -> Table | None:
    """The workers, those that wait for something first; None where there is none."""
    if not workers:
        return None
    ordered = sorted(workers, key=lambda worker: (not worker.stuck, not worker.waiting_for, worker.host, worker.pid))
    shown = ordered[:_SHOWN_MAX]
    title = "Workers" if shown == ordered else f"Workers, {len(shown)} of {len(workers)}"
    columns = ["worker", "pid", "version", "runs for", "last sweep", "accounts", "roles"]
    waits = any(worker.stuck or worker.waiting_for for worker in shown)
    table = Table(*columns, *(["waits for"] if waits else []), title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for worker in shown:
        table.add_row(*_row(worker)[: len(table.columns)])
    return table


def _row(worker: WorkerStatus) -> list[Text]:
    """One of 0.2.0 has its id and its roles alone."""
    swept = duration(worker.sweep_age_s) if worker.sweep_age_s is not None else "never" if worker.host else ""
    every = set(worker.roles) == set(Step)
    return [
        plain(worker.host or worker.id),
        Text(str(worker.pid or "")),
        plain(worker.version or ("" if worker.host else "0.2.0")),
        Text(duration(worker.age_s) if worker.age_s is not None else ""),
        Text(swept, style="red" if worker.stuck else ""),
        plain(", ".join(worker.accounts)),
        Text("all") if every else plain(", ".join(worker.roles)),
        plain(worker.waiting_for or ("no sweep goes well" if worker.stuck else "")),
    ]


def unserved(workers: Sequence[Worker], settings: Settings, account: str) -> tuple[str, str]:
    """For ``doctor``: how many run, and what the account lacks of them; ok, or a warning."""
    why = why_unserved(workers, account, settings)
    own = "; the next command starts one" if not settings.redis_url else ": start gemqueue work"
    own = "" if any(is_stuck(worker, settings) and serves(worker, account) for worker in workers) else own
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
