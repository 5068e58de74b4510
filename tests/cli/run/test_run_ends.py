"""A run that is told to end does, whatever swallows that on the way."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from gemqueue.config import Settings
from gemqueue.store.runs import RunStore
from gemqueue_workers.run.options import RunOptions
from gemqueue_workers.run.progress import Progress
from gemqueue_workers.run.runner import Runner

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3.8-flash"


async def test_a_swallowed_cancellation_still_ends_the_run(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11 drops a cancellation that comes in the moment of a reply; the collector ends all the same."""
    real, asked = RunStore.read_inbox, asyncio.Event()

    async def swallowing(store: RunStore, *given: Any) -> Any:
        asked.set()
        reply = asyncio.ensure_future(real(store, *given))
        try:
            return await asyncio.shield(reply)
        except asyncio.CancelledError:
            return await reply

    monkeypatch.setattr(RunStore, "read_inbox", swallowing)
    source = tmp_path / "in.jsonl"
    source.write_text('{"key": "a", "prompt": "nobody answers"}\n')
    options = RunOptions(source=str(source), out=str(tmp_path / "out.jsonl"), model=MODEL, name="ends")
    runner = Runner(options, Settings(queue="ends", emulate=True, redis_url=redis_url), lambda _: None)
    task = asyncio.create_task(runner.run(Progress(Console(file=io.StringIO()), MODEL)))
    await asked.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60)
    assert done
    with pytest.raises(asyncio.CancelledError):
        task.result()
