"""The line to the server: one client, the Lua scripts, and the one place where Redis's errors become ours.

A script is sent by its hash and, when the server does not know it (a restart, a dropped cache), once more by its text.
Every script but ``claim`` may be repeated without harm, so a lost connection is retried here a few times.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio as redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

    from gemqueue.clock import Clock

Arg = str | bytes | int | float
_RETRIES = 4
_RETRY_FIRST_S = 0.05
_PASSING = ("MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE")
"""What a server says that cannot write just now, and will again."""
_LOST = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)


class ServerFull(StoreUnavailable):
    """The server is at its ``maxmemory`` and refused a write."""


def _load() -> dict[str, tuple[str, str]]:
    folder = resources.files("gemqueue") / "lua"
    prelude = (folder / "_prelude.lua").read_text(encoding="utf-8")
    scripts: dict[str, tuple[str, str]] = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if entry.name.endswith(".lua") and not name.startswith("_"):
            text = prelude + entry.read_text(encoding="utf-8")
            scripts[name] = (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text)
    return scripts


SCRIPTS = _load()


@contextmanager
def translated(url: str) -> Generator[None]:
    """Turn what redis-py raises into StoreUnavailable or ConfigError; the message never carries the URL's password."""
    try:
        yield
    except OutOfMemoryError as error:
        raise ServerFull(f"Redis at {safe_url(url)} is at its maxmemory: {error}") from error
    except AuthenticationError as error:
        raise ConfigError(f"Redis at {safe_url(url)} refuses the login: {error}") from error
    except _LOST as error:
        raise StoreUnavailable(
            f"Redis at {safe_url(url)} does not answer ({type(error).__name__}: {error}); "
            "check redis_url / GEMQUEUE_REDIS_URL and that the server runs"
        ) from error
    except ResponseError as error:
        if str(error).startswith("OOM"):
            raise ServerFull(f"Redis at {safe_url(url)} is at its maxmemory: {error}") from error
        if str(error).startswith(_PASSING):
            raise StoreUnavailable(f"Redis at {safe_url(url)} takes no writes for now: {error}") from error
        raise
    except RedisError as error:
        raise StoreUnavailable(f"Redis at {safe_url(url)}: {error}") from error


def safe_url(url: str) -> str:
    """The URL without user, password and query: redis-py takes a password in either place."""
    scheme, sep, rest = url.partition("://")
    return f"{scheme}{sep}{rest.partition('?')[0].rpartition('@')[2]}"


def connect(url: str, connections_max: int = 32) -> redis.Redis:
    """A client whose pool waits for a free connection instead of raising."""
    try:
        pool: Any = redis.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url,
            max_connections=connections_max,
            timeout=30,
            socket_timeout=30,
            socket_connect_timeout=5,
            health_check_interval=0,
        )
    except ValueError:
        # redis-py's own words may quote a piece of the password.
        raise ConfigError(
            "redis_url / GEMQUEUE_REDIS_URL cannot be read: redis://[user:password@]host:port/db, rediss://... or "
            "unix:///path, with special characters in the password percent-encoded"
        ) from None
    return redis.Redis(connection_pool=pool)


class Scripts:
    """Runs the scripts of ``lua/`` on one shard."""

    def __init__(self, client: redis.Redis, url: str, prefix: str, clock: Clock) -> None:
        self.client = client
        self.url = url
        self.prefix = prefix
        self._clock = clock

    def now_arg(self) -> int:
        """The time that a script is told: the virtual one, or 0 for the server's own."""
        return self._clock.now_ms() if self._clock.virtual else 0

    async def run(self, name: str, *args: Arg, retry: bool = True) -> list[Any]:
        """Run one script; its reply is a list whose first element is a word as bytes.

        Raises StoreUnavailable when the server stays away.
        """
        with translated(self.url):
            for attempt in range(_RETRIES):
                try:
                    return await self._once(name, args)
                except _LOST:
                    if not retry or attempt == _RETRIES - 1:
                        raise
                    await asyncio.sleep(_RETRY_FIRST_S * 4**attempt)
        raise AssertionError("unreachable")

    async def _once(self, name: str, args: tuple[Arg, ...]) -> list[Any]:
        sha, text = SCRIPTS[name]
        call = cast("Any", self.client)
        now = self.now_arg()
        try:
            return cast("list[Any]", await call.evalsha(sha, 1, self.prefix, now, *args))
        except NoScriptError:
            return cast("list[Any]", await call.eval(text, 1, self.prefix, now, *args))
