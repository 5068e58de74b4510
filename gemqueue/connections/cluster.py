"""A Redis Cluster: plain connections to the one node that owns the queue's slot.

``redis+cluster://host:port,host:port`` names nodes, any of which says who owns what (CLUSTER SLOTS). All keys of a
queue carry one tag, so they lie in one slot, and a queue needs one owner at a time. Who that is, is asked again once
in a while and whenever something goes wrong: a node that hands the slot over, or dies, is followed within a second of
the Cluster's own decision. While a slot moves, its keys are in two places and every call is refused, so all waits.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections.links import Named, TlsError
from gemqueue.connections.replies import code_of, said_by
from gemqueue.connections.tls import TlsConnection, checked
from gemqueue.errors import ConfigError
from gemqueue.urls import host_and_port, safe_url, url_parts

if TYPE_CHECKING:
    from gemqueue.urls import UrlParts

_SETTING: Final = "redis_url / GEMQUEUE_REDIS_URL"
_PORT: Final = 6379
_ASK_S: Final = 1.0
"""How often it is asked at most, while something is wrong."""
_LOOK_S: Final = 5.0
"""How often it is asked otherwise: a node that hangs says nothing that would be a reason."""
_NODE_S: Final = 1.0
_AGAIN: Final = 5
"""How often a call is sent again that was told to go elsewhere, after 50 ms and twice as long each time."""
_ELSEWHERE: Final = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""What a node says that does not serve the slot, or not all of it, for now."""
_OF_CLUSTER: Final = frozenset({"MOVED", "ASK", "CROSSSLOT"})


class Address(NamedTuple):
    """Where a node is."""

    host: str
    port: int


class SlotError(RedisConnectionError):
    """The node does not serve the queue's slot just now; another one does, or will."""


def needs_cluster_url(url: str) -> str:
    """What to say where a URL of one server leads to a node of a Cluster."""
    tls = "s" if url_parts(url).scheme.startswith("rediss") else ""
    return (
        f"Redis at {safe_url(url)} is a node of a Cluster: name the Cluster in {_SETTING}, as in "
        f"redis{tls}+cluster://[user:password@]host:port,host:port, which follows the queue to the node that has it"
    )


def says_cluster(error: ResponseError) -> bool:
    """Whether only a node of a Cluster answers so."""
    return code_of(error) in _OF_CLUSTER


class _OwnersConnection(Named, Connection):
    """A connection to whoever owns the slot when it is opened; what goes wrong on it is a reason to ask anew.

    A call that is told to go elsewhere has not run, so redis-py sends it again to the new owner, a few times.
    """

    def __init__(self, *, connection_pool: ClusterPool, **options: Any) -> None:
        self._pool = connection_pool
        again: Any = Retry(ExponentialBackoff(cap=1.0, base=0.025), _AGAIN, supported_errors=(SlotError,))
        cast("Any", super()).__init__(**(options | {"retry": again, "retry_on_error": [SlotError]}))

    async def _connect(self) -> None:
        self.host, self.port = await self._pool.find()
        try:
            await cast("Any", super())._connect()  # noqa: SLF001 - redis-py's hook
        except (RedisError, OSError):
            self._pool.doubt()
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises SlotError when the slot is elsewhere, or not served."""
        try:
            return await cast("Any", super()).read_response(*args, **options)
        except (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError):
            self._pool.doubt()
            raise
        except ResponseError as error:
            if code_of(error) not in _ELSEWHERE:
                raise
            self._pool.doubt()
            raise SlotError(said_by(error)) from error


class _OwnersTlsConnection(_OwnersConnection, TlsConnection):
    """The same by TLS."""


class ClusterPool(redis.BlockingConnectionPool):
    """Connections to the owner of one slot.

    A connection to an earlier owner is given up by whoever takes it next: redis-py's connections do not bear being
    disconnected by one task while another uses them.
    """

    def __init__(self, url: str, seeds: list[Address], slot: int, **options: Any) -> None:
        """``options`` are redis-py's; ``url`` is for what errors say."""
        cast("Any", super()).__init__(**options)
        self._url = url
        self._seeds = seeds
        self._slot = slot
        self._owner: Address | None = None
        self._failed: Exception | None = None
        """Why nobody has said who the owner is."""
        self._nodes: list[Address] = []
        """Whom to ask, the first one first."""
        self._line: Any = None
        """The open connection to the node that was asked last."""
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._is_doubtful = False
        cast("Any", self).connection_kwargs["connection_pool"] = weakref.proxy(self)

    def __repr__(self) -> str:
        """Where it begins to ask; redis-py's would print its connections' options, and this pool among them."""
        return f"<ClusterPool of {', '.join(f'{host}:{port}' for host, port in self._seeds)}>"

    def doubt(self) -> None:
        """Something is wrong with the owner: ask anew, as soon as that may be, and not the same node first."""
        if not self._is_doubtful:
            self._is_doubtful = True
            self._nodes = self._nodes[1:] + self._nodes[:1]

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """A connection to the present owner, as far as the nodes have said lately. Raises as ``find``."""
        await self.find()
        return await cast("Any", super()).get_connection()

    async def ensure_connection(self, connection: Any) -> None:
        """As redis-py's, but never on to an earlier owner."""
        if connection.is_connected and (connection.host, connection.port) != self._owner:
            await connection.disconnect()
        await cast("Any", super()).ensure_connection(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """As redis-py's; at the end, the connection to the node that is asked goes too."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self._hang_up()

    async def find(self) -> Address:
        """Who owns the slot, as it was said lately. Raises what the last node answered, or ConfigError."""
        if self._owner is None or self._is_due():
            async with self._asking:
                if self._is_due():
                    await self._ask()
        if self._owner is None:
            raise self._failed or SlotError("the Cluster was not asked")
        return self._owner

    async def ask(self) -> None:
        """Doubt the owner, and ask, if that may be. Raises as ``find``."""
        self.doubt()
        await self.find()

    def _is_due(self) -> bool:
        is_wrong = self._is_doubtful or self._owner is None
        return time.monotonic() - self._asked_at >= (_ASK_S if is_wrong else _LOOK_S)

    async def _ask(self) -> None:
        """Ask one node after the other; where none knows, the last owner stays the owner."""
        self._asked_at = time.monotonic()
        self._failed = SlotError(f"no node of {safe_url(self._url)} knows who serves slot {self._slot}")
        for node in dict.fromkeys((*self._nodes, *self._seeds)):
            try:
                owner, others = served(await self._slots(node), self._slot, node)
            except (RedisError, OSError) as error:
                if not isinstance(self._failed, (TlsError, ConfigError)):
                    self._failed = self._meaning(node, error)
            else:
                if owner is not None:
                    self._owner, self._is_doubtful = owner, False
                    self._nodes = [*dict.fromkeys((node, *others, owner))]
                    return
            await self._hang_up()
        self._is_doubtful = True

    def _meaning(self, node: Address, error: Exception) -> Exception:
        at = f"{node.host}:{node.port}"
        if isinstance(error, TlsError):
            return TlsError(f"at the Cluster's node {at}, {error}")
        if isinstance(error, ResponseError) and "cluster support disabled" in str(error):
            return ConfigError(
                f"{at} is no node of a Cluster: write redis:// or rediss:// in {_SETTING} ({safe_url(self._url)})"
            )
        return error

    async def _slots(self, node: Address) -> Any:
        if self._line is None or (self._line.host, self._line.port) != node:
            await self._hang_up()
            kwargs: dict[str, Any] = dict(cast("Any", self).connection_kwargs)
            del kwargs["connection_pool"]
            times = {"socket_timeout": _NODE_S, "socket_connect_timeout": _NODE_S}
            kind: Any = TlsConnection if issubclass(self.connection_class, SSLConnection) else Connection
            self._line = kind(**(kwargs | times | node._asdict()))
        await self._line.connect()
        await self._line.send_command("CLUSTER", "SLOTS")
        return await self._line.read_response()

    async def _hang_up(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            with suppress(RedisError, OSError):
                await line.disconnect()


def served(reply: Any, slot: int, asked: Address) -> tuple[Address | None, list[Address]]:
    """Who serves a slot, and all other nodes, by a node's answer to CLUSTER SLOTS; None where it knows of nobody.

    A node that does not know its own name leaves it out, or writes "?": then it is where it was asked.
    """
    owner: Address | None = None
    nodes: list[Address] = []
    for first, last, *holders in reply:
        found = [
            Address(_text(host) if _text(host) not in {"", "?"} else asked.host, port) for host, port, *_ in holders
        ]
        if first <= slot <= last and found:
            owner = found[0]
        nodes += found
    return owner, [node for node in nodes if node != owner]


def cluster_pool(url: str, parts: UrlParts, options: dict[str, Any], key: str) -> ClusterPool:
    """``redis+cluster://[user:password@]host:port,host:port``; the pool leads to the owner of ``key``'s slot.

    Raises ValueError where it cannot be read; ConfigError for a database, and where there is no ``key``.
    """
    scheme, login, hosts, path, query = parts
    seeds = [Address(host, port or _PORT) for host, port in map(host_and_port, hosts.split(","))]
    plain = f"{scheme.removesuffix('+cluster')}://{login}{'@' if login else ''}cluster{path}?{query}"
    asked: dict[str, Any] = dict(parse_url(plain))
    if path.strip("/") not in {"", "0"} or asked.pop("db", 0):
        raise ConfigError(f"{_SETTING} ({safe_url(url)}): a Cluster has database 0 alone; leave the number out")
    if not key:
        raise ConfigError(f"{_SETTING} ({safe_url(url)}): arq cannot run on a Cluster; `gemqueue work` does without it")
    del asked["host"]
    tls = asked.pop("connection_class", None) is SSLConnection
    if tls:
        asked = checked(asked, query)
    kind = _OwnersTlsConnection if tls else _OwnersConnection
    return ClusterPool(url, seeds, key_slot(key.encode()), connection_class=kind, **(options | asked))


def _text(host: Any) -> str:
    return host.decode() if isinstance(host, bytes) else host or ""
