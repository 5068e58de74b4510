"""Commands out of a process that has imported what they need: a fork instead of half a second of imports each.

One server for each session of pytest, started when the first command is asked for. It imports, and then forks a child
for every command: the child takes over the command's arguments, environment, folder and standard streams, leaves the
server's loop, and goes on and ends as ``python -m`` does. The server has one thread, no loop and no connection.

What is decided while modules are imported, or by the interpreter at its start, is the server's and not the command's,
so a command whose environment differs in any such variable is not for it (``takes``).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

MODULE = "gemqueue_workers.start"
_HERE = sys.platform == "linux" and hasattr(os, "pidfd_open")
_MESSAGE_BYTES_MAX = 1 << 18
_READ_BYTES = 1 << 16
_READ_AT_IMPORT = {"GEMQUEUE_CRASH_AT", "GEMQUEUE_MODELS"}
_READ_LATER = ("GEMQUEUE_", "GOOGLE_", "GEMINI_", "OTHER_KEY", "COLUMNS", "NO_COLOR")
_OF_THE_TEST = "PYTEST_CURRENT_TEST"
_ENVIRON = {name: value for name, value in os.environ.items() if name != _OF_THE_TEST}
_STARTING = threading.Lock()


def takes(env: dict[str, str]) -> bool:
    """Whether a command with the environment ``env`` does in a fork what it does by itself."""
    changed = {name for name in env.keys() | _ENVIRON if env.get(name) != _ENVIRON.get(name)} - {_OF_THE_TEST}
    changed.discard("PYTHONPATH")  # the sources, the same for each
    return _HERE and changed.isdisjoint(_READ_AT_IMPORT) and all(name.startswith(_READ_LATER) for name in changed)


def run(*arguments: str, env: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run ``gemqueue ARGUMENTS`` in a fork to its end, as ``subprocess.run`` does. ``env`` is all it has.

    Raises TimeoutExpired after ``timeout_s``, having killed it.
    """
    with _STARTING:
        door = _server(env["PYTHONPATH"])
    status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (out, out_theirs), (err, err_theirs) = os.pipe(), os.pipe()
    try:
        message = json.dumps([arguments, env, str(Path.cwd())]).encode()
        try:
            socket.send_fds(door, [message], [0, out_theirs, err_theirs, theirs.fileno()])
        finally:
            theirs.close()
            os.close(out_theirs)
            os.close(err_theirs)
        pid = int(status.recv(_READ_BYTES))
        said = _read([out, err, status.fileno()], time.monotonic() + timeout_s)
        if said is None:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired([MODULE, *arguments], timeout_s)
    finally:
        status.close()
        os.close(out)
        os.close(err)
    stdout, stderr, code = [text.decode().replace("\r\n", "\n").replace("\r", "\n") for text in said]
    return subprocess.CompletedProcess([MODULE, *arguments], int(code), stdout, stderr)


def _read(files: list[int], end: float) -> list[bytes] | None:
    """All that comes out of the files until each of them ends; nothing where that is not before ``end``."""
    said = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as waiting:
        for file in files:
            waiting.register(file, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, end - time.monotonic()))
            if not ready:
                return None
            for key, _ in ready:
                data = os.read(key.fd, _READ_BYTES)
                said[key.fd] += data
                if not data:
                    waiting.unregister(key.fd)
    return list(said.values())


@cache
def _server(path: str) -> socket.socket:
    """Start the server; where commands are asked for. It ends with this process."""
    door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=_ENVIRON | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        door.close()
        process.wait()

    atexit.register(end)
    return door


def _import_all() -> None:
    """Everything that commands import; not where they start, which each runs by itself."""
    gc.disable()
    package = import_module(MODULE.partition(".")[0])
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in [*names, "asyncio", "httpx", "redis.asyncio", "rich.progress", "structlog", "uvloop"]:
        if name != MODULE:
            import_module(name)
    assert threading.active_count() == 1, "a thread does not outlive a fork"
    gc.freeze()


def _serve(door: socket.socket) -> bytes:
    """Fork for whoever asks, until nobody can any more. Returns in each child, with what was asked for; else never."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(door, selectors.EVENT_READ)
        while True:
            for key in [key for key, _ in waiting.select()]:
                if key.data:
                    _ended(waiting, key)
                    continue
                message, fds, *_ = socket.recv_fds(door, _MESSAGE_BYTES_MAX, 4)
                if not message:
                    os._exit(0)
                pid = os.fork()
                reply = socket.socket(fileno=fds.pop())
                if not pid:
                    reply.close()
                    for each in [each for each in waiting.get_map().values() if each.data]:
                        os.close(each.fd)
                        each.data[1].close()
                    for to, fd in enumerate(fds):
                        os.dup2(fd, to)
                        os.close(fd)
                    return message
                reply.send(b"%d" % pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, reply))
                for fd in fds:
                    os.close(fd)


def _ended(waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """A child has ended: whoever asked for it gets its exit code."""
    pid, reply = key.data
    waiting.unregister(key.fd)
    os.close(key.fd)
    with reply, suppress(BrokenPipeError):  # it may have lost patience
        reply.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def main() -> None:
    """Be the server, and in each child the command, which ends as every program does."""
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as door:
        try:
            asked = _serve(door)
        except KeyboardInterrupt:  # Ctrl-C in the terminal is for the tests, which say so themselves
            os._exit(130)
    arguments, environ, folder = json.loads(asked)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv[1:] = arguments
    sys.path[0] = folder
    gc.enable()
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
