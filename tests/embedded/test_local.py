"""The embedded default with its real companions: it answers by itself, and goes on when one of them is killed."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import Queue, Settings
from gemqueue.config import load_settings
from gemqueue.embedded.local import companion_name, healthy_url, worker_env
from gemqueue.embedded.server import acquire
from gemqueue.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator

    from gemqueue.client.queue import Connecting

MODEL = "gemini-3.8-flash"
QUICK: dict[str, Any] = {
    "linger_s": 0.05,
    "poll_first_s": 0.1,
    "sweep_s": 0.1,
    "watchdog_s": 0.2,
    "heartbeat_s": 0.3,
} | {
    "create_timeout_s": 2.0,
    "lease_s": 4.0,
    "settle_s": 3.0,
}


WORKER_LOCK = f"companions/{companion_name('default', 'emulated.local')}.lock"


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A data folder with a short path; the companions find the packages as this process does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    folder = Path(tempfile.mkdtemp(prefix="gql-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def connect(data_dir: Path, account: str = "") -> Connecting:
    """The embedded default on an emulated account, in a hurry."""
    return Queue.connect(emulate=True, data_dir=str(data_dir), account=account, **QUICK)


def pid_of(data_dir: Path, lock: str) -> int:
    """The process that holds a lock of the folder."""
    return int((data_dir / "emulated" / lock).read_text())


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_it_works_by_itself(data_dir: Path) -> None:
    """Without a server, a worker or a key the emulator answers, and afterwards nothing is left running."""
    async with connect(data_dir) as queue, connect(data_dir) as second:
        answer, other = await asyncio.gather(queue.generate("Why?", model=MODEL), second.generate("How?", model=MODEL))
        assert answer.text.startswith("[emulated]")
        assert (answer.emulated, other.emulated) == (True, True)
        pids = [pid_of(data_dir, lock) for lock in ("server.lock", WORKER_LOCK, "companions/emulator.lock")]
    assert [pid for pid in pids if is_running(pid)] == []


async def test_it_survives_its_companions(data_dir: Path) -> None:
    """Whoever is killed, the worker or the server, is started again while somebody waits."""
    async with connect(data_dir) as queue:
        for lock in (WORKER_LOCK, "server.lock"):
            future = await queue.submit(f"before {lock}", model=MODEL)
            os.kill(pid_of(data_dir, lock), signal.SIGKILL)
            assert (await future.result(60)).emulated
            assert (await queue.generate(f"after {lock}", model=MODEL)).emulated


async def test_health_is_of_the_process_that_wrote_the_file(tmp_path: Path) -> None:
    """A ready file that is missing, damaged, or left behind by a process that is gone, is no emulator."""
    file = tmp_path / "emulator.json"
    assert await healthy_url(file) is None
    file.write_text("{")
    assert await healthy_url(file) is None
    for pid in (2**22 + 1, os.getpid()):  # Linux gives out no larger one than 2^22
        file.write_text(f'{{"url": "http://127.0.0.1:1", "pid": {pid}}}')
        assert await healthy_url(file) is None


def test_the_worker_has_this_process_settings(tmp_path: Path) -> None:
    """The worker's environment gives it every setting as it is here, whatever a file or a variable says."""
    settings = Settings(queue="q", emulate=True, linger_s=0.25, delete_files="never", keep_outcome_s=86_400.0)
    file = tmp_path / "gemqueue.toml"
    file.write_text("linger_s = 9.0\n")
    inherited = {"GEMQUEUE_CONFIG": str(file), "GEMQUEUE_ACCOUNT": "other", "GEMQUEUE_DELETE_JOBS": "true"}
    worker = load_settings(env=inherited | worker_env(settings, "unix:///x"))
    assert worker == msgspec.structs.replace(settings, redis_url="unix:///x")


def test_companions_are_named_after_queue_and_account() -> None:
    """Each queue and account of a data folder has a worker of its own, under a name that a file may have.

    None is a name that 0.2.0 gave: one of its workers may hold that lock.
    """
    queues, accounts = ("default", "other", "a_b.c", "x" * 64), ("emulated.local", "emulated.two")
    names = [companion_name(queue, account) for queue in queues for account in accounts]
    names.append(companion_name("default", "emulated.local", "emulated.pool.shared"))
    assert names[0].startswith("worker-default-")
    assert len(set(names)) == 9
    assert max(map(len, names)) <= 32
    assert not [name for name in names if name.startswith("work-") or not re.fullmatch(r"[a-z][a-z0-9-]*", name)]


async def test_each_account_of_a_folder_has_its_worker(data_dir: Path) -> None:
    """Who comes second, with another account in the same folder, is answered too, and both end with their users."""
    async with connect(data_dir, account="one") as first:
        assert (await first.generate("Why?", model=MODEL)).emulated
        async with connect(data_dir, account="two") as second:
            assert (await second.generate("How?", model=MODEL)).emulated
            names = [companion_name("default", f"emulated.{account}") for account in ("one", "two")]
            pids = [pid_of(data_dir, f"companions/{name}.lock") for name in names]
            served = {worker.accounts for worker in await first._store.workers()}
            assert served == {("emulated.one",), ("emulated.two",)}
    assert [pid for pid in pids if is_running(pid)] == []


async def test_a_companion_of_an_older_version_goes_on_beside(data_dir: Path) -> None:
    """A worker without a record, under the name that 0.2.0 gave it, hides nobody's want of one and is left alone."""
    server = await acquire(data_dir / "emulated")
    try:
        store = Store(server.url, Settings(emulate=True))
        old = {"0123456789ab pack+submit+track+resolve+rescue": (time.time() + 600) * 1000}
        await store.redis.zadd(store.key("workers"), old)
        await store.aclose()
        written = (data_dir / "emulated" / "companions" / "work.lock").read_text

        async def recorded() -> bool:
            return written().strip().isdecimal()

        await server.ensure_process("work", ["/bin/sleep", "600"], {}, recorded)
        pid = int(written())
        async with connect(data_dir) as queue:
            assert (await queue.generate("Why?", model=MODEL)).emulated
            assert is_running(pid)
    finally:
        await server.release()
    assert not is_running(pid)


def test_the_worker_has_the_key_that_was_there_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two queues of one process may be opened under two keys: each one's worker gets its own, whatever came later."""
    monkeypatch.setenv("GOOGLE_API_KEY", "later")
    assert worker_env(Settings(), "unix:///x", "first")["GOOGLE_API_KEY"] == "first"
    assert "GOOGLE_API_KEY" not in worker_env(Settings(emulate=True), "unix:///x")
