"""Nothing of a prompt, an answer or a name can be read in a sealed queue's server, in its files or in the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from redis.asyncio import Redis

from gemqueue import Queue
from tests.cli.command import start
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import until
from tests.worlds.sealed import Holder, everything, files_of, sealed_stages
from tests.worlds.stages import MODEL, Stages, open_stages

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.emulator_process import EmulatorProcess

WORDS = ("zebrakumquat", "doc-parsnip", "row-turnip", "systemquince")
"""What is in prompts, and so in the emulator's answers; a name; a run's key; a run's config."""


async def _live(stages: Stages, folder: Path, holder: Holder | None) -> None:
    """Everything that holds bytes of a prompt: answers, names, retries, dead letters, stray rows, refusals, a run."""
    stages.emulator.faults(
        [
            {"on": "row", "do": "foreign", "nth": [1]},
            {"on": "row", "do": "error", "code": 3, "message": "not zebrakumquat", "nth": [2]},
            {"on": "create", "do": "400", "message": "bad line: zebrakumquat", "nth": [1]},
            {"on": "job", "do": "failed", "code": 13, "message": "on zebrakumquat", "nth": [2]},
        ]
    )
    await stages.submit("zebrakumquat", "zebrakumquat [[fault:internal]]", "zebrakumquat [[fault:refuse_line]]")
    await stages.drain()
    stages.emulator.faults([])
    given: dict[str, Any] = {"seal": True, "seal_wrapper": holder.wrapper} if holder else {}
    async with Queue.connect(settings=msgspec.structs.replace(stages.settings, seal=False), **given) as queue:
        for n in range(40):
            await queue.submit(f"zebrakumquat {n}", model=MODEL, name=f"doc-parsnip-{n}", tenant=f"t{n % 3}")
        await (await queue.submit("zebrakumquat", model=MODEL)).cancel()
    await _run(stages, folder, holder)
    counts = await stages.store.counts()
    assert all(counts.get(name, 0) for name in ("answered", "failed", "requeued", "cancelled", "quarantined")), counts
    assert [letter.kind async for letter in stages.store.dead_letters()] == ["provider"]
    await stages.submit("zebrakumquat waits")


async def _run(stages: Stages, folder: Path, holder: Holder | None) -> None:
    """``gemqueue run`` on nine rows."""
    lines = [msgspec.json.encode({"key": f"row-turnip-{n}", "contents": f"zebrakumquat {n}"}) for n in range(9)]
    (folder / "in.jsonl").write_bytes(b"\n".join(lines))
    (folder / "config.json").write_text('{"system_instruction": "systemquince"}')
    env = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    arguments = ("run", str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"), "-m", MODEL, "--name", "fruit")
    config = ("--config", str(folder / "config.json"))
    process = start(*arguments, *config, **env, **(holder.env if holder else {}), GEMQUEUE_EMULATE="1")

    async def ended() -> bool:
        await stages.drain()
        return process.poll() is not None

    await until(ended)
    assert process.returncode == 0, process.communicate()
    process.communicate()


async def _found(
    emulator: EmulatorProcess, queue: str, folder: Path, holder: Holder | None, said: pytest.CaptureFixture[str]
) -> dict[str, set[str]]:
    """By place, the words that can be read there."""
    with ValkeyServer(extra=("--rdbcompression", "no")) as server:
        opened = (
            sealed_stages(server.url, queue, emulator, holder) if holder else open_stages(server.url, queue, emulator)
        )
        async with opened as stages, cast("Any", Redis).from_url(server.url) as redis:
            await _live(stages, folder, holder)
            places = {"server": await everything(redis), "log": "".join(said.readouterr()).encode()}
            await redis.save()
            places["files"] = files_of(server.folder)
    return {place: {word for word in WORDS if word.encode() in text} for place, text in places.items()}


async def test_nothing_can_be_read(
    emulator: EmulatorProcess, queue_name: str, tmp_path: Path, holder: Holder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thief of the server's memory, of its snapshot and its log of writes, and of our logs, reads no word of ours."""
    found = await _found(emulator, queue_name, tmp_path, holder, capsys)
    assert found == {"server": set(), "log": set(), "files": set()}


async def test_without_a_seal_it_can(
    emulator: EmulatorProcess, queue_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same search finds every word in the server and in its files where nothing is sealed: it is able to."""
    found = await _found(emulator, queue_name, tmp_path, None, capsys)
    assert found["server"] == set(WORDS)
    assert found["files"] >= {"zebrakumquat", "doc-parsnip"}
