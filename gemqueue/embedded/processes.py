"""Processes that outlive their starter, and the file locks by which everybody else knows about them.

A detached process holds an exclusive ``flock`` on its lock file for as long as it lives: it inherits the open file from
its starter, and the kernel lets go of it when the process ends, however it ends. So "does it run?" is a question to the
kernel, never to a pid file that a crash left behind, and a second one cannot start while the first lives. The lock
file's text is the process's pid, written by the process itself before it becomes its program.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemqueue.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence

_POLL_S = 0.01
_KILLED_S_MAX = 10.0
_GLANCE_S_MAX = 1.0  # how long somebody's look at a free lock may hold it
_LOG_TAIL_BYTES = 600
# The outer shell puts the inner one into the background and ends, so nobody has to reap it; the inner one writes its
# pid and becomes the program, under the same pid.
_DETACH = '/bin/sh -c "$0" "$@" &'
_RECORD_AND_BECOME = 'echo $$ > "$0"; exec "$@"'


class FolderGone(StoreUnavailable):
    """The data folder was removed while it was in use."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The data folder {folder} was removed while it was in use, and what was in it is lost: its server and "
            "workers end with their last user; start again, and leave the folder alone meanwhile"
        )


def try_lock(fd: int, how: int) -> bool:
    """Take ``fcntl.LOCK_EX`` or ``LOCK_SH`` on an open file without waiting; whether it was granted.

    Raises ConfigError where the file system knows no locks.
    """
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ConfigError(
            f"The data folder's file system has no locks ({error.strerror}): choose another with GEMQUEUE_DATA_DIR"
        ) from error
    return True


@contextmanager
def lock_file(path: Path) -> Generator[int]:
    """The open lock file, made when it is missing; whatever lock is taken on it ends with the block.

    Raises FolderGone where its folder is missing.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        raise FolderGone(path.parent) from None
    try:
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def exclusively(path: Path, wait_s_max: float) -> AsyncGenerator[None]:
    """Hold the exclusive lock on ``path``. Raises StoreUnavailable when others held it for ``wait_s_max``.

    It asks again and again instead of blocking in a thread, so that a cancelled caller never ends up with the lock.
    """
    with lock_file(path) as fd:
        if not await eventually(lambda: try_lock(fd, fcntl.LOCK_EX), wait_s_max):
            raise StoreUnavailable(f"Another process has held {path} for {wait_s_max:.0f} s; is it stuck or stopped?")
        yield


async def eventually(condition: Callable[[], bool], wait_s_max: float) -> bool:
    """Whether the condition became true within ``wait_s_max`` seconds."""
    deadline = time.monotonic() + wait_s_max
    while not (true := condition()) and time.monotonic() < deadline:  # noqa: ASYNC110 - other processes set no Event
        await asyncio.sleep(_POLL_S)
    return true


class Detached:
    """One named process of a folder: running or not, whoever started it.

    ``start`` and ``stop`` must be called by one process at a time (the caller's exclusive lock); ``alive`` by anyone.
    """

    def __init__(self, lock_path: Path, log_path: Path) -> None:
        self.lock_path = lock_path
        self.log_path = log_path

    def alive(self) -> bool:
        """Whether the process runs now."""
        with lock_file(self.lock_path) as fd:
            return not try_lock(fd, fcntl.LOCK_SH)  # shared: two that look at once do not see each other

    @property
    def pid(self) -> int | None:
        """The pid that the last start recorded; it means nothing unless ``alive``."""
        with suppress(FileNotFoundError, ValueError):
            return int(self.lock_path.read_text())
        return None

    async def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start it in a session of its own, with output to a new log; the log before is kept beside it, as ``.1``.

        ``env`` is added to this process's environment. Raises StoreUnavailable when it runs already.
        """
        with lock_file(self.lock_path) as fd:
            if not await eventually(lambda: try_lock(fd, fcntl.LOCK_EX), _GLANCE_S_MAX):
                raise StoreUnavailable(f"{self.lock_path} is held: the process runs already")
            os.ftruncate(fd, 0)
            self._spawn(fd, argv, env or {})

    def _spawn(self, lock_fd: int, argv: Sequence[str], env: Mapping[str, str]) -> None:
        with suppress(FileNotFoundError):
            self.log_path.replace(self.log_path.with_name(self.log_path.name + ".1"))
        with self.log_path.open("ab") as log:
            subprocess.run(  # noqa: S603 - our own argv, no shell text in it
                ["/bin/sh", "-c", _DETACH, _RECORD_AND_BECOME, str(self.lock_path), *argv],
                check=True,
                env={**os.environ, **env},
                pass_fds=(lock_fd,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def stop(self, patience_s: float) -> bool:
        """SIGTERM, and SIGKILL for its process group after ``patience_s``; whether it is gone now."""
        return await self._end(signal.SIGTERM, patience_s) or await self._end(signal.SIGKILL, _KILLED_S_MAX)

    async def _end(self, number: int, wait_s: float) -> bool:
        sent = False

        def gone() -> bool:
            nonlocal sent  # a process that was forked a moment ago has not recorded its pid yet
            sent = sent or self._signal(number)
            return not self.alive()

        return await eventually(gone, wait_s)

    def _signal(self, number: int) -> bool:
        pid = self.pid
        if pid is None or not _has_open(pid, self.lock_path):
            return False
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(os.getpgid(pid), number)
            else:
                os.kill(pid, number)
        return True

    def log_tail(self) -> str:
        """The end of the log, for an error message."""
        with suppress(FileNotFoundError), self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
        return ""


async def end_orphans(folder: Path, patience_s: float) -> None:
    """End the processes of a folder that was removed: workers first, then its server. Without /proc they go on.

    The server is killed: it has nothing to save, and would take the socket of one that is there by now.
    """
    for place, number in ((folder / "companions", signal.SIGTERM), (folder, signal.SIGKILL)):
        _signal_orphans(place, number)
        if not await eventually(partial(_no_orphans, place), patience_s):
            _signal_orphans(place, signal.SIGKILL)


def _signal_orphans(place: Path, number: int) -> None:
    for pid in _orphans(place):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _no_orphans(place: Path) -> bool:
    return not _orphans(place)


def _orphans(place: Path) -> list[int]:
    """The processes that hold a lock file of this very place that is not there any more."""
    found: set[int] = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            file = fd.readlink()
            if file.name.endswith(".lock (deleted)") and file.parent == place and int(fd.parts[2]) != os.getpid():
                found.add(int(fd.parts[2]))
    return sorted(found)


def _has_open(pid: int, path: Path) -> bool:
    """Whether that process has that file open: a pid that was reused, or of another container, has not.

    Where there is no ``/proc`` to ask (macOS), the lock's being held has to do.
    """
    fds = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").exists():
        return True
    wanted = path.stat()
    with suppress(FileNotFoundError, PermissionError):
        for fd in fds.iterdir():
            with suppress(FileNotFoundError):
                found = fd.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    return False
