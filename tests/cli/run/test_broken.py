"""What a run finds broken in the store costs its own rows, is named, and is not bought again by itself."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from tests.cli.run.test_run import prompts
from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.valkey_server import ValkeyServer

SMALL = {"GEMQUEUE_SEGMENT_PROMPTS_MAX": "3"}


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module."""
    with RunWorld(tmp_path_factory.mktemp("broken"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def forgotten(out: Path) -> None:
    """OUT is lost, and what was known of it."""
    out.unlink()
    out.with_name(f"{out.name}.gemqueue").unlink()


async def key_of(redis: Redis, world: RunWorld, what: str) -> bytes:
    """The first key of the queue's whose name has this in it."""
    queue = world.env["GEMQUEUE_QUEUE"]
    found: list[bytes] = await cast("Any", redis).keys(f"{{gq:{queue}:*:{what}*")
    return min(found)


async def test_broken_outcomes_cost_their_own_rows(world: RunWorld, tmp_path: Path, redis: Redis) -> None:
    """Rows whose outcomes cannot be read are failures that say so, the others are answers, and nothing is bought."""
    source, out = prompts(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    arguments = ("run", str(source), "-o", str(out), "-m", MODEL, "--json", "-q", "--name", "outcomes")
    assert world.command(*arguments, **SMALL).returncode == 0
    await cast("Any", redis).lset(await key_of(redis, world, "outcomes:"), 0, b"junk")
    forgotten(out)
    ended = world.command(*arguments, **SMALL)
    report = msgspec.json.decode(ended.stdout)
    assert (report["answered"], report["failed"], report["submitted"], "defect" in ended.stderr) == (3, 3, 0, False)
    errors = [row["error"]["message"] for row in rows_of(out).values() if "error" in row]
    assert len(errors) == 3
    assert all("its outcome cannot be read (not a zstd frame" in said for said in errors)


async def test_a_broken_entry_is_not_bought_beside(world: RunWorld, tmp_path: Path, redis: Redis) -> None:
    """An entry of the run's list that cannot be read is named, and its rows are bought again only when told to."""
    source, out = prompts(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    arguments = ("run", str(source), "-o", str(out), "-m", MODEL, "--json", "-q", "--name", "entries")
    assert world.command(*arguments, **SMALL).returncode == 0
    await cast("Any", redis).lset(await key_of(redis, world, "runlist:*:entries"), 0, b"junk")
    assert world.command(*arguments, **SMALL).returncode == 0, "OUT has all rows"
    forgotten(out)
    ended = world.command(*arguments, **SMALL)
    assert ended.returncode == 2
    assert "run entries: entry 0 cannot be read (1 such entry): up to 3 rows that would be bought" in ended.stderr
    report = msgspec.json.decode(world.command(*arguments, "--buy-again", **SMALL).stdout)
    assert (report["answered"], report["submitted"]) == (6, 3)
