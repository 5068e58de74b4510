"""A row's config is laid over the call's, key by key; what cannot stand together is said with both origins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import PromptInvalid
from gemqueue.language.gemini.requests import RequestEncoder, encoder_for
from gemqueue.states import Kind
from tests.language.test_identity import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


CALL: dict[str, Any] = {
    "max_output_tokens": 2,
    "temperature": 1,
    "system_instruction": "Answer in French",
    "thinking_config": {"include_thoughts": True, "thinking_budget": 5},
    "speech_config": {"language_code": "fr", "voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}},
    "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
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
    ({"safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"}]},
     CALL | {"safety_settings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"}]}),
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
    assert merged(
        {"task_type": "CLUSTERING", "title": "t"}, {"taskType": "CLASSIFICATION", "title": None}, Kind.EMBED
    ) == {"taskType": "CLASSIFICATION"}


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
