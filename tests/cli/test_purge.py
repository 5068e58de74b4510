"""``gemqueue admin purge``: nothing of a run or a prompt is left, here or at the provider; neighbours keep theirs."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from gemqueue import Answer, Queue
from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError, PromptFailed
from gemqueue.store import codec
from gemqueue_workers.manage import show
from gemqueue_workers.manage.purge import purge
from gemqueue_workers.run.connection import connected
from tests.cli.command import gemqueue
from tests.cli.run.test_run import prompts
from tests.cli.run_world import MODEL, RunWorld, rows_of
from tests.emulator_process import EmulatorProcess
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.valkey_server import ValkeyServer

KEY = {"x-goog-api-key": "emulated-local"}


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module."""
    with RunWorld(tmp_path_factory.mktemp("purge"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def at_provider(url: str, job: str) -> int:
    """The status of a look at the job."""
    return httpx.get(f"{url}/v1beta/{job}", headers=KEY).status_code


def files_at_provider(url: str) -> int:
    """How many files the provider keeps for us."""
    return len(httpx.get(f"{url}/v1beta/files", headers=KEY).json().get("files", []))


async def shown(env: dict[str, str], what: str) -> dict[str, Any]:
    """What ``show`` says, without a process for it. Raises ConfigError when it is not known."""
    async with connected(load_settings(env=env), with_worker=False) as link:
        return await show.show(link, what)


def purged(world: RunWorld, *arguments: str) -> dict[str, Any]:
    """What ``purge`` says it took away."""
    ended = world.command("admin", "purge", *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = msgspec.json.decode(ended.stdout)
    return found


async def values_with(env: dict[str, str], text: str) -> list[str]:
    """The keys of the queue whose value holds the text, in the clear or compressed."""
    found: list[str] = []
    async with cast("Any", Redis).from_url(env["GEMQUEUE_REDIS_URL"]) as client:
        async for key in client.scan_iter(match=f"{{gq:{env['GEMQUEUE_QUEUE']}:*"):
            kind = await client.type(key)
            values: list[bytes] = []
            if kind == b"string":
                values = [await client.get(key)]
            elif kind == b"list":
                values = await client.lrange(key, 0, -1)
            elif kind == b"hash":
                values = list((await client.hgetall(key)).values())
            elif kind == b"stream":
                values = [value for _, fields in await client.xrange(key) for value in fields.values()]
            if any(text.encode() in each for value in values for each in (value, _expanded(value))):
                found.append(key.decode())
    return found


def _expanded(value: bytes) -> bytes:
    try:
        return codec.expand(value)
    except ValueError:
        return b""


async def test_a_run_is_gone_here_and_at_the_provider(world: RunWorld, tmp_path: Path) -> None:
    """Bodies, outcomes, dead letters and the record go, and the job and its files at the provider; OUT stays."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    word = secrets.token_hex(8)
    rows = [{"key": f"k{n}", "prompt": f"{word} {n}{' [[fault:internal]]' if n == 1 else ''}"} for n in range(3)]
    source.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    world.run(source, out, "--name", "mine", code=1)
    batches = [(await shown(world.env, f"mine/k{n}"))["batch"] for n in range(3)]
    jobs = [(await shown(world.env, batch))["job"] for batch in batches]
    assert {at_provider(world.emulator.url, job) for job in jobs} == {200}
    assert await values_with(world.env, word) != []  # a dead letter keeps its body
    before = out.read_bytes()
    found = purged(world, "--run", "mine")
    assert (found["prompts"], found["left"]) == (3, [])
    assert found["jobs"] >= 4, "the job of the run, and those of the retries"
    assert await values_with(world.env, word) == []
    assert {at_provider(world.emulator.url, job) for job in jobs} == {404}
    assert files_at_provider(world.emulator.url) == 0
    with pytest.raises(ConfigError, match="'mine' is no"):
        await shown(world.env, "mine")
    assert out.read_bytes() == before


async def test_what_the_provider_refuses_is_said_and_can_be_repeated(world: RunWorld, tmp_path: Path) -> None:
    """When the provider does not answer, nothing is purged here either; the same command does it later."""
    world.run(prompts(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl", "--name", "twice")
    world.emulator.faults([{"on": "delete", "do": "503"}])
    try:
        ended = world.command("admin", "purge", "--run", "twice")
    finally:
        world.emulator.faults([])
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert (await shown(world.env, "twice"))["rows"] == 2
    assert purged(world, "--run", "twice")["prompts"] == 2


async def test_a_prompt_goes_without_its_neighbours(world: RunWorld, queue: Queue) -> None:
    """One of three in a segment: its request, answer and name are gone, the others' answers are as they were."""
    word = secrets.token_hex(8)
    names = [f"{word}-{n}" for n in range(3)]
    outcomes = await queue.map([{"contents": f"Say {name}", "name": name} for name in names], model=MODEL)
    assert {outcome.key.partition(".")[0] for outcome in outcomes} == {outcomes[0].key.partition(".")[0]}
    assert (await shown(world.env, names[1]))["key"] == outcomes[1].key
    await until(lambda: _closed(world, outcomes[1].key), what="closed")
    found = purged(world, names[1])
    assert (found["prompts"], found["jobs"], found["key"], found["left"]) == (1, 1, outcomes[1].key, [])
    assert await values_with(world.env, f"Say {names[1]}") == []
    assert "purged" in (await shown(world.env, outcomes[1].key))["outcome"]["failure"]["message"]
    with pytest.raises(PromptFailed, match="purged"):
        await queue.future(outcomes[1].key)
    for name, outcome in ((names[0], outcomes[0]), (names[2], outcomes[2])):
        assert isinstance(outcome, Answer)
        assert (await shown(world.env, name))["outcome"]["response"] == outcome.decoded
    again = await queue.submit(f"Say {names[1]}", model=MODEL, name=names[1])
    assert again.key != outcomes[1].key
    assert (await again).ok


async def _closed(world: RunWorld, key: str) -> bool:
    batch = (await shown(world.env, key))["batch"]
    return bool((await shown(world.env, batch))["state"] == "closed")


async def test_a_prompt_goes_out_of_a_segment_that_still_waits(world: RunWorld) -> None:
    """A cancelled prompt's request leaves the body that its neighbour still needs, and the neighbour is answered."""
    word = secrets.token_hex(8)
    elsewhere = world.env | {"GEMQUEUE_QUEUE": f"t{secrets.token_hex(6)}"}
    settings = Settings(redis_url=world.env["GEMQUEUE_REDIS_URL"], queue=elsewhere["GEMQUEUE_QUEUE"], emulate=True)
    async with Queue.connect(settings=settings) as queue:
        submits = [queue.submit(f"{word} {n}", model=MODEL, name=f"{word}-{n}") for n in range(2)]
        first, second = await asyncio.gather(*submits)
        segment = first.key.partition(".")[0]
        assert second.key.partition(".")[0] == segment
        async with connected(load_settings(env=elsewhere), with_worker=False) as link:
            with pytest.raises(ConfigError, match="still under way"):
                await purge(link, f"{word}-0", "")
        await first.cancel()
        ended = gemqueue("admin", "purge", f"{word}-0", "--json", **elsewhere)
        assert ended.returncode == 0, ended.stderr
        assert await values_with(elsewhere, f"{word} 0") == []
        assert any(f"segment:{segment}" in key for key in await values_with(elsewhere, f"{word} 1"))
        worker = RunWorld.worker(elsewhere)
        try:
            assert (await second).ok
        finally:
            worker.kill()
            worker.wait()


async def test_the_embedded_emulator_forgets_too(tmp_path: Path) -> None:
    """Without any server of one's own: the job is gone at the emulator that the command started by itself."""
    data = Path(tempfile.mkdtemp(prefix="gqp-", dir="/tmp"))
    env = {"GEMQUEUE_DATA_DIR": str(data), "GEMQUEUE_LINGER_S": "0.05", "GEMQUEUE_POLL_FIRST_S": "0.1"}
    source, out = prompts(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl"
    try:
        ended = gemqueue("run", str(source), "-o", str(out), "-m", MODEL, "--name", "local", "--emulate", **env)
        assert ended.returncode == 0, ended.stderr
        there = env | {"GEMQUEUE_EMULATE": "1"}
        job = (await shown(there, (await shown(there, "local/k0"))["batch"]))["job"]
        with EmulatorProcess(data / "emulated" / "emulator") as emulator:
            assert at_provider(emulator.url, job) == 200
        ended = gemqueue("admin", "purge", "--run", "local", "--json", "--emulate", **env)
        assert ended.returncode == 0, ended.stderr
        assert msgspec.json.decode(ended.stdout)["jobs"] == 1
        with EmulatorProcess(data / "emulated" / "emulator") as emulator:
            assert at_provider(emulator.url, job) == 404
            assert emulator.ledger()["rows_bought"] in {0, 2}
        assert set(rows_of(out)) == {"k0", "k1"}
    finally:
        shutil.rmtree(data, ignore_errors=True)


def test_what_cannot_be_purged(world: RunWorld) -> None:
    """Nothing, both, and something unknown are refused in words."""
    assert "either" in world.command("admin", "purge", "a", "--run", "b").stderr
    for arguments in (("--run", "nobody"), (f"{'0' * 22}.3",)):
        ended = world.command("admin", "purge", *arguments)
        assert (ended.returncode, "known" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)
