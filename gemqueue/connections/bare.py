"""A few commands on one socket, for who must start fast: redis-py alone takes longer to import than a probe may last.

It knows ``redis://`` and ``unix://``. Who has another URL takes a pool.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, unquote

from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.policy.servers import cleaned
from gemqueue.urls import host_and_port, safe_url, url_parts

if TYPE_CHECKING:
    from types import TracebackType

_SCHEMES: Final = frozenset({"redis", "unix"})
_PORT: Final = 6379
_LINE_BYTES_MAX: Final = 1 << 26
_LOGIN: Final = ("WRONGPASS", "NOAUTH", "ERR AUTH", "ERR invalid password")

Reply = bytes | int | list[Any] | Exception | None


class BareConnection:
    """One connection, logged in; raises StoreUnavailable, and ConfigError where the login is refused."""

    def __init__(self, url: str, wait_s: float) -> None:
        self._url = url
        self._wait_s = wait_s

    @staticmethod
    def takes(url: str) -> bool:
        """Whether it can reach this URL: without TLS, sentinels, a cluster and other parameters than the database."""
        parts = url_parts(url)
        return parts.scheme in _SCHEMES and set(parse_qs(parts.query)) <= {"db"}

    def __enter__(self) -> Self:
        parts = url_parts(self._url)
        try:
            self._socket = self._connected(parts.scheme, parts.hosts, parts.path)
            self._file = self._socket.makefile("rb")
        except (OSError, ValueError) as error:
            raise self._away(error) from None
        user, _, password = (unquote(part) for part in parts.login.partition(":"))
        db = parse_qs(parts.query).get("db", [parts.path.strip("/") if parts.scheme == "redis" else ""])[0]
        login = [b for b in (user, password) if b] if password else []
        calls = ([["AUTH", *login]] if login else []) + ([["SELECT", db]] if db not in {"", "0"} else [])
        refused = next((reply for reply in self.run(*calls) if isinstance(reply, Exception)), None)
        if refused is not None:
            self._close()
            self._refuse(str(refused))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()
        self._socket.close()

    def run(self, *calls: list[str]) -> list[Any]:
        """The replies to commands, in one round trip; a refused one is an exception among them."""
        try:
            self._socket.sendall(b"".join(_packed(call) for call in calls))
            return [self._reply() for _ in calls]
        except (OSError, ValueError) as error:
            self._close()
            raise self._away(error) from None

    def _connected(self, scheme: str, hosts: str, path: str) -> socket.socket:
        if scheme == "unix":
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(self._wait_s)
            try:
                connection.connect(unquote(path))
            except OSError:
                connection.close()
                raise
            return connection
        host, port = host_and_port(hosts) if hosts else ("localhost", None)
        return socket.create_connection((host, port or _PORT), self._wait_s)

    def _reply(self) -> Reply:
        line = self._file.readline(_LINE_BYTES_MAX)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Connection closed by server")
        sort, text = line[:1], line[1:-2]
        if sort == b"-":
            return RuntimeError(text.decode(errors="replace"))
        if sort == b"+":
            return text
        n = int(text)
        if sort == b":":
            return n
        if n < 0:
            return None
        if sort == b"$":
            return self._file.read(n + 2)[:n]
        return [self._reply() for _ in range(n)]

    def _away(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"Redis at {safe_url(self._url)} does not answer ({type(error).__name__}: {error}); "
            "check redis_url / GEMQUEUE_REDIS_URL and that the server runs"
        )

    def _refuse(self, said: str) -> None:
        if said.startswith(_LOGIN):
            raise ConfigError(f"Redis at {safe_url(self._url)} refuses the login: {cleaned(said)}")
        raise StoreUnavailable(f"Redis at {safe_url(self._url)}: {cleaned(said)}")


def _packed(call: list[str]) -> bytes:
    words = [word.encode() for word in call]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
