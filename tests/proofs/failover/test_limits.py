"""A server at its limits: full, read-only, loading, busy, without scripts, with a torn log; and lost replies."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue import Queue
from gemqueue.config import Settings
from gemqueue.errors import QueueFull, StoreUnavailable
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.usage import Charge, Spent
from gemqueue.records import Lane, LaneState
from gemqueue.states import Kind
from gemqueue.store.runs import RunStore
from gemqueue.store.scripts import ServerFull
from gemqueue.store.store import Store
from tests.proofs.failover.lost import one_prompt
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import Processes, until
from tests.worlds.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

MODEL = "gemini-3.8-flash"


@asynccontextmanager
async def _store(server: ValkeyServer, **settings: Any) -> AsyncGenerator[Store]:
    store = Store(server.url, Settings(queue="limits", redis_url=server.url, emulate=True, **settings))
    try:
        yield store
    finally:
        await store.aclose()


async def _write(store: Store) -> str:
    id_ = new_segment_id()
    assert (await store.enqueue(*one_prompt(id_, new_producer_id()))).word == "ok"
    return id_


async def _taken(store: Store) -> bool:
    try:
        await _write(store)
    except StoreUnavailable:
        return False
    return True


async def _refused(store: Store, word: str) -> None:
    """The server refuses with this word, a submit waits for it to pass, and says so when it does not."""
    with pytest.raises(StoreUnavailable, match=word):
        await _write(store)
    with pytest.raises(StoreUnavailable, match=word):
        await store.beat("worker", "pack", "emulated.local")


async def test_a_full_server_refuses_submits_and_drains(tmp_path: Path) -> None:
    """At maxmemory a submit gets QueueFull, and a worker, even one that starts then, finishes what is under way."""
    with ValkeyServer() as server:
        async with Processes(tmp_path, server, "full", {"submit_timeout_s": 0.3}, job_s=0.2) as world:
            keys = await world.submit([f"prompt {n}" for n in range(300)], segment_prompts=50)
            await world.store.redis.config_set("maxmemory", "1mb")  # below what an empty server has
            with pytest.raises(ServerFull):
                await _write(world.store)
            async with Queue.connect(settings=world.settings) as queue:
                with pytest.raises(QueueFull, match="maxmemory"):
                    await queue.submit("one more", model=MODEL)
            worker = world.start_worker()
            await until(world.finished, what="finished on a full server")
            assert worker.alive
            assert await world.store.workers(), "its heartbeat passes too"
            await world.store.redis.config_set("maxmemory", "0")
            async with Queue.connect(settings=world.settings) as queue:
                assert (await queue.generate("one more", model=MODEL)).text
            await world.drained()
            found = await world.outcomes()
            assert sorted(found) == sorted(keys)
            assert world.emulator.ledger()["bought_twice"] == []


async def test_a_full_server_lets_go_of_what_is_there() -> None:
    """What takes outcomes, forgets or counts goes on at maxmemory; only what brings in new prompts is refused."""
    with ValkeyServer() as server:
        store = RunStore(server.url, Settings(queue="limits", redis_url=server.url, emulate=True))
        async with aclosing(store):
            segment = await _write(store)
            await store.cancel(segment, 0, b"outcome")
            await store.redis.config_set("maxmemory", "1mb")
            with pytest.raises(ServerFull):
                await _write(store)
            await store.deliver([segment])
            await store.open_run("account", "run", "settings", "", [])
            await store.purge("account", "run", [segment])
            await store.purge_dead(["1-1"])
            await store.add_count("late", 2)
            await store.join_pool("pool.shared", "account")  # a worker's beat and sweep begin with these
            await store.leave_lane(LaneState(lane=Lane("emulated.a", "m", Kind.GENERATE), fence=0), "account: full")
            await store.add_counts({"events_refused_time": 3, "events_refused": 4})
            await store.add_spent(Lane("emulated.a", "m", Kind.GENERATE), {Charge(): Spent(answers=3)})
            await store.redis.config_set("maxmemory", "0")
            assert await store.gone([segment]) == {segment}
            counts = await store.counts()
            assert (counts["late"], counts["events_refused_time"], counts["events_refused"]) == (2, 3, 4)
            assert (await store.spent(Lane("emulated.a", "m", Kind.GENERATE))).answers == 3


async def test_a_read_only_server_is_waited_out() -> None:
    """A demoted server's READONLY delays submits, and they go through when it is master again."""
    with ValkeyServer() as server:
        async with _store(server) as store:
            await store.redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            await _refused(store, "is a read-only replica")
            await store.redis.execute_command("REPLICAOF", "NO", "ONE")
            await until(lambda: _taken(store), what="master again")


async def test_a_busy_server_is_waited_out() -> None:
    """While somebody's script blocks the server (BUSY), submits wait; nothing is written twice afterwards."""
    with ValkeyServer(extra=("--busy-reply-threshold", "50")) as server:
        async with _store(server) as store, _store(server) as other:
            await _write(store)
            endless = asyncio.create_task(other.redis.eval("while true do end", 0))

            async def busy() -> bool:
                try:
                    await store.ping()
                except StoreUnavailable:
                    return True
                return False

            await until(busy, what="busy")
            await _refused(store, "BUSY")
            await store.redis.script_kill()
            await asyncio.gather(endless, return_exceptions=True)
            await until(lambda: _taken(store), what="no longer busy")
            assert (await store.counts())["accepted"] == 2


async def test_a_server_that_cannot_save_is_waited_out() -> None:
    """MISCONF, after a snapshot that failed, delays submits and heartbeats; they go through once it is mended."""
    with ValkeyServer(extra=("--save", "3600 1")) as server:
        (server.folder / "dump.rdb").mkdir()
        async with _store(server) as store:
            await _write(store)
            await store.redis.bgsave()

            async def failed() -> bool:
                return not await _taken(store)

            await until(failed, what="a snapshot failed")
            await _refused(store, "MISCONF")
            (server.folder / "dump.rdb").rmdir()
            await store.redis.bgsave()
            await until(lambda: _taken(store), what="mended")


async def test_a_loading_server_is_waited_out() -> None:
    """While a restarted server still loads its log, a submit waits; what had been acknowledged is there again."""
    slow = ("--key-load-delay", "250")  # microseconds; it looks up from its log every 1,024 commands
    with ValkeyServer() as server:
        async with _store(server) as store:
            ids = [await _write(store) for _ in range(10)]
            await store.redis.eval("for i = 1, 6000 do redis.call('SET', 'pad' .. i, '', 'EX', 600) end", 0)
            await asyncio.to_thread(server.kill)
            server.extra = slow
            starting = threading.Thread(target=server.start)
            starting.start()
            words: set[str] = set()

            async def taken() -> bool:
                try:
                    await _write(store)
                except StoreUnavailable as error:
                    words.update(word for word in ("BusyLoadingError", "ConnectionError") if word in str(error))
                    return False
                return True

            await until(taken, what="loaded")
            await asyncio.to_thread(starting.join)
            assert "BusyLoadingError" in words
            assert await store.gone(ids) == set()


async def test_a_dropped_script_cache_costs_nothing() -> None:
    """SCRIPT FLUSH before every write (NOSCRIPT): each is written once, at the first try."""
    with ValkeyServer() as server:
        async with _store(server) as store:
            for _ in range(20):
                await store.redis.script_flush()
                await _write(store)
            assert (await store.counts())["accepted"] == 20


async def test_a_lost_reply_registers_nothing_twice() -> None:
    """Connections that break after the effect: each prompt is registered once, and its future gets its key."""
    with ValkeyServer(port=free_port()) as server:
        async with TcpProxy(server.port) as proxy:
            settings = Settings(queue="limits", redis_url=proxy.url, emulate=True, flush_ms=0.1)
            async with Queue.connect(settings=settings) as queue:
                for n in range(20):
                    proxy.lose_replies(n % 2)
                    await queue.submit(f"prompt {n}", model=MODEL)
                assert proxy.resets >= 10
                assert (await queue.counts())["accepted"] == 20


@pytest.mark.parametrize("cut_bytes", [1, 60, 300])
async def test_a_torn_log_loses_whole_writes_of_its_end_only(cut_bytes: int) -> None:
    """A log cut short in its last write loads (aof-load-truncated): that write is gone as a whole, no other is.

    Asking again for what is gone registers it once, so a producer that still has the prompt loses nothing.
    """
    with ValkeyServer() as server:
        async with _store(server) as store:
            ids = [await _write(store) for _ in range(5)]
            before = await store.counts()
            lost, body = one_prompt(new_segment_id(), new_producer_id())
            await store.enqueue(lost, body)
            await asyncio.to_thread(server.kill)
            log = next(server.folder.glob("appendonlydir/*.incr.aof"))
            log.write_bytes(log.read_bytes()[:-cut_bytes])
            await asyncio.to_thread(server.start)
            assert await store.gone([*ids, lost.id]) == {lost.id}
            assert await store.counts() == before
            assert (await store.enqueue(lost, body)).word == "ok"
            assert (await store.counts())["accepted"] == 6


async def test_a_torn_log_can_be_made_to_stop_the_server() -> None:
    """With aof-load-truncated no, a server refuses to start on a torn log instead of losing its end unasked."""
    with ValkeyServer() as server:
        async with _store(server) as store:
            await _write(store)
            await asyncio.to_thread(server.kill)
            log = next(server.folder.glob("appendonlydir/*.incr.aof"))
            log.write_bytes(log.read_bytes()[:-1])
            server.extra = ("--aof-load-truncated", "no")
            with pytest.raises(AssertionError, match="Unexpected end of file"):
                await asyncio.to_thread(server.start)


async def test_what_a_full_redis_refuses_to_queue_is_no_transaction() -> None:
    """The ledger, what was spent and a worker's goodbye need no MULTI: a full Redis, unlike a Valkey, refuses that."""
    with ValkeyServer() as server:
        async with _store(server) as owner:
            await owner.redis.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-multi")
            store = RunStore(server.url.replace("unix://", "unix://u:p@"), owner.settings)
            await store.heartbeat("w", "pack", "emulated.local")
            await store.goodbye("w", "pack")
            assert await store.workers() == []
            assert (await store.ledger("emulated.local")).reservations == ()
            assert await store.charges(Lane("emulated.local", MODEL, Kind.GENERATE)) == {}
            await store.aclose()
