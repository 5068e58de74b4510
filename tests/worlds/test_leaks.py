"""The check for leaks finds what it should find, or a clean bill from it would mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.leaks import leftovers, unowned_keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

CASES: list[tuple[str, dict[str, str], bool]] = [
    ("segment:s1", {"segmeta:s1": "live"}, True),
    ("segment:s1", {"segmeta:s1": "closed"}, False),
    ("outcomes:s1", {}, False),
    ("moved:s1", {"segmeta:s1": "live"}, True),
    ("moved:s1", {"segmeta:s1": "closed"}, False),
    ("moved:s1", {"segmeta:s1": "closed", "batch:s1": "ended"}, True),
    ("name:acc:doc-1", {"segmeta:s1": "live"}, True),
    ("name:acc:doc-1", {"segmeta:s1": "closed"}, False),
    ("manifest:b1", {"batch:b1": "sealed"}, True),
    ("manifest:b1", {"batch:b1": "closed"}, False),
    ("manifest:b1", {}, False),
    ("inbox:p1", {}, False),
    ("due:acc", {}, True),
    ("pending:l:t", {}, True),
]


@pytest.mark.parametrize(("key", "records", "owned"), CASES)
async def test_owned(redis: Redis, queue_name: str, key: str, records: dict[str, str], owned: bool) -> None:
    """A key without a TTL is a leak unless it is permanent or what it belongs to is live; with a TTL it never is."""
    prefix = f"{{gq:{queue_name}:0}}:"
    for record, state in records.items():
        await cast("Any", redis).hset(f"{prefix}{record}", mapping={"state": state, "batch": "s1"})
        await redis.expire(f"{prefix}{record}", 60)
    await redis.set(f"{prefix}{key}", "s1.0 digest")
    assert await unowned_keys(redis, queue_name) == ([] if owned else [f"{prefix}{key}"])
    await redis.expire(f"{prefix}{key}", 60)
    assert await unowned_keys(redis, queue_name) == []


async def test_leftovers(redis: Redis, queue_name: str) -> None:
    """In a drained queue only what a queue keeps and arq's queues have no TTL; an index that names work is work."""
    prefix = f"{{gq:{queue_name}:0}}:"
    for what in ("due:acc", "counts", "lane:l", "pending:l:t"):
        await redis.set(f"{prefix}{what}", "x")
    await redis.zadd(f"gq:{queue_name}:track", {"job": 1})
    await redis.set(f"gq:{queue_name}:mark", "x")
    assert await leftovers(redis, queue_name) == [f"gq:{queue_name}:mark", f"{prefix}due:acc", f"{prefix}pending:l:t"]
