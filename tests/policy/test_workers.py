"""Who works for whom: an account and a role find a worker, or the words that say why not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemqueue.config import Settings
from gemqueue.policy.workers import is_stuck, serves_alone, why_nobody, why_unhealthy, why_unserved, worker_of
from gemqueue.records import Worker
from gemqueue.states import Step

SETTINGS = Settings()
NOW = 1_800_000_000_000
ALL = tuple(str(step) for step in Step)
A, B, POOL = "host.a", "host.b", "pool.shared"


def worker(*accounts: str, roles: tuple[str, ...] = ALL, **changed: Any) -> Worker:
    """A worker of the accounts that has just swept."""
    plain: dict[str, Any] = {"host": "h", "pid": 7, "began_at": NOW - 600_000, "beat_at": NOW}
    plain |= {"last_good_sweep_at": NOW - 500} | changed
    return Worker(id="w", roles=roles, accounts=accounts, **plain)


OLD = Worker(id="0123456789ab", roles=("pack", "submit"))
"""Of 0.2.0: no record."""
NEW = worker(A, began_at=NOW - 900, last_good_sweep_at=0)
"""It has begun a second ago, and has not swept yet."""
STUCK = worker(A, last_good_sweep_at=NOW - 31_000, waiting_for="server: x")


@pytest.mark.parametrize(
    ("workers", "role", "why"),
    [
        ([], Step.PACK, "no worker"),
        ([worker(B)], Step.PACK, "no worker: those that run do not serve host.a"),
        ([worker(B)], None, "no worker: those that run do not serve host.a"),
        ([worker(A, roles=("track",)), worker(B)], Step.PACK, "no worker: none of host.a has the role pack"),
        ([worker(A, roles=("track",))], Step.TRACK, ""),
        ([worker(A, roles=("track",))], None, ""),
        ([OLD], Step.SUBMIT, ""),
        ([OLD, worker(B)], Step.TRACK, "no worker: none of host.a has the role track"),
        ([STUCK, worker(A)], Step.PACK, ""),
        ([STUCK], Step.PACK, "no worker: worker w (pid 7 on h) has swept nothing since 07:59:29 UTC, waiting for "),
        ([worker(A, last_good_sweep_at=0)], Step.PACK, "no worker: worker w (pid 7 on h) never swept"),
        ([NEW], Step.PACK, ""),
        (
            [msgspec.structs.replace(NEW, waiting_for="server: no")],
            None,
            "no worker: worker w (pid 7 on h) never swept, ",
        ),
    ],
)
def test_why_nobody_takes_a_step(workers: list[Worker], role: Step | None, why: str) -> None:
    """Workers of another account, of other roles, or that sweep nothing hide nobody's want; one of 0.2.0 counts."""
    found = why_nobody(workers, A, role, SETTINGS)
    assert found.startswith(why)
    assert bool(found) is bool(why)


def test_what_an_account_lacks() -> None:
    """Four roles for an account, one for a pool, which only packs; ``rescue`` is for deadlines alone."""
    apart = [worker(A, roles=(role,)) for role in ("pack", "submit", "track")]
    assert why_unserved(apart, A, SETTINGS) == "no worker: none of host.a has the role resolve"
    assert why_unserved([*apart, worker(A, roles=("resolve",))], A, SETTINGS) == ""
    assert why_unserved([worker(A, POOL, roles=("pack",))], POOL, SETTINGS) == ""
    assert why_unserved([worker(A)], POOL, SETTINGS) != ""


@pytest.mark.parametrize(
    ("workers", "pool", "enough"),
    [
        ([], "", False),
        ([worker(A)], "", True),
        ([worker(B)], "", False),
        ([worker(A, roles=ALL[:3]), worker(A, roles=ALL[3:])], "", True),
        ([worker(A, roles=ALL[:4])], "", False),
        ([Worker(id="old", roles=ALL)], "", False),
        ([worker(A)], POOL, False),
        ([worker(A, POOL)], POOL, True),
        ([worker(A), worker(B, POOL)], POOL, True),
    ],
)
def test_whether_the_embedded_default_needs_no_worker(workers: list[Worker], pool: str, *, enough: bool) -> None:
    """Only workers that are known to be the account's count, and they need every role, and the pool's packing."""
    assert serves_alone(workers, A, pool) is enough


def test_a_worker_is_stuck_when_its_sweeps_fail() -> None:
    """Not while it begins, nor for one slow sweep, nor where sweeps are rare; of 0.2.0 it is never known."""
    assert is_stuck(STUCK, SETTINGS)
    assert not is_stuck(STUCK, Settings(sweep_s=20.0))
    assert not is_stuck(worker(A, last_good_sweep_at=NOW - 29_000), SETTINGS)
    assert not is_stuck(worker(A, last_good_sweep_at=0, began_at=NOW - 20_000), SETTINGS)
    assert not is_stuck(OLD, SETTINGS)


@pytest.mark.parametrize(
    ("workers", "account", "roles", "why"),
    [
        ([worker(A)], A, (Step.PACK, Step.TRACK), ""),
        ([worker(A)], "", (None,), ""),
        ([worker(A, roles=("pack",))], A, (Step.PACK, Step.TRACK), "no worker of host.a has the role track"),
        ([worker(B)], A, (None,), "no worker of host.a"),
        ([], "", (None,), "no worker"),
        ([OLD], "", (None,), "no worker; those of 0.2.0 tell nothing of their sweeps"),
        ([NEW], A, (Step.PACK,), "worker w (pid 7 on h) never swept"),
        ([STUCK, worker(A)], A, (Step.PACK,), ""),
        (
            [worker(A, last_good_sweep_at=NOW - 10_001)],
            A,
            (Step.PACK,),
            "worker w (pid 7 on h) has swept nothing since",
        ),
    ],
)
def test_what_a_probe_believes(workers: list[Worker], account: str, roles: tuple[Step | None, ...], why: str) -> None:
    """Each role needs a worker of the account whose own word is a sweep within the time; who never swept has none."""
    found = why_unhealthy(workers, account, roles, within_s=10.0, now_ms=NOW)
    assert (found.startswith(why), bool(found)) == (True, bool(why))


def test_a_record_that_is_not_one_is_read() -> None:
    """What is no number, or no text, is left out; a member without a record is of 0.2.0."""
    found = worker_of(b"w pack+track", {b"pid": b"x", b"host": b"\xff", b"beat_at": b"5", b"accounts": b"a b"})
    assert (found.pid, found.beat_at, found.accounts, found.roles) == (0, 5, ("a", "b"), ("pack", "track"))
    assert worker_of(b"w pack", {}) == Worker(id="w", roles=("pack",))
