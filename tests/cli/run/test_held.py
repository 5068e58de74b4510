"""What a run says while its batches do not move on: on its bar, in its lines, and in the report when it is stopped."""

from __future__ import annotations

import asyncio
import io
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from gemqueue.config import Settings
from gemqueue.store.runs import RunStore
from gemqueue_workers.run.options import RunOptions
from gemqueue_workers.run.progress import Progress
from gemqueue_workers.run.runner import Runner
from tests.cli.command import start
from tests.cli.run_world import MODEL

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "emulated.local"
DENIED = "results of job batches/x denied since 14:02 UTC; given up at 20:02 UTC"


async def batch(store: RunStore, id_: str, lane: str, **held: str | int) -> None:
    """A batch whose job has ended, as a resolver leaves it."""
    record = {"v": 3, "state": "ended", "lane": lane, "fence": 1, "prompts": 1, "created_at": store.clock.now_ms()}
    await store.redis.hset(store.key("batch", id_), mapping=record | held)
    await store.redis.zadd(store.key("batches"), {id_: 1})


@pytest.mark.parametrize("pool", ["", "shared"])
async def test_a_doubt_is_shown_before_other_reasons(
    redis_url: str, queue_name: str, tmp_path: Path, pool: str
) -> None:
    """Of several held batches the one in doubt is named, with until when; the report of a stopped run has it too."""
    settings = Settings(queue=queue_name, emulate=True, redis_url=redis_url, pool=pool)
    source = tmp_path / "in.jsonl"
    source.write_text('{"key": "a", "prompt": "nobody answers"}\n')
    said, store = io.StringIO(), RunStore(redis_url, settings)
    since = store.clock.now_ms() - 120_000
    own, of_run = f"{ACCOUNT}/{MODEL}/generate/batch", {"pool": f"emulated.pool.{pool}"} if pool else {}
    await store.redis.zadd(store.key("workers"), {"w pack": store.clock.now_ms() + 600_000})
    await batch(store, "00b1", own, held_cause="quota", held_reason="open jobs", held_since=since, **of_run)
    await batch(store, "00b2", own, held_cause="doubt", held_reason=DENIED, held_since=since, **of_run)
    await batch(store, "00b3", f"{ACCOUNT}/other/generate/batch", held_cause="doubt", held_reason="another", **of_run)
    options = RunOptions(source=str(source), out=str(tmp_path / "out.jsonl"), model=MODEL, name="held")
    runner, progress = Runner(options, settings, lambda _: None), Progress(Console(file=said, width=1000), MODEL)
    task = asyncio.create_task(runner.run(progress))
    while not task.done():
        with suppress(AttributeError):  # it has not begun
            if progress.shot().held:
                break
        await asyncio.wait([task], timeout=0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "; 2 open batches, the oldest " in said.getvalue()
    assert f"; held: {DENIED}" in said.getvalue()
    assert runner.report.held.startswith(DENIED)
    await store.redis.delete(*await store.redis.keys(f"{store.prefix}:*"))
    await store.aclose()


def test_a_stopped_run_reports(redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """Ctrl-C: the report on standard output says what the run waits for, and so does the last word for a person."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"key": "a", "prompt": "nobody answers"}\n')
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    with start("run", str(source), "-o", str(out), "-m", MODEL, "--json", **env) as process:
        assert process.stderr is not None
        while (
            "held: no worker (gemqueue work)" not in process.stderr.readline()
        ):  # the first line comes after ten seconds
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    report = msgspec.json.decode(printed)
    assert (report["rows"], report["answered"], report["held"]) == (1, 0, "no worker (gemqueue work)")
    assert "It waits: no worker (gemqueue work)" in said
