"""Acknowledged writes that a single server loses: killed under a writer and started again from its log."""

from __future__ import annotations

import asyncio

from gemqueue.config import Settings
from gemqueue.store import Store
from tests.failover.lost import Lost, Writer, missing, passing
from tests.valkey_server import ValkeyServer

SINGLE: dict[str, tuple[str, int]] = {
    "one server, kill -9, appendfsync always": ("always", 0),
    "one server, kill -9, appendfsync everysec": ("everysec", 0),
    "one server, kill -9, appendfsync no": ("no", 0),
    "one server, its log's last 16 KB torn off": ("everysec", 16 * 1024),
}
"""How the server writes its log, and how many bytes of its end are gone when it starts again."""


async def measure_single(case: str, *, before_s: float = 0.5, after_s: float = 0.5) -> Lost:
    """Kill the server under a writer after ``before_s``, start it again, and look for what was acknowledged."""
    fsync, torn_bytes = SINGLE[case]
    with ValkeyServer(extra=("--appendfsync", fsync)) as server:
        settings = Settings(queue="lost", redis_url=server.url)
        store = Store(server.url, settings)
        writer = Writer(store)
        writing = asyncio.create_task(writer.run())
        await passing(before_s)
        await asyncio.to_thread(server.kill)
        known = len(writer.acknowledged)
        if torn_bytes:
            log = next(server.folder.glob("appendonlydir/*.incr.aof"))
            log.write_bytes(log.read_bytes()[:-torn_bytes])
        await asyncio.to_thread(server.start)
        await passing(after_s)
        writer.stop()
        await writing
        await store.aclose()
        gone = await missing(server.url, settings, writer.acknowledged)
    return Lost(
        failover=case,
        durability="local",
        acknowledged=len(writer.acknowledged),
        acknowledged_after=len(writer.acknowledged) - known,
        unknown=writer.unknown,
        lost=gone,
        stalled_ms=writer.stalled_ms,
    )
