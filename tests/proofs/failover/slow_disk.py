"""A disk whose fsync takes for ever, made on purpose: what a server that was told to be quick does on a busy one.

With ``appendfsync everysec`` a thread of the server's own calls fsync. While it is at it, the server keeps what it is
told in memory for up to two seconds before it writes to the log, and goes on answering. Here that one thread is frozen
by Linux's ptrace, which a process may do to its children. The server's main thread goes on, but each of its own writes
to the log takes a while, as on a slow disk.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.valkey_server import ValkeyServer

OPTIONS = ("--enable-debug-command", "local")
"""What the server has to be started with."""
_WRITE_US = 2000
_READY_S_MAX = 60.0
_POLL_S = 0.005
_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000  # waitpid: threads count as well


@contextmanager
def slow_disk(server: ValkeyServer) -> Generator[None]:
    """No background fsync ends until this does; the server may be killed inside, and is reaped then.

    To be entered and left in one thread. Raises PermissionError where the kernel lets no process trace its children.
    """
    with cast("Any", Redis)(unix_socket_path=str(server.socket_path)) as client:
        client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", str(_WRITE_US))
    thread = _idle_fsync_thread(server.pid)
    _ptrace(_SEIZE, thread)
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _WALL)
        yield
    finally:
        _let_go(thread)


async def is_stopped(server: ValkeyServer) -> bool:
    """Whether its main thread has come to a stop after SIGSTOP; the frozen one keeps the kernel from reporting it."""
    return _name_and_state(Path(f"/proc/{server.pid}"))[1] == "T"


def _idle_fsync_thread(pid: int) -> int:
    """The thread, once it waits for work: then it holds no lock that the main thread may want."""
    deadline = time.monotonic() + _READY_S_MAX
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{pid}/task").iterdir():
            name, state = _name_and_state(task)
            if name.startswith("bio_aof") and state == "S":
                return int(task.name)
        time.sleep(_POLL_S)
    raise AssertionError("the server has no idle thread bio_aof")


def _name_and_state(task: Path) -> tuple[str, str]:
    name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
    return name, rest.split()[0]


def _let_go(thread: int) -> None:
    try:
        _ptrace(_DETACH, thread)
    except ProcessLookupError:  # killed: without this wait its process would stay, a zombie
        os.waitpid(thread, _WALL)


def _ptrace(request: int, thread: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call.restype = ctypes.c_long
    if call(request, thread, None, None) == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"ptrace of a child's thread: {os.strerror(errno)} (kernel.yama.ptrace_scope, seccomp?)")
