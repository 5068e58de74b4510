"""Which keys of a queue outlive their reason: everything finished carries a TTL, everything live has an owner.

Keys are ``{gq:<queue>:<shard>}:<what>[:<id>]``; arq's own begin with ``gq:<queue>:`` or ``arq:``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEPT = frozenset(
    {
        "counts", "kept", "workers", "lanes", "lane", "rescue", "spent", "usage", "dead", "quarantine", "meta",
        "turnaround", "quota", "server", "pool", "account", "store", "clock", "tenant", "tally", "seal",
    }
)  # fmt: skip
"""What a queue that has nothing to do keeps."""
INDEXES = frozenset({"due", "batches", "pending", "later", "tenants", "waiting", "parked", "deadlines", "sums", "over"})
"""What names work that is to be done: Redis drops each when its last member leaves."""
OF_SEGMENT = frozenset({"segment", "segmeta", "settled", "outcomes", "names", "watch"})
OF_BATCH = frozenset({"batch", "manifest", "job"})
OF_RUN = frozenset({"run", "runlist"})


async def unowned_keys(client: Redis, queue: str) -> list[str]:
    """The keys without a TTL that nothing live needs, sorted; empty when the queue keeps its house clean."""
    return sorted([key for key in await _lasting_keys(client, queue) if not await _is_owned(client, key)])


async def leftovers(client: Redis, queue: str) -> list[str]:
    """The keys without a TTL that a queue with nothing left to do should not have: live work, and indexes of it."""
    keys = await _lasting_keys(client, queue)
    work = [key for key in keys if key.startswith("{") and _what(key) not in KEPT | {"reserved"}]
    return sorted({*work, *await unowned_keys(client, queue)})


async def _lasting_keys(client: Redis, queue: str) -> list[str]:
    """Every key of the queue, arq's included, that has no TTL."""
    keys = {
        _text(key)
        for pattern in (f"{{gq:{queue}:*", f"gq:{queue}:*", "arq:*")
        for key in await _call(client, "KEYS", pattern)
    }
    pipe = cast("Any", client).pipeline(transaction=False)
    for key in (names := list(keys)):
        pipe.ttl(key)
    # -1 is a key without a TTL; -2 one that has gone since.
    return [key for key, ttl_s in zip(names, await pipe.execute(), strict=True) if ttl_s == -1]


async def _is_owned(client: Redis, key: str) -> bool:
    if not key.startswith("{"):  # arq's queues may stay, its jobs, results and marks may not
        return _text(await _call(client, "TYPE", key)) == "zset"
    prefix, what, id_ = key.partition("}")[0] + "}", _what(key), key.rpartition(":")[2]
    if what == "name":
        id_ = _text(await _call(client, "GET", key)).partition(".")[0]  # "<segment>.<index> <digest of the body>"
    if what in OF_SEGMENT | {"name", "moved"} and await _segment_lives(client, prefix, id_):
        return True
    if what == "moved":  # needed until its batch is closed, even when its prompts were all answered elsewhere
        return await _batch_is_open(client, prefix, await _field(client, f"{prefix}:segmeta:{id_}", "batch"))
    if what in OF_RUN:  # lives as long as a segment of it
        return int(await _field(client, key.replace(":runlist:", ":run:", 1), "open") or "0") > 0
    if what == "job":
        id_ = _text(await _call(client, "GET", key))
    if what in OF_BATCH:
        return await _batch_is_open(client, prefix, id_)
    return what in KEPT | INDEXES or (what == "reserved" and await _reservations_are_owned(client, prefix, key))


async def _reservations_are_owned(client: Redis, prefix: str, key: str) -> bool:
    """Each entry cools off, or is of a batch that has a job or is about to."""
    entries: dict[bytes, bytes] = await _call(client, "HGETALL", key)
    open_ = [_text(batch) for batch, entry in entries.items() if _text(entry).split()[1] == "0"]
    return all([await _batch_is_open(client, prefix, batch) for batch in open_])


async def _segment_lives(client: Redis, prefix: str, segment: str) -> bool:
    return await _field(client, f"{prefix}:segmeta:{segment}", "state") == "live"


async def _batch_is_open(client: Redis, prefix: str, batch: str) -> bool:
    return await _field(client, f"{prefix}:batch:{batch}", "state") not in {"", "closed"}


async def _field(client: Redis, record: str, name: str) -> str:
    """A field of a record; empty where there is none."""
    return _text(await _call(client, "HGET", record, name) or b"")


async def _call(client: Redis, *words: str) -> Any:
    return await cast("Any", client).execute_command(*words)


def _what(key: str) -> str:
    return key.partition("}:")[2].partition(":")[0]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
