"""Servers as operators have them: what refuses to tell of itself works, and what cannot work says so, with the way out.

Each server is a real one, set up as it is met: commands renamed away, as managed services do, a replica, a cluster, no
log, eviction, a user with too few rights.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from gemqueue import Queue
from gemqueue.errors import StoreUnavailable
from tests.cli.command import gemqueue
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import MODEL, Processes, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

REFUSED = ("INFO", "DBSIZE", "CONFIG", "CLIENT", "WAIT", "FUNCTION")
"""What managed services were seen to refuse."""
WITHOUT_JOBS = (
    "ACL SETUSER gq on >pw resetchannels &{gq:* ~{gq:* ~gq:* -@all +@read +@write +@connection +@transaction "
    "+@scripting -@dangerous +subscribe +unsubscribe +publish +time +info +dbsize +config|get"
)


def renamed(*commands: str) -> tuple[str, ...]:
    """A server's options that take commands away."""
    return tuple(word for command in commands for word in ("--rename-command", command, ""))


@asynccontextmanager
async def running(folder: Path, *extra: str, queue: str = "default") -> AsyncGenerator[tuple[ValkeyServer, Processes]]:
    """A server with options, and an emulator beside it."""
    server = ValkeyServer(port=free_port(), extra=extra)
    await asyncio.to_thread(server.start)
    try:
        async with Processes(folder, server, queue, {"watchdog_s": 0.2, "submit_timeout_s": 2.0}) as world:
            yield server, world
    finally:
        server.remove()


async def command(world: Processes, *arguments: str, **env: str) -> tuple[int, Any]:
    """A command's exit code, and the JSON that it printed."""
    ended = await asyncio.to_thread(gemqueue, *arguments, "--json", **world.env(**env))
    assert "Traceback" not in ended.stderr
    assert "defect" not in ended.stderr
    return ended.returncode, msgspec.json.decode(ended.stdout)


async def examined(world: Processes, **env: str) -> dict[str, tuple[str, str]]:
    """What ``doctor`` says, by what it looked at; the last of several."""
    _, findings = await command(world, "doctor", **env)
    return {finding["what"]: (finding["state"], finding["said"]) for finding in findings}


async def why_held(world: Processes) -> str:
    """Submit a prompt, and wait until its future says why nobody takes it."""
    async with Queue.connect(settings=world.settings) as queue:
        future = await queue.submit("one", model=MODEL)

        async def is_said() -> bool:
            await future.look()
            return "server: " in (future.held_reason or "")

        await until(is_said, what="a reason")
        return future.held_reason or ""


async def test_a_server_that_tells_nothing_of_itself_works(tmp_path: Path) -> None:
    """Without INFO, DBSIZE, CONFIG, CLIENT, WAIT and FUNCTION prompts are answered; doctor cannot see, and says it."""
    async with running(tmp_path, *renamed(*REFUSED)) as (_, world):
        world.start_worker()
        async with Queue.connect(settings=world.settings) as queue:
            assert (await queue.generate("one", model=MODEL)).text
        code, status = await command(world, "status")
        assert (code, status["counts"]["answered"], status["working"][0]["stuck"]) == (0, 1, False)
        assert "does not tell whether it keeps a log and evicts keys" in (tmp_path / "workers.log").read_text()
        assert (await command(world, "health", "--worker", "here"))[0] == 0
        assert (await command(world, "admin", "reconcile"))[0] == 0
        found = await examined(world)
        seen = {what: state for what, (state, said) in found.items() if said.startswith("cannot see")}
        assert seen == dict.fromkeys(["log", "eviction", "replicas", "memory", "restarts"], "warning")
        for what in ("version", "role", "cluster", "scripts", "rights", "steps", "workers"):
            assert found[what][0] == "ok", found[what]


async def test_nothing_is_good_that_was_not_seen(tmp_path: Path) -> None:
    """Without HELLO the version is not known either; whether it is a cluster is tried."""
    async with running(tmp_path, *renamed(*REFUSED, "HELLO")) as (_, world):
        found = await examined(world)
        assert found["version"] == (
            "warning",
            "cannot see its version: it must be Redis 6.2 or newer, or Valkey",
        )
        assert found["cluster"] == ("ok", "it is none")


@pytest.mark.parametrize(
    ("extra", "what", "said"),
    [
        (("--appendonly", "no", *renamed("CONFIG")), "log", "appendonly no"),
        (("--appendonly", "no", "--save", "60 1"), "log", "appendonly no"),
        (renamed("CONFIG"), "log", "cannot see how often its log reaches the disk"),
        (("--maxmemory", "300mb", "--maxmemory-policy", "allkeys-lru"), "eviction", "prompts are lost"),
        (("--maxmemory", "300mb", "--maxmemory-policy", "allkeys-lru", *renamed("CONFIG")), "eviction", "allkeys-lru"),
        (("--maxmemory", "300mb", "--maxmemory-policy", "volatile-lru", *renamed("CONFIG")), "eviction", "answers"),
    ],
)
async def test_what_may_be_lost_is_seen_without_config(
    tmp_path: Path, extra: tuple[str, ...], what: str, said: str
) -> None:
    """INFO tells of the log and of eviction where CONFIG is refused, as most managed services do."""
    async with running(tmp_path, *extra) as (_, world):
        found = await examined(world)
        assert (found[what][0], said in found[what][1]) == ("warning", True), found[what]


async def test_a_server_without_scripts_is_said(tmp_path: Path) -> None:
    """A service that refuses EVAL cannot keep a queue: doctor fails, and a producer is told why."""
    async with running(tmp_path, *renamed("EVAL", "EVALSHA", "SCRIPT")) as (_, world):
        found = await examined(world)
        assert (found["scripts"][0], "does not have a command that the queue needs" in found["scripts"][1]) == (
            "failed",
            True,
        )
        async with Queue.connect(settings=world.settings) as queue:
            with pytest.raises(StoreUnavailable, match="does not have a command that the queue needs"):
                await queue.submit("one", model=MODEL)


async def test_a_cluster_by_a_plain_url_is_said(tmp_path: Path) -> None:
    """A cluster of one node takes prompts and refuses arq's transaction: everybody names the right URL."""
    bus = ("--cluster-port", str(free_port()))  # the default is 10,000 above the port, which may be above them all
    async with running(tmp_path, "--cluster-enabled", "yes", *bus) as (server, world):
        with cast("Any", Redis)(port=server.port) as client:
            with pytest.raises(StoreUnavailable, match="takes no writes for now: CLUSTERDOWN"):
                async with Queue.connect(settings=world.settings):
                    pass
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def is_up() -> bool:
            with suppress(StoreUnavailable):
                return await world.store.counts() == {}
            return False

        await until(is_up, what="a cluster that is up")
        world.start_worker()
        reason = await why_held(world)
        assert "is a node of a Cluster: name the Cluster in redis_url" in reason
        assert "redis+cluster://" in reason
        _, status = await command(world, "status")
        assert (status["working"][0]["stuck"], status["lanes"][0]["held_reason"]) == (True, reason)
        found = await examined(world)
        assert [found[what][0] for what in ("cluster", "steps", "workers")] == ["failed", "failed", "warning"]
        assert "redis+cluster://" in found["cluster"][1]
        code, health = await command(world, "health")
        assert (code, "redis+cluster://" in health["said"]) == (1, True)
        assert "redis+cluster://" in (tmp_path / "workers.log").read_text()


async def test_a_worker_without_its_rights_is_said_and_goes_on_with_them(tmp_path: Path) -> None:
    """A user without arq's keys holds the prompts with a line to paste, no raw bytes; once pasted they are answered."""
    async with running(tmp_path) as (server, world):
        with cast("Any", Redis)(port=server.port) as client:
            client.execute_command(*WITHOUT_JOBS.split())
            world.start_worker(GEMQUEUE_REDIS_URL=f"redis://gq:pw@127.0.0.1:{server.port}")
            reason = await why_held(world)
            assert "refuses its user what a worker needs: ACL SETUSER gq ~arq:job:gq:default:* " in reason
            log = (tmp_path / "workers.log").read_text()
            assert "ACL SETUSER gq" in log
            assert "\ufffd" not in log
            assert "PSETEX" not in log
            found = await examined(world, GEMQUEUE_REDIS_URL=f"redis://gq:pw@127.0.0.1:{server.port}")
            assert (found["rights"][0], "a producer's alone" in found["rights"][1]) == ("ok", True)
            line = reason[reason.index("ACL SETUSER") :]
            client.execute_command(*line.split())

        async def answered() -> bool:
            return (await world.store.counts()).get("answered") == 1

        await until(answered, what="answered")


async def test_a_replica_is_said(tmp_path: Path) -> None:
    """A read-only replica takes no prompt, and producer and doctor say what to name in its place."""
    async with running(tmp_path) as (server, _):
        replica = ValkeyServer(port=free_port(), extra=("--replicaof", f"127.0.0.1 {server.port}"))
        await asyncio.to_thread(replica.start)
        try:
            async with AsyncRedis(port=replica.port) as client:
                called = cast("Any", client)

                async def in_step() -> bool:
                    return bool((await called.info("replication"))["master_link_status"] == "up")

                await until(in_step, what="in step")
            async with Processes(tmp_path / "b", replica, "default", {"submit_timeout_s": 1.0}) as other:
                found = await examined(other)
                state, said = found["role"]
                assert (state, "is a read-only replica: name its primary" in said) == ("failed", True)
                with pytest.raises(StoreUnavailable, match="is a read-only replica: name its primary"):
                    async with Queue.connect(settings=other.settings):
                        pass
        finally:
            replica.remove()
