"""Connections without TLS, and what all connections have in common: a name by which ``CLIENT LIST`` shows whose it is.

A name is a help and no condition: a server or an ACL that refuses ``CLIENT`` serves an unnamed connection.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections.probes import speaks_tls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SETTING: Final = "redis_url / GEMQUEUE_REDIS_URL"
_UNNAMEABLE: Final = re.compile(r"[^\x21-\x7e]")
_NAME_CHARS_MAX: Final = 200


class TlsError(RedisConnectionError):
    """TLS does not come about, or the server's certificate does not hold; the message says why and the way out."""


def client_name(queue: str, role: str) -> str:
    """What connections of this process are called: ``gemqueue:<queue>:<role>:<host>:<pid>``."""
    return _UNNAMEABLE.sub("_", f"gemqueue:{queue}:{role}:{socket.gethostname()}:{os.getpid()}")[:_NAME_CHARS_MAX]


class Named(AbstractConnection):
    """A connection that says whose it is, where the server lets it."""

    def __init__(self, *, client_name: str = "", refusals: list[str] | None = None, **options: Any) -> None:
        """``refusals`` gets what ``connect`` raises of TLS, for whoever does not see it."""
        cast("Any", super()).__init__(**options)
        self._name = client_name
        self._refusals = refusals

    through = False
    """Whether the other side was reached, whatever came of it."""

    async def connect(self) -> None:
        """As redis-py's. Raises TlsError where TLS is what does not come about."""
        async with self._in_words():
            await cast("Any", super()).connect()

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """As redis-py's, by which redis-py 6 and later connect to masters that sentinels name. Raises TlsError."""
        async with self._in_words():
            await cast("Any", super()).connect_check_health(*args, **options)

    @asynccontextmanager
    async def _in_words(self) -> AsyncGenerator[None]:
        try:
            yield
        except TlsError:
            raise
        except (RedisConnectionError, RedisTimeoutError) as error:
            said = await self.meaning(error)
            if not said:
                raise
            raise self.refuse(said) from error

    async def meaning(self, _error: RedisError) -> str:
        """What the failure means for TLS, and the way out; empty where it means nothing."""
        return ""

    async def _connect(self) -> None:
        self.through = False
        await cast("Any", super())._connect()  # noqa: SLF001 - redis-py's hook
        self.through = True

    async def on_connect(self) -> None:
        """As redis-py's, and the name."""
        await cast("Any", super()).on_connect()
        if self._name:
            await self.send_command("CLIENT", "SETNAME", self._name, check_health=False)
            with suppress(ResponseError):
                await cast("Any", self).read_response()

    def refuse(self, said: str) -> TlsError:
        """The error to raise, which those who do not see it hear of, too."""
        if self._refusals is not None:
            self._refusals.append(f"{self._host_error()}, {said}")
        return TlsError(said)


class PlainConnection(Named, Connection):
    """Without TLS; where the server speaks nothing else, that is said."""

    async def meaning(self, error: RedisError) -> str:
        """Whether only TLS is spoken there."""
        if type(error) is RedisConnectionError and self.through and await speaks_tls(self.host, int(self.port)):
            return (
                "the server speaks TLS there, and is asked without: write rediss:// (or rediss+sentinel://) in "
                f"{SETTING}"
            )
        return ""


class SentinelPlainConnection(SentinelManagedConnection, PlainConnection):
    """The same to a master that sentinels name."""


class UnixConnection(Named, UnixDomainSocketConnection):
    """On a socket of this host."""
