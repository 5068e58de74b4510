"""The embedded server under real processes: shared, stopped by the last, taken over after a crash, never twice."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import pytest
from redis.asyncio import Redis

from gemqueue.embedded.processes import Detached, eventually, lock_file, try_lock
from gemqueue.embedded.server import EmbeddedServer, acquire
from gemqueue.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
SLEEPER = ["/bin/sh", "-c", "echo started; exec sleep 1000"]
# Acquires, reports the server's pid as counted from inside, waits for a line, releases.
USER = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from gemqueue.embedded.server import acquire

async def ready():
    return True

async def main():
    server = await acquire(Path(sys.argv[1]))
    await server.ensure_process("work", ["/bin/sh", "-c", "exec sleep 1000"], {}, ready)
    async with Redis.from_url(server.url) as client:
        await client.incr("users")
        print((await client.info("server"))["process_id"], flush=True)
    sys.stdin.readline()
    await server.release()

asyncio.run(main())
"""


@pytest.fixture
async def folder() -> AsyncGenerator[Path]:
    """A data folder with a short path that is not made yet; whatever is left running in it is ended."""
    parent = Path(tempfile.mkdtemp(prefix="gqe-", dir="/tmp"))
    data = parent / "data"
    yield data
    for lock in [*data.rglob("server.lock"), *data.rglob("companions/*.lock")]:
        await Detached(lock, parent / "log").stop(0)
    shutil.rmtree(parent)


async def start_user(folder: Path) -> Process:
    """Another process that uses the folder until it is told to stop."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", USER, str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def server_pid(user: Process) -> int:
    """The pid of the server that the user found."""
    assert user.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        return int(await user.stdout.readline())


async def companion_pid(folder: Path) -> int:
    """The pid of the folder's companion, once it is recorded."""
    companion = companion_of(folder, "work")
    assert await eventually(lambda: companion.pid is not None, DEADLINE_S)
    assert companion.pid is not None
    return companion.pid


async def dismiss(user: Process) -> None:
    """Let the user release and end."""
    async with asyncio.timeout(DEADLINE_S):
        await user.communicate(b"\n")
    assert user.returncode == 0


def connect(server: EmbeddedServer) -> Redis:
    """A client of the embedded server."""
    return cast("Redis", cast("Any", Redis).from_url(server.url))


def server_of(folder: Path) -> Detached:
    """The folder's server as the locks know it."""
    return Detached(folder / "server.lock", folder / "server.log")


def companion_of(folder: Path, name: str) -> Detached:
    """A companion of the folder as the locks know it."""
    return Detached(folder / "companions" / f"{name}.lock", folder / f"{name}.log")


async def at_once() -> bool:
    """A companion that needs no time to be ready."""
    return True


async def test_ten_processes_share_one_server(folder: Path) -> None:
    """Ten processes that come at once find one server and one companion, and only the last one out stops both."""
    users = [await start_user(folder) for _ in range(10)]
    pids = {await server_pid(user) for user in users}
    assert len(pids) == 1
    work = await companion_pid(folder)
    for user in users[:-1]:
        await dismiss(user)
    assert server_of(folder).alive()
    assert companion_of(folder, "work").alive()
    assert (server_of(folder).pid, companion_of(folder, "work").pid) == (pids.pop(), work)
    await dismiss(users[-1])
    assert not server_of(folder).alive()
    assert not companion_of(folder, "work").alive()


async def test_takeover_after_kill(folder: Path) -> None:
    """Server and companion survive the kill -9 of their only user; the next user takes both over and ends them."""
    user = await start_user(folder)
    pid = await server_pid(user)
    work = await companion_pid(folder)
    user.kill()
    await user.wait()
    assert server_of(folder).alive()
    server = await acquire(folder)
    await server.ensure_process("work", SLEEPER, {}, at_once)
    assert (server_of(folder).pid, companion_of(folder, "work").pid) == (pid, work)
    async with connect(server) as client:
        assert await client.get("users") == b"1"
    await server.release()
    assert not server_of(folder).alive()
    assert not companion_of(folder, "work").alive()


async def test_a_look_leaves_what_it_found(folder: Path) -> None:
    """A look starts a server and stops it where none ran, but one that a crash left without a user works on."""
    first = await acquire(folder, look=True)
    assert server_of(folder).alive()
    await first.release()
    assert not server_of(folder).alive()
    user = await start_user(folder)
    pid = await server_pid(user)
    user.kill()
    await user.wait()
    look = await acquire(folder, look=True)
    async with connect(look) as client:
        assert await client.get("users") == b"1"
    await look.release()
    assert (server_of(folder).pid, server_of(folder).alive()) == (pid, True)
    assert companion_of(folder, "work").alive()
    await (await acquire(folder)).release()
    assert not server_of(folder).alive()


async def test_stop_and_start_keep_the_data(folder: Path) -> None:
    """What was written is there after the last user left and another one came."""
    for value in (None, b"1", b"2"):
        server = await acquire(folder)
        async with connect(server) as client:
            assert await client.get("n") == value
            await client.incr("n")
        await server.release()
        await server.release()  # the second one finds nothing to do


async def test_kill_of_the_server(folder: Path) -> None:
    """A server killed under its users comes back at the same address with every acknowledged write, by either way."""
    server = await acquire(folder)
    async with connect(server) as client:
        await client.incr("n")
        await kill(server_of(folder))
        await server.revive()
        assert await client.incr("n") == 2
        await kill(server_of(folder))
        other = await acquire(folder)
        assert other.url == server.url
        assert await client.incr("n") == 3
    await other.release()
    assert server_of(folder).alive()
    await server.release()
    assert not server_of(folder).alive()


async def test_mute_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lives and does not answer is replaced; what it acknowledged is there."""
    server = await acquire(folder)
    monkeypatch.setattr("gemqueue.embedded.server._MUTE_S_MAX", 2.0)
    async with connect(server) as client:
        await client.incr("n")
        mute = server_of(folder).pid
        assert mute is not None
        os.kill(mute, signal.SIGSTOP)
        await server.revive()
        assert server_of(folder).pid != mute
        assert await client.incr("n") == 2
    await server.release()


async def test_no_second_server(folder: Path) -> None:
    """Nobody can start a second server on the data, not even past the start lock."""
    server = await acquire(folder)
    with pytest.raises(StoreUnavailable, match="runs already"):
        await server_of(folder).start(SLEEPER)
    await server.release()


async def test_stale_leftovers(folder: Path) -> None:
    """A dead socket and the recorded pid of some other process, as a crash leaves them, do no harm to anybody."""
    server = await acquire(folder)
    await server.release()
    (folder / "valkey.sock").touch()
    bystander = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
    (folder / "server.lock").write_text(f"{bystander.pid}\n")
    companion_of(folder, "work").lock_path.parent.mkdir(exist_ok=True)
    companion_of(folder, "work").lock_path.write_text(f"{bystander.pid}\n")
    server = await acquire(folder)
    assert server_of(folder).pid != bystander.pid
    await server.release()
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_companion_restarts(folder: Path) -> None:
    """A companion runs once however often it is asked for, again when it died, with the environment asked for."""
    server = await acquire(folder)
    argv = ["/bin/sh", "-c", 'echo "$COLOUR"; exec sleep 1000']
    await server.ensure_process("work", argv, {"COLOUR": "blue"}, at_once)
    first = companion_of(folder, "work").pid
    await server.ensure_process("work", argv, {"COLOUR": "red"}, at_once)
    assert companion_of(folder, "work").pid == first
    assert await eventually(lambda: companion_of(folder, "work").log_tail() == "blue", DEADLINE_S)
    await kill(companion_of(folder, "work"))
    await server.ensure_process("work", argv, {"COLOUR": "red"}, at_once)
    assert await eventually(lambda: companion_of(folder, "work").log_tail() == "red", DEADLINE_S)
    assert (folder / "work.log.1").read_text() == "blue\n"
    await server.release()


async def test_stubborn_companion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest companion is stopped first, by SIGTERM; one that ignores it is killed, its children with it."""
    monkeypatch.setattr("gemqueue.embedded.server._COMPANION_STOP_S_MAX", 0.5)
    server = await acquire(folder)
    polite = f"trap 'echo bye; date +%s%N > {folder}/polite; exit' TERM; echo up; while :; do sleep 0.01; done"
    deaf = "trap '' TERM; sleep 1000 & echo $!; wait; wait"
    await server.ensure_process("deaf", ["/bin/sh", "-c", deaf], {}, at_once)
    await server.ensure_process("polite", ["/bin/sh", "-c", polite], {}, at_once)
    assert await eventually(lambda: companion_of(folder, "polite").log_tail() == "up", DEADLINE_S)
    assert await eventually(lambda: companion_of(folder, "deaf").log_tail() != "", DEADLINE_S)
    child = int(companion_of(folder, "deaf").log_tail())
    await server.release()
    assert companion_of(folder, "polite").log_tail() == "up\nbye"
    assert not companion_of(folder, "deaf").alive()
    assert await eventually(lambda: not is_running(child), DEADLINE_S)


async def test_companion_that_ends(folder: Path) -> None:
    """A companion that ends before it is ready is an error that shows the end of its log; bad names are refused."""
    server = await acquire(folder)

    async def never() -> bool:
        return False

    with pytest.raises(StoreUnavailable, match="no such option"):
        await server.ensure_process("work", ["/bin/sh", "-c", "echo no such option >&2; exit 2"], {}, never)
    for name in ("../work", "Work", "server", ""):
        with pytest.raises(ConfigError, match="no name"):
            await server.ensure_process(name, SLEEPER, {}, at_once)
    await server.release()


async def test_folder_is_private(folder: Path) -> None:
    """The folder and the socket are this user's alone; a folder that others can enter is refused and left as it is."""
    server = await acquire(folder)
    assert mode(folder) == 0o700
    assert mode(folder / "valkey.sock") == 0o700
    await server.release()
    os.chmod(folder, 0o740)  # noqa: PTH101 - blocks for no time
    with pytest.raises(ConfigError, match="chmod 700"):
        await acquire(folder)
    assert mode(folder) == 0o740


async def test_long_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose path is too long for a socket gets one in a short private folder, or a clear error."""
    deep = folder / ("d" * 60) / ("e e%20" * 10)
    server = await acquire(deep)
    assert len(server.url) < 110
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # another process may have another TMPDIR
    other = await acquire(deep)
    assert other.url == server.url
    async with connect(other) as client:
        assert await client.get("n") is None
    await other.release()
    await server.release()
    assert not Path(unquote(server.url.removeprefix("unix://"))).parent.exists()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="too long"):
        await acquire(deep)


async def test_odd_path(folder: Path) -> None:
    """Blanks and characters that mean something in a URL are fine in a folder's name."""
    server = await acquire(folder / "a b%20#?é")
    async with connect(server) as client:
        assert await client.get("n") is None
    await server.release()


async def test_cancelled_acquire(folder: Path) -> None:
    """An acquire that is cancelled while it waits holds nothing: the others start and stop as if it had never come."""
    server = await acquire(folder)
    with lock_file(folder / "start.lock") as fd:
        assert try_lock(fd, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(acquire(folder), 0.1)
    await server.release()
    assert not server_of(folder).alive()


async def kill(process: Detached) -> None:
    """``kill -9``, and wait until the kernel has let go of its lock."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert await eventually(lambda: not process.alive(), DEADLINE_S)


def mode(path: Path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_folder_that_was_removed_leaves_nothing_behind(folder: Path) -> None:
    """Its users are told so in a sentence; the last of them ends server and companions, and nobody else's."""
    first, second = await acquire(folder), await acquire(folder)

    async def ready() -> bool:
        return True

    await first.ensure_process("work", SLEEPER, {}, ready)
    both = [Detached(folder / f"{name}.lock", folder / "log") for name in ("server", "companions/work")]
    assert await eventually(lambda: all(one.pid is not None for one in both), DEADLINE_S)
    pids = [one.pid for one in both]
    shutil.rmtree(folder)
    for call in (first.revive, first.release):
        with pytest.raises(StoreUnavailable, match="was removed while it was in use"):
            await call()
    assert all(pid is not None and runs(pid) for pid in pids), "there is another user"
    other = await acquire(folder)
    with pytest.raises(StoreUnavailable, match="was removed while it was in use"):
        await second.release()
    assert await eventually(lambda: not any(pid is not None and runs(pid) for pid in pids), DEADLINE_S)
    async with connect(other) as client:
        assert await cast("Any", client).ping()
    await other.release()


def runs(pid: int) -> bool:
    """Whether a process of this id lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
