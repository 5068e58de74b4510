"""Deadlines as callers say them."""

from __future__ import annotations

from typing import Any

import pytest

from gemqueue import PromptInvalid, Queue
from tests.worlds.answering import connect

pytestmark = pytest.mark.usefixtures("no_leaks")


async def test_prompts_of_one_call_share_one_deadline(redis_url: str, queue_name: str) -> None:
    """A bulk call has one absolute deadline; a row may have its own, and a bad one costs only that row."""
    async with connect(redis_url, queue_name) as queue:
        futures = [await queue.submit(f"p{n}", model="m", deadline=3600) for n in range(3)]
        segments = {future.key.split(".")[0] for future in futures}
        found = await metas(queue, segments)
        assert {meta.deadline_at % 1000 for meta in found} == {0}
        with pytest.raises(PromptInvalid):
            await queue.submit("p", model="m", deadline="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(PromptInvalid, match="deadline"):
            await queue.map([{"contents": "x"}], model="m", deadline=-1)
        outcome = (await queue.map([{"contents": "x", "deadline": "never"}], model="m"))[0]
        assert not outcome.ok
        for future in futures:
            await future.cancel()


async def metas(queue: Queue, segments: set[str]) -> list[Any]:
    """What the store knows of the queue's segments."""
    return [meta for meta in await queue._store.segment_metas(sorted(segments)) if meta is not None]  # pyright: ignore[reportPrivateUsage]
