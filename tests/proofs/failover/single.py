"""Acknowledged writes that a single server loses: killed under a writer and started again from its log."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from gemqueue.config import Settings
from gemqueue.store.store import Store
from tests.proofs.failover.lost import Lost, Writer, found_lost, passing
from tests.proofs.failover.slow_disk import OPTIONS, is_stopped, slow_disk
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_WRITES = 50
_KEPT_BACK = 10
_TRIES = 100
_DELAYED = "aof_delayed_fsync"
"""Of INFO: how often the server had waited two seconds for an fsync, and wrote all the same."""


class Single(msgspec.Struct, frozen=True):
    """How the server writes its log, and what befalls it beside the kill."""

    appendfsync: str
    slow: bool = False
    """No fsync of the background ends, and the server dies while it keeps writes back, if it ever does."""
    torn_bytes: int = 0
    """So much of the log's end is gone when it starts again."""
    replica: bool = False
    """It has one, which confirms every write; the server is back before anybody promotes that."""


SINGLE: dict[str, Single] = {
    "kill -9, appendfsync always, slow disk": Single("always", slow=True),
    "kill -9, appendfsync no, slow disk": Single("no", slow=True),
    "kill -9, appendfsync everysec, slow disk": Single("everysec", slow=True),
    "kill -9, appendfsync everysec, disk as it is": Single("everysec"),
    "kill -9, everysec, slow disk, back at once": Single("everysec", slow=True, replica=True),
    "one server, its log's last 16 KB torn off": Single("no", torn_bytes=16 * 1024),
}


async def measure_single(case: str, *, before_s: float = 0.0) -> Lost:
    """Kill the server under a writer, start it again, and look for what was acknowledged.

    ``before_s`` is for how long more it is written to; and for how long it keeps writes back, where it does.
    """
    given = SINGLE[case]
    with _servers(given) as server:
        durability = "replicated" if given.replica else "local"
        settings = Settings(queue="lost", redis_url=server.url, durability=durability, replicate_s=0.3)
        store = Store(server.url, settings)
        writer = Writer(store)
        writing = asyncio.create_task(writer.run())
        await _kill(server, store, writer, given, before_s)
        known = len(writer.acknowledged)
        if given.torn_bytes:
            log = _log(server)
            log.write_bytes(log.read_bytes()[: -given.torn_bytes])
        await asyncio.to_thread(server.start)
        await writer.more(_WRITES)
        writer.stop()
        await writing
        await store.aclose()
        return await found_lost(case, settings, server.url, writer, known)


@contextmanager
def _servers(given: Single) -> Generator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), extra=("--appendfsync", given.appendfsync, *OPTIONS))
    follow = ("--replicaof", f"127.0.0.1 {server.port}", "--repl-timeout", "2")
    with server, ValkeyServer(extra=follow) if given.replica else nullcontext():
        yield server


async def _kill(server: ValkeyServer, store: Store, writer: Writer, given: Single, before_s: float) -> None:
    with slow_disk(server) if given.slow else nullcontext():
        await writer.more(_WRITES)
        await passing(before_s)
        if given.slow and given.appendfsync == "everysec":
            await until(lambda: _wrote_late(store), what="a write that waited for the fsync")
            await _stop_before_it_writes(server, writer, before_s)
        server.signal(signal.SIGKILL)
    await asyncio.to_thread(server.kill)


async def _wrote_late(store: Store) -> bool:
    return int((await store.redis.info("persistence"))[_DELAYED]) > 0


async def _stop_before_it_writes(server: ValkeyServer, writer: Writer, before_s: float) -> None:
    """Stop the server when some writes that it acknowledged are in its memory alone: its log did not grow meanwhile."""
    log = _log(server)
    for _ in range(_TRIES):
        size = log.stat().st_size
        await passing(before_s)
        await writer.more(_KEPT_BACK)
        server.signal(signal.SIGSTOP)
        await until(lambda: is_stopped(server), what="the server stands still")
        if log.stat().st_size == size:
            return
        server.signal(signal.SIGCONT)
    raise AssertionError(f"the server kept nothing back in {_TRIES} tries")


def _log(server: ValkeyServer) -> Path:
    return next(server.folder.glob("appendonlydir/*.incr.aof"))
