"""How the server is reached: what a URL says, and the pool of connections that it makes.

``redis://``, ``rediss://`` and ``unix://`` name a server. ``redis+sentinel://host:port,host:port/service/db`` names
sentinels, which say who the master is, and ``redis+cluster://`` nodes of a Cluster (``cluster``). A connection to a
master that has been replaced does not always break: one that is cut off from its sentinels and replicas goes on
answering. So the sentinels are asked again every second, and when another server is master, the connections to the old
one are given up.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any, cast

import redis.asyncio as redis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gemqueue.connections.cluster import cluster_pool
from gemqueue.connections.links import PlainConnection, SentinelPlainConnection, TlsError, UnixConnection
from gemqueue.connections.tls import SentinelTlsConnection, TlsConnection, checked, untold_weakness
from gemqueue.errors import ConfigError
from gemqueue.urls import (
    CLUSTER_SCHEMES,
    SENTINEL_SCHEMES,
    UrlParts,
    check_brackets,
    host_and_port,
    safe_url,
    url_parts,
)

log = logging.getLogger("gemqueue")

_ASK_S = 1.0
_SENTINEL_PORT = 26379
_SAME_EVERYWHERE: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
"""What releases of redis-py differ in: from 6 its clients repeat calls that failed, and from 8 they speak RESP3.

A claim must not be repeated, and replies of RESP3 have other shapes.
"""
_KINDS: dict[type | None, type] = {
    None: PlainConnection,
    SSLConnection: TlsConnection,
    UnixDomainSocketConnection: UnixConnection,
}
"""What redis-py would connect by, and what is taken in its place."""
_FORMS = (
    "redis://[user:password@]host:port/db, rediss://..., unix:///path, "
    "redis+sentinel://[user:password@]host:port,host:port/service/db, or "
    "redis+cluster://[user:password@]host:port,host:port, with an IPv6 address in brackets "
    "([::1]:6379) and special characters in the password percent-encoded"
)


def make_pool(url: str, connections_max: int = 32, *, key: str = "", **options: Any) -> redis.ConnectionPool:
    """A pool that waits for a free connection instead of raising; ``options`` are redis-py's, and the URL's win.

    On a Cluster it leads to the node that has ``key``, and to all keys of the same tag. Connects to nothing yet. What
    the URL leaves unchecked of TLS is warned of, once. Raises ConfigError when the URL cannot be read.
    """
    defaults: dict[str, Any] = {
        "max_connections": connections_max,
        "timeout": 30,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 0,
        **_SAME_EVERYWHERE,
    }
    try:
        made: Any = _pool(url, defaults | options, key)
        made.make_connection()  # an option that redis-py does not know shows here
    except (ValueError, TypeError):
        # redis-py's own words may quote a piece of the password.
        raise ConfigError(
            f"redis_url / GEMQUEUE_REDIS_URL ({safe_url(url)}) cannot be read: write it as {_FORMS}"
        ) from None
    if weak := untold_weakness(url):
        log.warning(weak)
    return cast("redis.ConnectionPool", made)


def _pool(url: str, options: dict[str, Any], key: str) -> redis.ConnectionPool:
    parts = url_parts(url)
    if parts.scheme in SENTINEL_SCHEMES:
        return _sentinel_pool(parts, options)
    if parts.scheme in CLUSTER_SCHEMES:
        return cluster_pool(url, parts, options, key)
    check_brackets(parts.hosts)
    asked: dict[str, Any] = dict(parse_url(url))
    kind = asked.pop("connection_class", None)
    if kind is SSLConnection:
        asked = checked(asked, parts.query)
    asked["connection_class"] = _KINDS[kind]
    pool_class: Any = Pool
    return cast("redis.ConnectionPool", pool_class(**(options | asked)))


class Pool(redis.BlockingConnectionPool):
    """Connections to one server."""

    def __repr__(self) -> str:
        """Where they lead; redis-py 6 shows the password beside it."""
        where: dict[str, Any] = cast("Any", self).connection_kwargs
        return f"<Pool of {where.get('path') or where.get('host', 'localhost')}>"


class SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the server that the sentinels call master.

    A connection to an earlier master is given up by whoever takes it next: redis-py's connections do not bear being
    disconnected by one task while another uses them.
    """

    refusals: list[str]
    """Why sentinels were not trusted, latest last."""
    _asked_at = 0.0

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """A connection to the present master, as far as the sentinels have said within the last second."""
        if time.monotonic() - self._asked_at >= _ASK_S:
            with suppress(RedisError, OSError):  # what connections there are may still serve
                await self.ask()
        return await cast("Any", super()).get_connection()

    async def ask(self) -> None:
        """Ask who the master is."""
        self._asked_at = time.monotonic()
        await self.get_master_address()

    async def get_master_address(self) -> tuple[str, int]:
        """What the sentinels say now."""
        manager: Any = self.sentinel_manager
        self.refusals.clear()
        try:
            address: tuple[str, int] = await manager.discover_master(self.service_name)
        except MasterNotFoundError:
            if self.refusals:
                raise TlsError(f"at the sentinel {self.refusals[-1]}") from None
            raise MasterNotFoundError(f"no sentinel that answers knows a live master {self.service_name!r}") from None
        self.master_address = address
        return address

    async def ensure_connection(self, connection: Any) -> None:
        """As redis-py's, but never on to an earlier master."""
        if connection.is_connected and (connection.host, connection.port) != cast("Any", self.master_address):
            await connection.disconnect()
        await cast("Any", super()).ensure_connection(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """As redis-py's; at the end, the connections to the sentinels go too."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            sentinels: list[Any] = cast("Any", self.sentinel_manager).sentinels
            for sentinel in sentinels:
                await sentinel.connection_pool.disconnect()


async def drop_idle(pool: Any) -> None:
    """Disconnect what nobody uses just now, out of everybody's reach."""
    idle: list[Any] = pool._available_connections  # noqa: SLF001 - redis-py's disconnect leaves them to be taken meanwhile
    pool._available_connections = []  # noqa: SLF001
    for connection in idle:
        with suppress(RedisError, OSError):
            await connection.disconnect()


def _sentinel_pool(parts: UrlParts, options: dict[str, Any]) -> SentinelPool:
    """``redis+sentinel://[user:password@]host:port,host:port/service[/db]?sentinel_username=...&sentinel_password=...``."""
    scheme, login, hosts, path, query = parts
    service, _, db = path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("no service")
    plain = f"{scheme.removesuffix('+sentinel')}://{login}{'@' if login else ''}sentinel/{db}?{query}"
    asked: dict[str, Any] = dict(parse_url(plain))
    del asked["host"]
    tls = asked.pop("connection_class", None) is SSLConnection
    if tls:
        asked = checked(asked, query)
    named = {name: options[name] for name in ("client_name",) if name in options}
    to_sentinel = _sentinel_options(asked) | {"ssl": tls} | _SAME_EVERYWHERE | named
    sentinel: Any = Sentinel
    manager = sentinel([_address(host) for host in hosts.split(",")], sentinel_kwargs=to_sentinel)
    connection = SentinelTlsConnection if tls else SentinelPlainConnection
    pool_class: Any = SentinelPool
    made: SentinelPool = pool_class(service, manager, connection_class=connection, **(options | asked))
    made.refusals = []
    for each in manager.sentinels:
        each.connection_pool.connection_class = TlsConnection if tls else PlainConnection
        each.connection_pool.connection_kwargs["refusals"] = made.refusals
    return made


def _sentinel_options(asked: dict[str, Any]) -> dict[str, Any]:
    """How sentinels are reached, whose login is taken out of ``asked``. ``ssl_hostname`` is the servers' name alone."""
    options: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    for name in ("username", "password"):
        if (value := asked.pop(f"sentinel_{name}", None)) is not None:
            options[name] = value
    return options | {name: asked[name] for name in asked if name.startswith("ssl_") and name != "ssl_hostname"}


def _address(text: str) -> tuple[str, int]:
    host, port = host_and_port(text)
    return host, port or _SENTINEL_PORT
