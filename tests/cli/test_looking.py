"""Looking at prompts, batches and runs, and giving them up, while their job is at the provider and afterwards."""

from __future__ import annotations

import asyncio
import secrets
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.errors import PromptCancelled
from tests.cli.command import gemqueue, start
from tests.cli.run.test_run import prompts
from tests.cli.run_world import MODEL, RunWorld, rows_of
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from gemqueue import Future, Queue
    from tests.valkey_server import ValkeyServer

JOB_S = 36_000.0
"""No job of this world ends before it is told to."""


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module; its jobs end when ``finish`` says so."""
    with RunWorld(tmp_path_factory.mktemp("look"), valkey.url, f"t{secrets.token_hex(6)}", JOB_S) as world:
        yield world


def asked(world: RunWorld, *arguments: str) -> Any:
    """The JSON that a command prints; fails unless it exits with 0."""
    ended = world.command(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return msgspec.json.decode(ended.stdout)


async def at_the_provider(world: RunWorld, queue: Queue, word: str) -> tuple[list[Future], str]:
    """Three named prompts in one batch whose job runs; their futures, and the batch."""
    submits = [queue.submit(f"{word} {n} \x1b[31m", model=MODEL, name=f"{word}-{n}") for n in range(3)]
    futures = list(await asyncio.gather(*submits))
    found: list[dict[str, Any]] = []

    async def running() -> bool:
        found[:] = [line for line in asked(world, "admin", "batches") if line["state"] == "submitted"]
        return bool(found)

    await until(running, what="submitted")
    return futures, str(found[0]["id"])


async def finish(world: RunWorld) -> None:
    """All jobs end, and their batches are closed."""
    world.emulator.advance(JOB_S + 1)

    async def closed() -> bool:
        return bool(asked(world, "admin", "batches") == [])

    await until(closed, what="closed")


async def test_a_prompt_by_name_and_key_and_its_batch(world: RunWorld, queue: Queue) -> None:
    """NAME and KEY show the same: request, lane, batch, then the outcome; BATCH shows its job; text steers nothing."""
    word = secrets.token_hex(4)
    futures, batch = await at_the_provider(world, queue, word)
    by_name, by_key = asked(world, "show", f"{word}-1"), asked(world, "show", futures[1].key)
    assert by_name == by_key
    assert (by_name["sort"], by_name["settled"], by_name["batch"]) == ("prompt", False, batch)
    assert by_name["request"]["contents"][0]["parts"] == [{"text": f"{word} 1 \x1b[31m"}]
    job = asked(world, "show", batch)
    assert (job["sort"], job["state"], job["prompts"]) == ("batch", "submitted", 3)
    assert job["lane"] == by_name["lane"] == f"emulated.local/{MODEL}/generate/batch"
    assert "held_cause" not in job
    assert job["job"] in {job["name"] for job in world.emulator.ledger()["jobs"]}
    human = world.command("show", futures[1].key).stdout + world.command("admin", "batches").stdout
    assert f"{word} 1" in human
    assert "\x1b" not in human
    assert "submitted" in human
    await finish(world)
    answer = await futures[1]
    shown = asked(world, "show", futures[1].key)
    assert (shown["settled"], shown["outcome"]["response"]) == (True, answer.decoded)
    assert asked(world, "show", batch)["state"] == "closed"


async def test_cancel_one_prompt_then_the_rest_of_its_batch(world: RunWorld, queue: Queue) -> None:
    """A name is one prompt, a batch is all that it still owes; who comes too late is told; the job is given up."""
    word = secrets.token_hex(4)
    futures, batch = await at_the_provider(world, queue, word)
    assert asked(world, "cancel", f"{word}-0") == {"cancelled": 1, "too_late": 0, "where": {"submitted": 1}}
    with pytest.raises(PromptCancelled):
        await futures[0]
    assert asked(world, "status")["batches"][0]["settled"] == 1
    assert asked(world, "cancel", batch) == {"cancelled": 2, "too_late": 0, "where": {"submitted": 2}}
    for future in futures[1:]:
        with pytest.raises(PromptCancelled):
            await future
    human = world.command("cancel", batch)
    assert (human.returncode, human.stdout) == (0, "0 cancelled, 0 had their outcome\n")
    await finish(world)


async def test_cancel_a_prompt_that_is_answered(world: RunWorld, queue: Queue) -> None:
    """Too late is said, exits with 0, and changes nothing."""
    word = secrets.token_hex(4)
    futures, _ = await at_the_provider(world, queue, word)
    await finish(world)
    answer = await futures[2]
    assert asked(world, "cancel", futures[2].key) == {"cancelled": 0, "too_late": 1, "where": {}}
    assert asked(world, "show", f"{word}-2")["outcome"]["response"] == answer.decoded


async def test_cancel_a_run_at_the_provider(world: RunWorld, tmp_path: Path) -> None:
    """The run that waits for its job ends by itself, with failures; `retry` asks for them again."""
    source, out = prompts(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl"
    command = ("run", str(source), "-o", str(out), "-m", MODEL, "--name", "given-up", "--json", "-q")
    with start(*command, **world.env) as process:

        async def running() -> bool:
            return any(line["state"] == "submitted" for line in asked(world, "admin", "batches"))

        await until(running, what="submitted")
        assert asked(world, "cancel", "--run", "given-up") == {"cancelled": 5, "too_late": 0, "where": {"submitted": 5}}
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, msgspec.json.decode(stdout)["failed"]) == (1, 5)
    assert "gemqueue admin retry --run given-up" in stderr
    assert {row["error"]["message"].partition(":")[0] for row in rows_of(out).values()} == {"cancelled"}
    await finish(world)
    with start("admin", "retry", "--run", "given-up", "--json", "-q", **world.env) as process:
        await until(running, what="submitted again")
        await finish(world)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, msgspec.json.decode(stdout)["answered"]) == (0, 5)
    assert len(rows_of(out)) == 5


def test_retry_of_nothing(world: RunWorld, tmp_path: Path) -> None:
    """A run that nobody knows, and one that wrote to a pipe, are refused in words."""
    ended = world.command("admin", "retry", "--run", "nobody")
    assert (ended.returncode, "no run 'nobody'" in ended.stderr, ended.stdout) == (2, True, "")
    source = prompts(tmp_path / "in.jsonl", 1)
    with start("run", str(source), "-o", "-", "-m", MODEL, "--name", "piped", **world.env) as process:
        assert process.stderr is not None
        while "1 submitted" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    ended = world.command("admin", "retry", "--run", "piped")
    assert (ended.returncode, "a pipe" in ended.stderr) == (2, True)
    assert asked(world, "cancel", "--run", "piped")["cancelled"] == 1


def test_what_nobody_knows(world: RunWorld) -> None:
    """An unknown name, key or batch is said by each command, with exit 2."""
    for command in (("show",), ("cancel",), ("admin", "purge")):
        for word in ("nobody", f"{'0' * 22}.0", f"00b{'0' * 20}")[: 3 if command == ("show",) else 1]:
            ended = world.command(*command, word)
            assert (ended.returncode, "known" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


def test_config_names_its_file(tmp_path: Path) -> None:
    """A setting from GEMQUEUE_CONFIG says so, and a person sees the same as JSON does."""
    file = tmp_path / "mine.toml"
    file.write_text("linger_s = 9\n", encoding="utf-8")
    env = {"GEMQUEUE_CONFIG": str(file), "GEMQUEUE_SWEEP_S": "2"}
    values = {value["name"]: value for value in msgspec.json.decode(gemqueue("config", "--json", **env).stdout)}
    assert values["linger_s"] == {"name": "linger_s", "value": 9.0, "source": str(file)}
    assert values["sweep_s"]["source"] == "GEMQUEUE_SWEEP_S"
    assert values["API key"]["value"] == "not set"
    lines = gemqueue("config", **env).stdout.splitlines()
    assert any(line.split() == ["linger_s", "=", "9.0", f"({file})"] for line in lines)


def test_doctor_names_variables_that_nobody_reads(world: RunWorld) -> None:
    """A GEMQUEUE_ variable of no setting is a warning; a healthy queue with a worker has no failure."""
    ended = world.command("doctor", "--json", GEMQUEUE_FLAVOUR="vanilla")
    found = {finding["what"]: finding for finding in msgspec.json.decode(ended.stdout)}
    assert (found["variables"]["state"], "GEMQUEUE_FLAVOUR" in found["variables"]["said"]) == ("warning", True)
    assert ended.returncode == 1
    assert "failed" not in {finding["state"] for finding in found.values()}
    assert (found["workers"]["state"], found["settings"]["state"], found["account"]["said"]) == (
        "ok",
        "ok",
        "emulated.local",
    )
    human = world.command("doctor").stdout
    assert "ok" in human
    assert "emulated.local" in human
