"""The ACL lines of docs/servers.md: with them, and nothing more, a producer and a worker do all that they do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from redis import Redis

from tests.cli.command import END_S_MAX, environment
from tests.cli.run.test_run import prompts
from tests.cli.run_world import MODEL, RunWorld
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Generator

SERVERS = (Path(__file__).parents[2] / "docs" / "servers.md").read_text(encoding="utf-8")
PASSWORD = "only-for-this-test"  # noqa: S105 - of a server that ends with the test
UNHEARD = {"client|setinfo", "client|setname", "setinfo"}
"""What redis-py says of itself when it connects, and does without where it is refused."""
PROGRAM = f"""
import asyncio
from gemqueue import PromptCancelled, Queue


async def main() -> None:
    async with Queue.connect() as queue:
        future = await queue.submit("one", model={MODEL!r}, name="doc-1")
        assert (await queue.submit("one", model={MODEL!r}, name="doc-1")).key == future.key
        assert (await future).text and (await queue.lookup("doc-1")).key == future.key
        assert (await queue.future(future.key)).text
        assert all(each.ok for each in await queue.map([f"row {{n}}" for n in range(30)], model={MODEL!r}))
        async for outcome in queue.stream(["a", "b"], model={MODEL!r}, deadline=3600, priority=3):
            assert outcome.ok
        assert await (await queue.submit("three", model={MODEL!r})).cancel()
        await future.look()
        await asyncio.sleep(1)


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> Generator[ValkeyServer]:
    """A server with the two users, as the docs make them."""
    with ValkeyServer(port=free_port()) as server, cast("Any", Redis)(port=server.port) as client:
        for line in SERVERS.splitlines():
            if line.startswith("ACL SETUSER gemqueue-") and ">PASSWORD" in line:
                client.execute_command(*line.replace("PASSWORD", PASSWORD).split())
        yield server


@pytest.fixture
def world(server: ValkeyServer, tmp_path: Path) -> Generator[RunWorld]:
    """A worker that works as the worker's user, and whose environment the commands have."""
    with RunWorld(tmp_path, url_of(server, "worker"), "default", 0.2) as world:
        yield world


def url_of(server: ValkeyServer, side: str) -> str:
    """The server's URL, with the login of a side."""
    return f"redis://gemqueue-{side}:{PASSWORD}@127.0.0.1:{server.port}"


def denied(server: ValkeyServer) -> set[tuple[str, str]]:
    """Who was refused what since the last look."""
    with cast("Any", Redis)(port=server.port, decode_responses=True) as client:
        found = {(entry["username"], entry["object"].lower()) for entry in client.acl_log()}
        client.acl_log_reset()
    return {(user, what) for user, what in found if what not in UNHEARD}


def commands(world: RunWorld, *several: tuple[str, ...], **env: str) -> list[Any]:
    """The JSON of each command; fails unless each exits with 0."""
    found: list[Any] = []
    for arguments in several:
        ended = world.command(*arguments, "--json", **env)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        found.append(msgspec.json.decode(ended.stdout))
    return found


async def test_a_producers_line_is_enough(server: ValkeyServer, world: RunWorld, tmp_path: Path) -> None:
    """Submit, wait, name, map, stream, cancel, a run, and every look, with nothing denied; doctor agrees."""
    url = url_of(server, "producer")
    env = environment(**(world.env | {"GEMQUEUE_REDIS_URL": url}))
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=END_S_MAX
    )
    assert ended.returncode == 0, ended.stderr
    source = prompts(tmp_path / "in.jsonl", 20)
    run = ("run", str(source), "-o", str(tmp_path / "out.jsonl"), "-m", MODEL, "--name", "nightly")
    looks = [
        ("status",),
        ("health",),
        ("show", "doc-1"),
        ("show", "nightly"),
        ("admin", "batches"),
        ("cancel", "doc-1"),
    ]
    commands(world, run, *looks, GEMQUEUE_REDIS_URL=url)
    assert world.command("admin", "metrics", GEMQUEUE_REDIS_URL=url).returncode == 0
    assert denied(server) == set()
    (findings,) = commands(world, ("doctor",), GEMQUEUE_REDIS_URL=url)
    (said,) = [finding["said"] for finding in findings if finding["what"] == "rights"]
    assert said.startswith(
        "a producer's alone: it refuses its user what a worker needs: ACL SETUSER gemqueue-producer "
    )
    denied(server)


async def test_a_workers_line_is_enough(server: ValkeyServer, world: RunWorld, tmp_path: Path) -> None:
    """Work, dead letters, reconcile, purge and every look, with nothing denied; doctor finds all rights."""
    world.emulator.faults([{"on": "row", "do": "error", "code": 13}])
    source = prompts(tmp_path / "in.jsonl", 3)
    run = ("run", str(source), "-o", str(tmp_path / "out.jsonl"), "-m", MODEL, "--name", "spoilt", "--json")
    assert world.command(*run).returncode == 1
    world.emulator.faults([])
    (dead,) = commands(world, ("admin", "dead", "list"))
    assert len(dead) == 3
    assert world.command("admin", "dead", "show", dead[0]["key"]).returncode == 0
    commands(world, ("admin", "dead", "replay", "--all"))

    async def answered() -> bool:
        (status,) = commands(world, ("status",))
        return bool(status["counts"]["answered"] >= 3)

    await until(answered, what="the replayed")
    looks = [("status",), ("health", "--worker", "here"), ("admin", "reconcile"), ("admin", "reconcile", "--apply")]
    commands(world, *looks, ("admin", "purge", "--run", "spoilt"))
    assert world.command("admin", "metrics").returncode == 0
    (findings,) = commands(world, ("doctor",))
    states = {finding["what"]: finding["state"] for finding in findings}
    assert (states["rights"], states["steps"], states["scripts"]) == ("ok", "ok", "ok")
    assert denied(server) == set()
