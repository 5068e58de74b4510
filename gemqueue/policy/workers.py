"""Who works for whom: whether a step that is due finds a worker, and in words why it finds none. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gemqueue.records import Worker
from gemqueue.states import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gemqueue.config import Settings

NO_WORKER: Final = "no worker"
"""Every reason for having none begins with this."""
MAIN_ROLES: Final = (Step.PACK, Step.SUBMIT, Step.TRACK, Step.RESOLVE)
"""What every prompt needs in its turn; ``rescue`` is for deadlines alone."""
_POOLS: Final = ("pool.", "emulated.pool.")
_SWEEPS_MISSED_S: Final = 30.0
_NUMBERS: Final = ("pid", "began_at", "beat_at", "last_good_sweep_at")
_WORDS: Final = ("host", "version", "waiting_for")


def worker_of(member: bytes, raw: Mapping[bytes, bytes]) -> Worker:
    """A worker by its member ``<id> <roles>`` of the store's ``workers``, and its record, which may be empty."""
    id_, _, roles = member.decode(errors="replace").partition(" ")
    found = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in raw.items()}
    known: dict[str, Any] = {name: found.get(name, "") for name in _WORDS}
    known |= {name: int(value) for name in _NUMBERS if (value := found.get(name, "")).isdecimal()}
    known["accounts"] = tuple(found.get("accounts", "").split())
    return Worker(id=id_, roles=tuple(roles.replace("+", " ").split()), **known)


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


def sweeps_missed_s(settings: Settings) -> float:
    """For how long sweeps may fail, or one may take, before its worker counts as stuck."""
    return max(_SWEEPS_MISSED_S, 6 * settings.heartbeat_s, 3 * settings.sweep_s)


def is_stuck(worker: Worker, settings: Settings) -> bool:
    """Whether it beats and its sweeps have failed, or hung, for longer than a slow one takes.

    One whose first sweep failed is stuck at once: it has never shown that it can work, and says what for.
    """
    if worker.beat_at and not worker.last_good_sweep_at and worker.waiting_for:
        return True
    late_ms = worker.beat_at - max(worker.last_good_sweep_at, worker.began_at)
    return late_ms > 1000 * sweeps_missed_s(settings)


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


def needed_roles(account: str) -> tuple[Step, ...]:
    """The roles that a prompt of the account, or of the pool, needs in its turn."""
    return (Step.PACK,) if account.startswith(_POOLS) else MAIN_ROLES


def why_unserved(workers: Sequence[Worker], account: str, settings: Settings) -> str:
    """The same of the first role that a prompt of the account needs and that nobody has; a pool only packs."""
    return next((why for role in needed_roles(account) if (why := why_nobody(workers, account, role, settings))), "")


def why_unhealthy(
    workers: Sequence[Worker], account: str, roles: Iterable[Step | None], *, within_s: float, now_ms: int
) -> str:
    """Why not each of the roles has a worker of the account that has swept within so long; empty where each has.

    An empty account is any, a role of None is any. A worker of 0.2.0 tells nothing of its sweeps, and does not count.
    """
    known = [worker for worker in workers if worker.beat_at]
    for role in roles:
        fit = [worker for worker in known if serves(worker, account or next(iter(worker.accounts), ""), role)]
        if not fit:
            old = "; those of 0.2.0 tell nothing of their sweeps" if len(known) < len(workers) else ""
            return f"{NO_WORKER}{f' of {account}' if account else ''}{f' has the role {role}' if role else ''}{old}"
        freshest = max(fit, key=lambda worker: worker.last_good_sweep_at)
        if now_ms - freshest.last_good_sweep_at > 1000 * within_s:
            return _stuck(freshest)
    return ""


def _stuck(worker: Worker) -> str:
    """Of a worker that is alive and gets nothing done."""
    at = worker.last_good_sweep_at
    since = f"has swept nothing since {datetime.fromtimestamp(at / 1000, UTC):%H:%M:%S} UTC" if at else "never swept"
    waits = f", waiting for {worker.waiting_for}" if worker.waiting_for else ""
    return f"{name_of(worker)} {since}{waits}"


def name_of(worker: Worker) -> str:
    """What people find it by."""
    return f"worker {worker.id}" + (f" (pid {worker.pid} on {worker.host})" if worker.beat_at else " (0.2.0)")
