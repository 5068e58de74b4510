"""Who works for whom: whether a step that is due finds a worker, and in words why it finds none. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gemqueue.states import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gemqueue.config import Settings
    from gemqueue.records import Worker

NO_WORKER: Final = "no worker"
"""Every reason for having none begins with this."""
MAIN_ROLES: Final = (Step.PACK, Step.SUBMIT, Step.TRACK, Step.RESOLVE)
"""What every prompt needs in its turn; ``rescue`` is for deadlines alone."""
_POOLS: Final = ("pool.", "emulated.pool.")
_SWEEPS_MISSED_S: Final = 30.0


def serves(worker: Worker, account: str, role: Step | None = None) -> bool:
    """Whether the worker takes the account's steps of a role, or any; one of 0.2.0 may be any account's."""
    return (not worker.beat_at or account in worker.accounts) and (role is None or role in worker.roles)


def serves_alone(workers: Iterable[Worker], account: str, pool: str) -> bool:
    """Whether workers that are known to be the account's have every role, and one of them packs for its pool, if any.

    Workers of 0.2.0 do not count: whose they are is not known, and what this version writes they may leave alone.
    """
    known = [worker for worker in workers if worker.beat_at]
    wanted = [(account, role) for role in Step] + ([(pool, Step.PACK)] if pool else [])
    return all(any(serves(worker, of, role) for worker in known) for of, role in wanted)


def is_stuck(worker: Worker, settings: Settings) -> bool:
    """Whether it beats and its sweeps have failed, or hung, for longer than a slow one takes."""
    late_ms = worker.beat_at - max(worker.last_good_sweep_at, worker.began_at)
    return late_ms > 1000 * max(_SWEEPS_MISSED_S, 6 * settings.heartbeat_s, 3 * settings.sweep_s)


def why_nobody(workers: Sequence[Worker], account: str, role: Step | None, settings: Settings) -> str:
    """Why no worker takes the account's steps of a role, or of any; empty while one does."""
    if not workers:
        return NO_WORKER
    own = [worker for worker in workers if serves(worker, account)]
    if not own:
        return f"{NO_WORKER}: those that run do not serve {account}"
    able = [worker for worker in own if serves(worker, account, role)]
    if not able:
        return f"{NO_WORKER}: none of {account} has the role {role}"
    if all(is_stuck(worker, settings) for worker in able):
        return f"{NO_WORKER}: {_stuck(max(able, key=lambda worker: worker.last_good_sweep_at))}"
    return ""


def why_unserved(workers: Sequence[Worker], account: str, settings: Settings) -> str:
    """The same of the first role that a prompt of the account needs and that nobody has; a pool only packs."""
    roles = (Step.PACK,) if account.startswith(_POOLS) else MAIN_ROLES
    return next((why for role in roles if (why := why_nobody(workers, account, role, settings))), "")


def _stuck(worker: Worker) -> str:
    """Of a worker that is alive and gets nothing done."""
    at = worker.last_good_sweep_at
    since = f"has swept nothing since {datetime.fromtimestamp(at / 1000, UTC):%H:%M:%S} UTC" if at else "never swept"
    waits = f", waiting for {worker.waiting_for}" if worker.waiting_for else ""
    return f"{name_of(worker)} {since}{waits}"


def name_of(worker: Worker) -> str:
    """What people find it by."""
    return f"worker {worker.id}" + (f" (pid {worker.pid} on {worker.host})" if worker.beat_at else " (0.2.0)")
