"""Rows with a config of their own in calls: what is laid over, and what name that has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import Failed, NameConflict, PromptInvalid, Queue
from gemqueue.store import codec
from tests.worlds.answering import ACCOUNT, answering, connect, until_counted

if TYPE_CHECKING:
    from gemqueue import Outcome

MODEL = "gemini-3.8-flash"


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("bulk", ["map", "stream"])
@pytest.mark.parametrize(("mode", "tokens"), [("merge", 2), ("replace", None)])
async def test_map_and_stream_lay_over(
    redis_url: str, queue_name: str, bulk: str, mode: str, tokens: int | None
) -> None:
    """In ``map`` and ``stream`` a row's config is laid over the call's, or replaces it where the call says so."""
    rows: list[object] = [{"contents": "a", "config": {"temperature": 0}}, "b"]
    given: dict[str, Any] = {"model": MODEL, "config": {"max_output_tokens": 2}, "config_mode": mode}
    async with connect(redis_url, queue_name) as queue:

        async def call() -> list[Outcome]:
            return await queue.map(rows, **given) if bulk == "map" else [o async for o in queue.stream(rows, **given)]

        task = asyncio.create_task(call())
        sent = await waiting(queue)
        assert sent == {
            "a": {"temperature": 0} | ({"maxOutputTokens": 2} if tokens else {}),
            "b": {"maxOutputTokens": 2},
        }
        async with answering(redis_url, queue_name):
            assert not any(isinstance(outcome, Failed) for outcome in await task)
        with pytest.raises(PromptInvalid, match=r'config_mode must be "merge" or "replace", not \'other\''):
            await queue.map(rows, model=MODEL, config_mode="other")


async def waiting(queue: Queue) -> dict[str, Any]:
    """The generation parameters of what has been submitted, by the prompt's text."""
    await until_counted(queue, "accepted", 2)
    store = queue._store  # pyright: ignore[reportPrivateUsage] - to see what lies there
    found = await store.redis.keys(store.key("segment", "*"))
    bodies = [codec.expand(await store.redis.get(name)) for name in found]
    requests = [msgspec.json.decode(line)["request"] for body in bodies for line in body.splitlines()]
    return {request["contents"][0]["parts"][0]["text"]: request["generationConfig"] for request in requests}


async def test_names_of_0_2_0_are_joined(redis_url: str, queue_name: str) -> None:
    """A named row with a config of its own joins what 0.2.0 bought under it, by the row's own config alone.

    Another config of the row's is a NameConflict as ever, and so is the digest of a form that is not known here.
    """
    row: dict[str, Any] = {"contents": "a", "name": "n", "config": {"temperature": 0}}
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as queue:
        (first,) = await queue.map([row], model=MODEL, config={"top_k": 1}, config_mode="replace")
        async with connect(redis_url, queue_name) as later:
            meta = later._store.key("segmeta", first.key.partition(".")[0])  # pyright: ignore[reportPrivateUsage]
            assert await later._store.redis.hdel(meta, "merges")  # pyright: ignore[reportPrivateUsage] - 0.2.0 did not say it
            for config in ({"top_k": 1}, {"top_k": 2}, None):
                (again,) = await later.map([row], model=MODEL, config=config)
                assert again.key == first.key
            for other in (row | {"config": {"temperature": 1}}, row | {"config": None}):
                (refused,) = await later.map([other], model=MODEL, config={"top_k": 1})
                assert isinstance(refused, Failed)
                assert isinstance(refused.error, NameConflict)
            await later._store.redis.set(later._store.key("name", ACCOUNT, "n"), f"{first.key} 2:00")  # pyright: ignore[reportPrivateUsage]
            (newer,) = await later.map([row], model=MODEL)
            assert isinstance(newer, Failed)
            assert "of a newer gemqueue, which this one cannot compare" in str(newer.error)
        assert (await queue.counts())["accepted"] == 1


async def test_a_merged_row_has_the_name_of_its_merged_config(redis_url: str, queue_name: str) -> None:
    """A named row that was bought merged is known again however the same config is written."""
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as queue:
        row = {"contents": "a", "name": "n", "config": {"temperature": 0}}
        (first,) = await queue.map([row], model=MODEL, config={"top_k": 1})
        async with connect(redis_url, queue_name) as later:
            answer = await later.generate("a", name="n", model=MODEL, config={"topK": 1, "temperature": 0})
            assert answer.key == first.key
            with pytest.raises(NameConflict):
                await later.generate("a", name="n", model=MODEL, config={"topK": 1})
        assert (await queue.counts())["accepted"] == 1


@pytest.mark.parametrize("mode", ["merge", "replace"])
async def test_a_row_that_was_asked_without_the_calls_config_is_another_question(
    redis_url: str, queue_name: str, mode: str
) -> None:
    """What is asked with a call's config never gets the answer to what was asked without: answered or on its way."""
    row: dict[str, Any] = {"contents": "a", "name": "n", "config": {"temperature": 0}}
    whole: dict[str, Any] = {"model": MODEL, "config": {"top_k": 1}}
    alone: dict[str, Any] = {"model": MODEL} if mode == "merge" else whole | {"config_mode": mode}
    async with answering(redis_url, queue_name), connect(redis_url, queue_name) as queue:
        (first,), (beside,) = await asyncio.gather(queue.map([row], **alone), queue.map([row], **whole))
        async with connect(redis_url, queue_name) as later:
            (after,) = await later.map([row], **whole)
            for refused in (beside, after):
                assert isinstance(refused, Failed)
                assert isinstance(refused.error, NameConflict)
            (again,) = await later.map([row], **alone)
            assert again.key == first.key
        assert (await queue.counts())["accepted"] == 1
