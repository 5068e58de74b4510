"""What producers and workers share of the store: connection, keys, reading."""

from __future__ import annotations

from functools import lru_cache, partial
from sys import intern
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.accounts import made_of_key
from gemqueue.clock import Clock, clock_from_env
from gemqueue.connections.links import client_name
from gemqueue.errors import SealError, StoreUnavailable
from gemqueue.ids import SHARD
from gemqueue.policy.servers import config_of
from gemqueue.records import Batch, Known, Lane, LaneState, SegmentMeta
from gemqueue.sealing.box import is_sealed_text
from gemqueue.setting_values import waits_for_replica
from gemqueue.states import BatchState, SegmentState
from gemqueue.store import calls
from gemqueue.store.scripts import Scripts, ServerError, connect, translated
from gemqueue.store.seals.ring import Seals
from gemqueue.store.unreadable import Unreadable, is_wrong_type, reading
from gemqueue.urls import safe_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.config import Settings
    from gemqueue.states import Step

_META_FIELDS = (
    "state", "count", "bytes", "raw_bytes", "lane", "attempt", "requeues", "producer", "batch", "keys", "tenant",
    "priority", "tokens", "named", "deadline_at", "doubts",
)  # fmt: skip
_BATCH_INTS = frozenset(field.name for field in msgspec.structs.fields(Batch) if field.type in (int, "int"))
_TOLD = frozenset({"appendonly", "maxmemory", "maxmemory-policy"})
_KEYS_TYPE = list[tuple[str, list[int]]]


def names_go_with_key(account: str) -> str:
    """The same, where it is known that there are some."""
    own = account.rpartition(".")[2]
    return (
        f"Names and runs belong to the account, and {account} is made of the API key: a new key knows none of them, "
        f"and buys them again. With account = {own!r} (GEMQUEUE_ACCOUNT={own}) every key of the project keeps them"
    )


class StoreBase:
    """One queue in one Redis or Valkey. Raises StoreUnavailable from every method when the server stays away.

    ``memory`` is what the process remembers of the server, by account; a process that makes stores anew lends it to
    each of them. ``role`` is part of the name that the server's ``CLIENT LIST`` shows.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        clock: Clock | None = None,
        memory: dict[str, Known] | None = None,
        *,
        role: str = "command",
    ) -> None:
        self.settings = settings
        self.memory: dict[str, Known] = {} if memory is None else memory
        self.clock = clock or clock_from_env()
        self.prefix = f"{{gq:{settings.queue}:{SHARD}}}"
        self.url = url
        named = client_name(settings.queue, role)
        self.redis: Any = connect(url, self.prefix, client_name=named)  # redis-py 5.3 types async calls as either kind
        self.scripts = Scripts(self.redis, url, self.prefix, self.clock)
        self.unreadable = Unreadable()
        """The malformed records that were met, and left out."""
        self.seals = Seals(lambda: self.scripts, self.key, settings)
        self.replicated = waits_for_replica(settings.durability, url)
        if self.replicated:
            self.scripts.replicate_ms = int(settings.replicate_s * 1000)

    def known(self, account: str) -> Known:
        """What this process remembers of the server for an account."""
        return self.memory.setdefault(account, Known())

    def key(self, *parts: str) -> str:
        """The Redis key of a thing."""
        return ":".join((self.prefix, *parts))

    async def replies(self, pipe: Any) -> list[Any]:
        """A pipeline's replies; in the place of one for a key of another type than asked for stands its error."""
        found: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in found:
            if isinstance(reply, Exception) and not is_wrong_type(reply):
                raise reply
        return found

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the server answers."""
        with translated(self.url):
            await self.redis.ping()

    async def server_now_ms(self) -> int:
        """The clock that decides, in ms."""
        if self.clock.virtual:
            return self.clock.now_ms()
        with translated(self.url):
            seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def confirm(self) -> None:
        """Return when a replica has everything that was written before; at once where ``durability`` asks for none.

        Raises NotReplicated.
        """
        if self.scripts.replicate_ms:
            await self.scripts.run(calls.Confirm(""), confirm=True)

    async def server_info(self, *sections: str) -> dict[str, Any]:
        """What the server says of itself; empty when it will not say."""
        try:
            with translated(self.url):
                info: dict[str, Any] = await self.redis.info(*sections)
        except (StoreUnavailable, ServerError):  # some managed servers refuse INFO
            return {}
        return info

    async def replicas(self) -> int | None:
        """How many replicas are connected and in step; None when the server will not say."""
        info = await self.server_info("replication")
        if "connected_slaves" not in info:
            return None
        return sum(1 for n in range(info["connected_slaves"]) if info[f"slave{n}"]["state"] == "online")

    async def server_config(self) -> dict[str, str]:
        """What of the server's configuration bears on what it keeps, as far as CONFIG or else INFO tells it."""
        try:
            with translated(self.url):
                log: dict[str, str] = await self.redis.config_get("*append*")  # 6.2 takes one pattern a call
                memory: dict[str, str] = await self.redis.config_get("maxmemory*")
        except (StoreUnavailable, ServerError):  # managed servers refuse CONFIG
            log = memory = {}
        known = log | memory
        return known if known.keys() >= _TOLD else config_of(await self.server_info()) | known

    async def durability_warnings(self) -> list[str]:
        """What the server's configuration puts at risk whenever it runs, in words; also that it tells nothing of it."""
        config = await self.server_config()
        warnings: list[str] = []
        if not config:
            warnings.append(
                f"Redis at {safe_url(self.url)} does not tell whether it keeps a log and evicts keys (CONFIG and INFO "
                "are refused): look for appendonly yes and maxmemory-policy noeviction in the provider's console"
            )
        if config.get("appendonly") == "no":
            warnings.append(
                f"Redis at {safe_url(self.url)} has no append-only file: a restart loses prompts (appendonly yes)"
            )
        if config.get("maxmemory", "0") != "0" and config.get("maxmemory-policy", "noeviction") != "noeviction":
            warnings.append(
                f"Redis at {safe_url(self.url)} evicts keys when it is full: prompts are lost "
                "(maxmemory-policy noeviction)"
            )
        return warnings

    async def key_warning(self, account: str) -> str:
        """What a new API key would cost, in words, where names or runs were given to an account that is made of one."""
        if not made_of_key(self.settings, account):
            return ""
        with translated(self.url):
            named: bool = await self.redis.hexists(self.key("account", account), "named_at")
        return names_go_with_key(account) if named else ""

    async def hasten(self, step: Step, id_: str, account: str) -> bool:
        """Look now; False when there is no such step. A lane's prompts that wait are packed without lingering."""
        reply = await self.scripts.run(calls.Hasten(f"{step} {id_}", account))
        return bool(reply[0] == b"ok")

    async def counts(self) -> dict[str, int]:
        """Every counter that the transitions keep, and the gauge ``live_bytes``."""
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("counts"))
        names = {name.decode(errors="replace"): value for name, value in raw.items()}
        read = {name: self.unreadable.read(f"counter {name}", int, value) for name, value in names.items()}
        return {name: value for name, value in read.items() if value is not None}

    async def batch_in(self, id_: str, raw: dict[bytes, bytes]) -> Batch:
        """A batch's record as Redis has it; what is sealed of it is opened where that can be done here.

        Raises StoreError when it cannot be read.
        """
        batch = batch_of(id_, raw)
        if not is_sealed_text(batch.error):
            return batch
        try:
            error = await self.seals.open_text("batch", id_, batch.error)
        except (SealError, ValueError) as problem:
            error = f"its error is sealed: {problem}"
        return msgspec.structs.replace(batch, error=error)

    async def segment_metas(self, ids: list[str]) -> list[SegmentMeta | None]:
        """What is known of each segment, in order; None for one that is gone, or cannot be read (``unreadable``)."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for id_ in ids:
                pipe.hmget(self.key("segmeta", id_), _META_FIELDS)
            rows: list[list[bytes | None]] = await self.replies(pipe) if ids else []
        read = self.unreadable.read
        return [read(segment_record(id_), partial(_meta, id_), row) for id_, row in zip(ids, rows, strict=True)]

    async def bitmaps(self, settled: Iterable[str], moved: Iterable[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """The settled bitmaps of origins and the moved bitmaps of segments; absent ones are empty."""
        origins, segments = list(settled), list(moved)
        with translated(self.url):
            values = await self._mget(
                [self.key("settled", id_) for id_ in origins] + [self.key("moved", id_) for id_ in segments]
            )
        found = [value or b"" for value in values]
        return dict(zip(origins, found, strict=False)), dict(zip(segments, found[len(origins) :], strict=True))

    async def gone(self, segments: Iterable[str]) -> set[str]:
        """Those of the segments that nothing is known of any more: all of their outcomes had come, and have expired."""
        ids = list(segments)
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for id_ in ids:
                pipe.exists(self.key("segmeta", id_))
            found: list[int] = await pipe.execute() if ids else []
        return {id_ for id_, there in zip(ids, found, strict=True) if not there}

    async def bodies(self, ids: list[str]) -> list[bytes | None]:
        """The compressed bodies of segments, in order; None for one that is gone. Raises SealError."""
        with translated(self.url):
            values = await self._mget([self.key("segment", id_) for id_ in ids])
        return await self.seals.open_all("segment", zip(ids, values, strict=True))

    async def owners(self, segments: Iterable[str]) -> dict[str, str]:
        """Whose each segment is; ``default`` for one that is gone."""
        ids = list(segments)
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for id_ in ids:
                pipe.hget(self.key("segmeta", id_), "tenant")
            found: list[bytes | None] = await pipe.execute() if ids else []
        return {id_: (tenant or b"default").decode() for id_, tenant in zip(ids, found, strict=True)}

    async def bodiless(self, segments: Iterable[str]) -> list[str]:
        """Those of the segments whose bodies are not there: they have ended, or their bodies are lost."""
        ids = list(segments)
        found: list[int] = []
        with translated(self.url):
            for start in range(0, len(ids), 500):
                pipe: Any = self.redis.pipeline(transaction=False)
                for id_ in ids[start : start + 500]:
                    pipe.exists(self.key("segment", id_))
                found += await pipe.execute()
        return [id_ for id_, there in zip(ids, found, strict=True) if not there]

    async def _mget(self, keys: list[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for start in range(0, len(keys), 500):
            values += await self.redis.mget(keys[start : start + 500])
        return values

    async def aclose(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()


def keys_of(packed: bytes) -> tuple[str, ...]:
    """The keys of a retry segment's lines, in order."""
    origins = msgspec.msgpack.decode(packed, type=_KEYS_TYPE)
    return tuple(f"{origin}.{index}" for origin, indices in origins for index in indices)


_lane_named = lru_cache(256)(Lane.parse)
"""Of 50,000 segments in one step, a copy each of what they share would be half of what is held."""


def _meta(id_: str, row: list[bytes | None]) -> SegmentMeta | None:
    if row[0] is None:
        return None
    text = [value.decode() if value is not None and i != 9 else "" for i, value in enumerate(row)]
    keys: tuple[str, ...] = ()
    if row[9]:
        keys = keys_of(row[9])
    return SegmentMeta(
        id=id_,
        state=SegmentState(text[0]),
        count=int(text[1] or 0),
        bytes=int(text[2] or 0),
        raw_bytes=int(text[3] or 0),
        lane=_lane_named(text[4]),
        attempt=int(text[5] or 0),
        requeues=int(text[6] or 0),
        producer=intern(text[7]),
        batch=intern(text[8]),
        keys=keys,
        tenant=intern(text[10] or "default"),
        priority=int(float(text[11] or 0)),
        tokens=int(text[12] or 0),
        named=bool(text[13]),
        deadline_at=int(text[14] or 0),
        doubts=int(text[15] or 0),
    )


def segment_record(id_: str) -> str:
    """What the record of a segment is called where it cannot be read."""
    return f"segment {id_}"


def batch_of(id_: str, raw: dict[bytes, bytes]) -> Batch:
    """A batch's record as Redis has it. Raises UnreadableRecord."""
    with reading(f"batch {id_}"):
        return _batch(id_, raw)


def _batch(id_: str, raw: dict[bytes, bytes]) -> Batch:
    values: dict[str, Any] = {
        "id": id_,
        "state": BatchState(raw[b"state"].decode()),
        "lane": Lane.parse(raw[b"lane"].decode()),
    }
    for name in Batch.__struct_fields__:
        value = raw.get(name.encode())
        if value is None or name in values:
            continue
        if name in _BATCH_INTS:
            values[name] = int(value or 0)
        else:
            values[name] = value.decode(errors="replace")
    return Batch(**values)


def lane_of(id_: str, raw: dict[bytes, bytes]) -> LaneState:
    """A lane's record as Redis has it. Raises UnreadableRecord."""
    with reading(f"lane {id_}"):
        return _lane(id_, raw)


def _lane(id_: str, raw: dict[bytes, bytes]) -> LaneState:
    def number(name: str) -> int:
        return int(raw.get(name.encode(), b"0") or 0)

    return LaneState(
        lane=Lane.parse(id_),
        fence=number("fence"),
        prompts=number("prompts"),
        segments=number("segments"),
        raw_bytes=number("raw_bytes"),
        tokens=number("tokens"),
        ceiling=number("ceiling"),
        oldest=number("oldest"),
        batch=raw.get(b"batch", b"").decode(),
        token_ratio=float(raw.get(b"token_ratio", b"1")),
        held_reason=raw.get(b"held_reason", b"").decode(),
    )
