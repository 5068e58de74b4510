"""A row's config is laid over the call's, key by key; what cannot stand together is said with both origins."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import Failed, NameConflict, PromptInvalid, Queue
from gemqueue.language.gemini.requests import RequestEncoder, encoder_for
from gemqueue.states import Kind
from gemqueue.store import codec
from tests.language.test_identity import Verdict
from tests.worlds.answering import ACCOUNT, answering, connect, until_counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue import Outcome

MODEL = "gemini-3.8-flash"
CALL: dict[str, Any] = {
    "max_output_tokens": 2,
    "temperature": 1,
    "system_instruction": "Answer in French",
    "thinking_config": {"include_thoughts": True, "thinking_budget": 5},
    "speech_config": {"language_code": "fr", "voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}},
    "safety_settings": [{"category": "A", "threshold": "OFF"}],
}

LAID_OVER: list[tuple[object, dict[str, Any]]] = [
    ({"temperature": 0}, CALL | {"temperature": 0}),
    ({"generationConfig": {"temperature": 0, "topK": 3}}, CALL | {"temperature": 0, "top_k": 3}),
    ({"maxOutputTokens": 9, "systemInstruction": "In Latin"},
     CALL | {"max_output_tokens": 9, "system_instruction": "In Latin"}),
    ({"thinkingConfig": {"thinkingBudget": 0}},
     CALL | {"thinking_config": {"include_thoughts": True, "thinking_budget": 0}}),
    ({"speech_config": "Puck"}, CALL | {"speech_config": {
        "language_code": "fr", "voice_config": {"prebuilt_voice_config": {"voice_name": "Puck"}}}}),
    ({"safetySettings": [{"category": "B", "threshold": "OFF"}]},
     CALL | {"safety_settings": [{"category": "B", "threshold": "OFF"}]}),
    ({"safety_settings": []}, CALL | {"safety_settings": None}),
    ({"maxOutputTokens": None, "system_instruction": None},
     CALL | {"max_output_tokens": None, "system_instruction": None}),
    ({"generation_config": None}, {name: CALL[name] for name in ("system_instruction", "safety_settings")}),
    ({"generationConfig": {"thinking_config": {"includeThoughts": None}}},
     CALL | {"thinking_config": {"thinking_budget": 5}}),
    ({"thinking_config": {"include_thoughts": None, "thinking_budget": None}}, CALL | {"thinking_config": {}}),
    ({"speech_config": {"languageCode": None}}, CALL | {"speech_config": "Kore"}),
    ({"response_schema": Verdict}, CALL | {"response_schema": Verdict}),
    ({"http_options": None}, CALL),
    ({}, CALL),
    (types.GenerateContentConfig(temperature=0), CALL | {"temperature": 0}),
]  # fmt: skip
"""Rows' configs, and what the call's and theirs come to."""
CONFLICTS: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"system_instruction": "s"}, {"cached_content": "c"}, ["systemInstruction", "cachedContent"]),
    ({"cached_content": "c"}, {"tools": [{"google_search": {}}]}, ["cachedContent", "tools"]),
    ({"response_schema": Verdict}, {"response_json_schema": {}}, ["responseSchema", "responseJsonSchema"]),
    ({"response_json_schema": {}}, {"response_schema": {"type": "OBJECT"}},
     ["responseJsonSchema", "responseSchema"]),
    ({"thinking_config": {"thinking_budget": 0}}, {"thinking_config": {"thinking_level": "high"}},
     ["thinkingConfig.thinkingBudget", "thinkingConfig.thinkingLevel"]),
]  # fmt: skip


def merged(call: object, row: object, kind: Kind = Kind.GENERATE) -> dict[str, Any]:
    """The config that goes out."""
    request = encoder_for(kind, row, over=encoder_for(kind, call)).encode("q")
    fields = cast("dict[str, Any]", json.loads(request))
    return {name: value for name, value in fields.items() if name not in {"contents", "content"}}


def alone(config: object) -> dict[str, Any]:
    return merged(None, config)


def refused(call: object, row: object) -> str:
    with pytest.raises(PromptInvalid) as caught:
        merged(call, row)
    return str(caught.value)


@pytest.mark.parametrize(("row", "whole"), LAID_OVER)
def test_the_row_wins_key_by_key(row: object, whole: dict[str, Any]) -> None:
    """In either spelling and inside messages; lists go whole, None and an empty list take a key away."""
    assert merged(CALL, row) == alone(whole)


@pytest.mark.parametrize("call", [{"response_schema": Verdict}, {"response_schema": {"type": "OBJECT"}}])
@pytest.mark.parametrize("row", [{"response_schema": list[Verdict]}, {"response_schema": {"type": "STRING"}}])
def test_a_schema_is_replaced_whole(call: dict[str, Any], row: dict[str, Any]) -> None:
    """A row's schema takes the place of the call's, whichever field each of them goes out in; None takes it away."""
    assert merged(call | {"top_k": 1}, row) == alone(row | {"top_k": 1})
    assert merged(call | {"top_k": 1}, {"responseSchema": None}) == alone({"top_k": 1})
    enum = {"response_mime_type": "text/x.enum"}
    assert merged(call | enum, row) == alone(row | enum)


@pytest.mark.parametrize(("call", "row", "names"), CONFLICTS)
def test_a_conflict_names_both_origins(call: dict[str, Any], row: dict[str, Any], names: list[str]) -> None:
    """What cannot stand together is refused with which is whose; None for the call's is the way out, and works."""
    words = refused(call, row)
    assert f"{names[0]} and the row's config has " in words
    assert f"{names[1]}, which cannot stand together" in words.replace("generationConfig.", "")
    last = names[0].rpartition(".")[2]
    assert f"give the row {last} = None" in words
    nothing = {"thinkingConfig": row["thinking_config"] | {last: None}} if "thinking_config" in row else {last: None}
    assert merged(call, {**{k: v for k, v in row.items() if k != "thinking_config"}, **nothing}) == alone(row)


def test_an_embedding_row_is_laid_over_too() -> None:
    """The flat config of embed goes by the same rule."""
    assert merged({"task_type": "A", "title": "t"}, {"taskType": "B", "title": None}, Kind.EMBED) == {"taskType": "B"}


def test_a_mistake_in_the_row_is_the_rows() -> None:
    """An unknown field of a row's config is refused as ever, and the call's config is not changed by any row."""
    call = encoder_for(Kind.GENERATE, CALL)
    before = call.encode("q")
    assert 'config.temprature is not a field; did you mean "temperature"?' in refused(CALL, {"temprature": 0})
    merged(CALL, {"thinking_config": {"thinking_budget": 0}, "safety_settings": None})
    assert call.encode("q") == before == RequestEncoder(Kind.GENERATE, CALL).encode("q")


PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.none() | st.floats(0, 2),
        "top_k": st.none() | st.integers(1, 9),
        "stop_sequences": st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "response_schema": st.none() | st.sampled_from([Verdict, {"type": "STRING"}, {"type": ["string", "null"]}]),
        "system_instruction": st.none() | st.sampled_from(["s", "t"]),
    },
)


def laid_by_hand(call: Mapping[str, object], row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**call, **row}.items() if value is not None and value != []}


@given(PLAIN, PLAIN)
def test_a_merged_config_is_the_one_that_says_the_same(call: dict[str, object], row: dict[str, object]) -> None:
    """Bytes and identity are those of the one config that a person would have written."""
    made = encoder_for(Kind.GENERATE, row, over=encoder_for(Kind.GENERATE, call)).identified("q")
    assert made == RequestEncoder(Kind.GENERATE, laid_by_hand(call, row)).identified("q")


def test_merged_configs_are_remembered() -> None:
    """The same row's config over the same call's gives the same encoder, and over another call's another one."""
    call, other = encoder_for(Kind.GENERATE, {"top_k": 1}), encoder_for(Kind.GENERATE, {"top_k": 2})
    made = encoder_for(Kind.GENERATE, {"temperature": 0}, over=call)
    assert encoder_for(Kind.GENERATE, {"temperature": 0}, over=call) is made
    assert encoder_for(Kind.GENERATE, {"temperature": 0}, over=other) is not made
    sdk = types.GenerateContentConfig(temperature=0)
    assert encoder_for(Kind.GENERATE, sdk, over=call) is encoder_for(Kind.GENERATE, sdk, over=call)


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
