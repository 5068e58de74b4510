"""The line to the server: one client, the Lua scripts, and the one place where Redis's errors become ours.

A script is sent by its hash and, when the server does not know it (a restart, a dropped cache), once more by its text.
Every script but ``claim`` may be repeated without harm, so a lost connection is retried here a few times.

Where ``durability`` asks for a replica, the scripts that others rely on once they are through (enqueue, begin, accept)
are followed by ``confirm`` and ``WAIT 1`` on the same connection, in the same round trip. What no replica has is not
acknowledged.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import msgspec
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

from gemqueue.connections.cluster import ClusterPool, needs_cluster_url, says_cluster
from gemqueue.connections.links import TlsError
from gemqueue.connections.pools import SentinelPool, drop_idle, make_pool
from gemqueue.connections.replies import itself, said_by
from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.policy.servers import REPLICA, cleaned, refusal
from gemqueue.urls import safe_url

if TYPE_CHECKING:
    from collections.abc import Generator

    from gemqueue.clock import Clock

Arg = str | bytes | int | float
ServerError = RedisError
"""What a call to the server may raise untranslated: the name by which others catch it."""
_TAKES = re.compile(r"^-- takes: (_\w+)", re.MULTILINE)
"""A line of a Lua file's header: the part (``lua/_*.lua``) that it takes the names behind it from."""
_CONFIRM: tuple[str, tuple[Arg, ...]] = ("confirm", ("",))
"""The script that has the replica's word follow it, of no batch."""
_RETRIES = 4
_RETRY_FIRST_S = 0.05
_PASSING = ("MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE", "UNBLOCKED")
"""What a server says that cannot write just now, and will again."""
_LOST = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)


class ServerFull(StoreUnavailable):
    """The server is at its ``maxmemory`` and refused a write."""


class ServerRefuses(StoreUnavailable):
    """The server answers, and refuses what the queue cannot do without: a right, a command, a slot, a write."""


class NotReplicated(StoreUnavailable):
    """It is written, but no replica has said in time that it has it: if the server is lost now, so is the write."""


def _load() -> dict[str, tuple[str, str]]:
    """Hash and text of each script: the parts that it takes by its header, then its own file."""
    folder = resources.files("gemqueue.store") / "lua"
    files = {e.name[:-4]: e.read_text(encoding="utf-8") for e in folder.iterdir() if e.name.endswith(".lua")}
    scripts: dict[str, tuple[str, str]] = {}
    for name in files:
        if not name.startswith("_"):
            text = "".join(files[one] for one in _in_order(name, files, {}))
            scripts[name] = (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text)
    return scripts


def _in_order(name: str, files: dict[str, str], placed: dict[str, None]) -> dict[str, None]:
    """A file behind all that it takes, which may take others in turn; each once."""
    for part in _TAKES.findall(files[name]):
        if part not in placed:
            _in_order(part, files, placed)
    placed[name] = None
    return placed


SCRIPTS = _load()


@contextmanager
def translated(url: str) -> Generator[None]:
    """Turn what redis-py raises into StoreUnavailable or ConfigError; the message never carries the URL's password."""
    try:
        yield
    except OutOfMemoryError as error:
        raise ServerFull(f"Redis at {safe_url(url)} is at its maxmemory: {cleaned(str(error))}") from error
    except AuthenticationError as error:
        raise ConfigError(f"Redis at {safe_url(url)} refuses the login: {cleaned(str(error))}") from error
    except TlsError as error:
        what = "TLS to" if url.startswith("rediss") else "Connecting to"
        raise StoreUnavailable(f"{what} {safe_url(url)} fails: {error}") from error
    except ReadOnlyError as error:
        raise ServerRefuses(f"Redis at {safe_url(url)} {REPLICA}") from error
    except _LOST as error:
        raise StoreUnavailable(
            f"Redis at {safe_url(url)} does not answer ({type(error).__name__}: {cleaned(str(error))}); "
            "check redis_url / GEMQUEUE_REDIS_URL and that the server runs"
        ) from error
    except ResponseError as error:
        said = cleaned(said_by(error))
        word = said.partition(" ")[0]
        if word == "OOM":
            raise ServerFull(f"Redis at {safe_url(url)} is at its maxmemory: {said}") from error
        if word in _PASSING:
            raise StoreUnavailable(f"Redis at {safe_url(url)} takes no writes for now: {said}") from error
        if says_cluster(error):
            raise ConfigError(f"{needs_cluster_url(url)} ({said})") from error
        if words := refusal(said):
            raise ServerRefuses(f"Redis at {safe_url(url)} {words}") from error
        raise
    except RedisError as error:
        raise StoreUnavailable(f"Redis at {safe_url(url)}: {cleaned(str(error))}") from error


def connect(url: str, key: str, connections_max: int = 32, **options: Any) -> redis.Redis:
    """A client on a pool that waits for a free connection instead of raising, on a Cluster one to where ``key`` is.

    Raises ConfigError for a bad URL.
    """
    return redis.Redis(connection_pool=make_pool(url, connections_max, key=key, **options))


def _script(class_name: str) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"_\1", class_name).lower()


class Call(msgspec.Struct, frozen=True, gc=False, tag=_script):
    """A call of the script that the class is named for; its fields are the script's arguments, in order (calls.py)."""

    @property
    def script(self) -> str:
        """The script's name."""
        return cast("str", self.__struct_config__.tag)

    def argv(self) -> tuple[Arg, ...]:
        """The arguments; those of a last field that is a list stand one by one, and flat where they are in groups."""
        args: tuple[Any, ...] = msgspec.structs.astuple(self)
        if not args or type(args[-1]) is not list:
            return args
        *plain, several = args
        return (*plain, *(chain.from_iterable(several) if several and isinstance(several[0], tuple) else several))


class Scripts:
    """Runs the scripts of ``lua/`` on one shard."""

    def __init__(self, client: redis.Redis, url: str, prefix: str, clock: Clock) -> None:
        self.client = client
        self.url = url
        self.prefix = prefix
        self._clock = clock
        self.replicate_ms = 0
        """How long to wait for a replica; 0 where nobody asks for one."""

    def now_arg(self) -> int:
        """The time that a script is told: the virtual one, or 0 for the server's own."""
        return self._clock.now_ms() if self._clock.virtual else 0

    async def run(
        self, call: Call, *, retry: bool = True, confirm: bool = False, before: tuple[Arg, ...] = ()
    ) -> list[Any]:
        """Run one script, after the command ``before``; its reply is a list whose first element is a word as bytes.

        ``confirm`` waits for a replica where that is asked for. Raises StoreUnavailable when the server stays away,
        NotReplicated when no replica has it within ``replicate_ms``.
        """
        name, args = call.script, call.argv()
        with translated(self.url):
            for attempt in range(_RETRIES):
                try:
                    if before or (confirm and self.replicate_ms):
                        return await self._piped(name, args, before, confirm=confirm)
                    return await self._once(name, args)
                except (*_LOST, NotReplicated) as error:
                    await self._try_elsewhere(error)
                    if not retry or attempt == _RETRIES - 1:
                        raise
                    await asyncio.sleep(_RETRY_FIRST_S * 4**attempt)
        raise AssertionError("unreachable")

    async def _once(self, name: str, args: tuple[Arg, ...]) -> list[Any]:
        sha, text = SCRIPTS[name]
        call = cast("Any", self.client)
        now = self.now_arg()
        try:
            try:
                return cast("list[Any]", await call.evalsha(sha, 1, self.prefix, now, *args))
            except NoScriptError:
                return cast("list[Any]", await call.eval(text, 1, self.prefix, now, *args))
        except ResponseError as error:
            raise itself(error) from None

    async def _piped(
        self, name: str, args: tuple[Arg, ...], before: tuple[Arg, ...], *, confirm: bool, whole: bool = False
    ) -> list[Any]:
        """In one round trip: the command, the script (``whole``: its text) and, where asked for, the replica's word."""
        pipe: Any = self.client.pipeline(transaction=False)
        now = self.now_arg()
        if before:
            pipe.execute_command(*before)
        wait = confirm and self.replicate_ms > 0
        for each, its_args in ((name, args), _CONFIRM) if wait else ((name, args),):
            sha, text = SCRIPTS[each]
            pipe.execute_command(*(("EVAL", text) if whole else ("EVALSHA", sha)), 1, self.prefix, now, *its_args)
        if wait:
            pipe.execute_command("WAIT", 1, self.replicate_ms)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        if not whole and any(isinstance(reply, NoScriptError) for reply in replies):
            return await self._piped(name, args, before, confirm=confirm, whole=True)
        return self._judged(replies, before=bool(before), wait=wait)

    def _judged(self, replies: list[Any], *, before: bool, wait: bool) -> list[Any]:
        own = replies[1 if before else 0 :]
        for reply in own:
            if isinstance(reply, Exception):
                raise itself(reply)
        if before and isinstance(replies[0], Exception) and own[0][0] == b"resend":
            raise replies[0]  # an earlier attempt's payload may still have been there, and registered
        if wait and int(own[-1]) < 1:
            raise NotReplicated(
                f"Redis at {safe_url(self.url)} has it, but no replica confirmed within {self.replicate_ms} ms "
                '(replicate_s; with durability = "local" none is waited for)'
            )
        return cast("list[Any]", own[0])

    async def _try_elsewhere(self, error: Exception) -> None:
        """A server that may not write, or has no replica any more, may have been replaced."""
        pool: Any = self.client.connection_pool
        if isinstance(error, NotReplicated) and isinstance(pool, (SentinelPool, ClusterPool)):
            with suppress(RedisError, OSError):
                await pool.ask()
        elif isinstance(error, ReadOnlyError):
            await drop_idle(pool)
