"""The door: what callers write becomes one canonical request, and what cannot become one is refused with a way out."""

from __future__ import annotations

import base64
import enum
import json
from typing import Any, cast

import pydantic
import pytest
from google import genai
from google.genai import batches, types
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import PromptInvalid, PromptTooLarge
from gemqueue.language import checks, lines
from gemqueue.language.gemini import requests
from gemqueue.language.gemini.requests import RequestEncoder, embed_request, generate_request, rest_request
from gemqueue.states import Kind


class Recipe(pydantic.BaseModel):
    """A response schema as users write it."""

    name: str
    minutes: int | None = None


class Tree(pydantic.BaseModel):
    """A schema that refers to itself, so that its JSON Schema has a reference at the root."""

    children: list[Tree] = []


class Colour(enum.Enum):
    """A response schema that is a choice."""

    RED = "red"
    BLUE = "blue"


def decoded(body: bytes) -> dict[str, Any]:
    assert b"\n" not in body
    return cast("dict[str, Any]", json.loads(body))


def generate(contents: object, config: object | None = None) -> dict[str, Any]:
    return decoded(generate_request(contents, config))


def refused(contents: object, config: object | None = None) -> str:
    with pytest.raises(PromptInvalid) as caught:
        generate_request(contents, config)
    return str(caught.value)


PNG = b"\xfb\xff\xfe\x00"
PNG_PART = {"inlineData": {"data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}}
USER_Q = {"parts": [{"text": "q"}], "role": "user"}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ("q", [USER_Q]),
        (["a", "b"], [{"parts": [{"text": "a"}, {"text": "b"}], "role": "user"}]),
        (("a",), [{"parts": [{"text": "a"}], "role": "user"}]),
        ({"text": "q"}, [USER_Q]),
        ({"parts": [{"text": "q"}]}, [{"parts": [{"text": "q"}]}]),
        ({"parts": {"text": "q"}, "role": "model"}, [{"parts": [{"text": "q"}], "role": "model"}]),
        (types.Part(text="q"), [USER_Q]),
        (types.UserContent("q"), [USER_Q]),
        ([["a", "b"], "q"], [{"parts": [{"text": "a"}, {"text": "b"}], "role": "user"}, USER_Q]),
        ({"inline_data": {"data": PNG, "mime_type": "image/png"}}, [{"parts": [PNG_PART], "role": "user"}]),
        (types.Part.from_bytes(data=PNG, mime_type="image/png"), [{"parts": [PNG_PART], "role": "user"}]),
        (
            ["q", {"role": "model", "parts": ["m"]}, "r"],
            [USER_Q, {"parts": [{"text": "m"}], "role": "model"}, {"parts": [{"text": "r"}], "role": "user"}],
        ),
        (
            ["q", {"function_call": {"name": "f", "args": {"snake_case": None}}}],
            [
                USER_Q,
                {"parts": [{"functionCall": {"args": {"snake_case": None}, "name": "f"}}], "role": "model"},
            ],
        ),
        (
            {"file_uri": "https://h/files/a", "mime_type": "text/plain"},
            [{"parts": [{"fileData": {"fileUri": "https://h/files/a", "mimeType": "text/plain"}}], "role": "user"}],
        ),
        (
            types.File(name="files/a", uri="https://h/files/a", mime_type="text/plain"),
            [{"parts": [{"fileData": {"fileUri": "https://h/files/a", "mimeType": "text/plain"}}], "role": "user"}],
        ),
    ],
)
def test_contents_in_every_spelling(contents: object, expected: list[object]) -> None:
    """Strings, parts, contents, dicts and SDK objects become Contents, and neighbouring parts one Content."""
    assert generate(contents) == {"contents": expected}


@given(st.text())
def test_any_text_survives(text: str) -> None:
    """Whatever UTF-8 can carry comes back unchanged from the one line; blank text is refused."""
    if not text.strip():
        assert "is empty" in refused(text)
    else:
        assert generate(text)["contents"][0]["parts"][0]["text"] == text


def test_the_config_is_split_as_the_sdk_does() -> None:
    """Generation parameters go under generationConfig, the others beside it, in either spelling and as an object."""
    expected: dict[str, Any] = {
        "contents": [USER_Q],
        "generationConfig": {
            "maxOutputTokens": 10,
            "stopSequences": ["x"],
            "temperature": 0.5,
            "thinkingConfig": {"thinkingBudget": 0},
            "topK": 40,
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "systemInstruction": {"parts": [{"text": "sys"}]},
        "tools": [{"googleSearch": {}}],
    }
    snake: dict[str, Any] = {
        "temperature": 0.5,
        "top_k": 40,
        "max_output_tokens": 10,
        "stop_sequences": ["x"],
        "thinking_config": {"thinking_budget": 0},
        "system_instruction": "sys",
        "tools": [{"google_search": {}}],
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    camel: dict[str, Any] = {
        "systemInstruction": {"parts": [{"text": "sys"}]},
        "tools": {"googleSearch": {}},
        "safetySettings": snake["safety_settings"],
        "generationConfig": {"temperature": 0.5, "topK": 40.0, "maxOutputTokens": 10, "stopSequences": ["x"]},
        "thinkingConfig": {"thinkingBudget": 0},
    }
    sdk = types.GenerateContentConfig(**snake)
    assert generate("q", snake) == expected
    bodies = {generate_request("q", config) for config in (snake, camel, sdk)}
    assert len(bodies) == 1


SDK_CASES: list[tuple[Any, dict[str, Any]]] = [
    ("q", {}),
    (["a", types.Part(text="b")], {"temperature": 0.5, "topP": 0.9, "candidate_count": 2}),
    ([types.Content(role="model", parts=[types.Part(text="m")]), "q"], {"system_instruction": ["s1", "s2"]}),
    ("q", {"cached_content": "abc", "service_tier": "flex", "store": False}),
    ("q", {"response_mime_type": "application/json", "response_json_schema": {"type": "object"}}),
    (
        "q",
        {
            "response_mime_type": "application/json",
            "response_schema": {"type": "OBJECT", "properties": {"max_items": {"type": "STRING", "min_length": 1}}},
        },
    ),
    ("q", {"speech_config": "Kore", "response_modalities": ["AUDIO"], "media_resolution": "MEDIA_RESOLUTION_LOW"}),
    ("q", {"image_config": {"aspect_ratio": "1:1"}, "seed": 7, "response_logprobs": True, "logprobs": 2}),
    (
        "q",
        {
            "tools": [
                {"code_execution": {}},
                {
                    "function_declarations": [
                        {
                            "name": "f",
                            "parameters": {"type": "OBJECT", "properties": {"user_name": {"type": "STRING"}}},
                        },
                        {"name": "g", "parameters_json_schema": {"type": "object"}},
                    ]
                },
            ],
            "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        },
    ),
]


@pytest.mark.parametrize(("contents", "config"), SDK_CASES)
def test_the_request_is_the_one_that_the_sdk_sends(contents: Any, config: dict[str, Any]) -> None:
    """Against google-genai's own transformation of an inline row, plain dicts and its config object alike."""
    client = genai.Client(api_key="none")
    row = types.InlinedRequest(contents=contents, config=types.GenerateContentConfig(**config))
    sent = batches._InlinedRequest_to_mldev(client._api_client, row)  # pyright: ignore[reportPrivateUsage]
    request = sent["request"]
    wire: dict[str, Any] = json.loads(pydantic.TypeAdapter(Any).dump_json(request, by_alias=True, exclude_none=True))
    wire.get("systemInstruction", {}).pop("role", None)
    wire = {name: value for name, value in wire.items() if value not in ({}, None)}
    assert generate(contents, config) == wire
    assert generate(contents, types.GenerateContentConfig(**config)) == wire


def test_a_schema_in_the_providers_language_stays_one() -> None:
    """Names become camelCase, types upper case, and the names of properties and the defaults stay the caller's own."""
    schema = {
        "type": "object",
        "properties": {"min_items": {"any_of": [{"type": "string"}, {"type": "integer"}], "default": {"a_b": None}}},
        "property_ordering": ["min_items"],
    }
    sent = generate("q", {"response_schema": schema})["generationConfig"]["responseSchema"]
    assert sent == {
        "type": "OBJECT",
        "properties": {"min_items": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "default": {"a_b": None}}},
        "propertyOrdering": ["min_items"],
    }
    sdk = types.Schema(type=types.Type.STRING, max_length=3)
    assert generate("q", {"response_schema": sdk})["generationConfig"]["responseSchema"] == {
        "type": "STRING",
        "maxLength": 3,
    }


def test_embed_takes_one_text() -> None:
    """A string, a Part, a Content or a list of one; the config's three fields in either spelling."""
    expected = {"content": {"parts": [{"text": "t"}]}, "outputDimensionality": 5, "taskType": "RETRIEVAL_DOCUMENT"}
    config = {"task_type": "RETRIEVAL_DOCUMENT", "outputDimensionality": 5}
    for content in ("t", ["t"], {"text": "t"}, {"parts": [{"text": "t"}]}, types.Part(text="t")):
        assert decoded(embed_request(content, config)) == expected
    sdk = types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=5)
    assert decoded(embed_request("t", sdk)) == expected


def test_rest_requests_get_one_canonical_form() -> None:
    """A row of Gemini's own format, in either spelling and any order, gives the bytes that the call would give."""
    config = {"temperature": 0.7, "system_instruction": "s"}
    row = {
        "system_instruction": {"parts": {"text": "s"}},
        "generation_config": {"temperature": 0.7},
        "contents": [{"role": "user", "parts": [{"text": "q"}]}],
    }
    assert rest_request(Kind.GENERATE, row) == generate_request("q", config)
    embed = {"output_dimensionality": 5, "content": {"parts": [{"text": "t"}]}}
    assert rest_request(Kind.EMBED, embed) == embed_request("t", {"outputDimensionality": 5})


def test_a_remembered_config_notices_a_change() -> None:
    """Encoded configs are reused, but never for a config that has changed or has other types."""
    config: dict[str, object] = {"temperature": 1}
    sdk = types.GenerateContentConfig(temperature=0.5, thinking_config=types.ThinkingConfig(thinking_budget=1))
    assert sdk.thinking_config is not None
    assert generate("q", config)["generationConfig"]["temperature"] == 1
    assert generate("q", sdk)["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 1}
    assert requests.encoder_for(Kind.GENERATE, {"temperature": 1}) is requests.encoder_for(Kind.GENERATE, config)
    assert requests.encoder_for(Kind.GENERATE, sdk) is requests.encoder_for(Kind.GENERATE, sdk)
    config["temperature"] = 2
    sdk.thinking_config.thinking_budget = 2
    assert generate("q", config)["generationConfig"]["temperature"] == 2
    assert generate("q", sdk)["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 2}
    config["temperature"] = True
    assert "must be a number" in refused("q", config)


def test_an_encoder_gives_what_the_function_gives() -> None:
    """The encoder for many prompts of one config writes the same bytes as the single call."""
    config = {"temperature": 0.5, "system_instruction": "sys"}
    encoder = RequestEncoder(Kind.GENERATE, config)
    for contents in ("q", ["q"], types.Part(text="q"), {"role": "user", "parts": [{"text": "q"}]}):
        assert encoder.encode(contents) == generate_request("q", config)


def test_a_line_carries_key_and_request() -> None:
    """One input line is the key beside the request, ended by its only newline."""
    made = lines.line("s1.7", generate_request("a\nb"))
    assert made.endswith(b"}\n")
    assert made.count(b"\n") == 1
    assert json.loads(made) == {"key": "s1.7", "request": {"contents": [{"parts": [{"text": "a\nb"}], "role": "user"}]}}


def test_size_and_tokens() -> None:
    """A body over the limit is refused with both sizes; tokens are estimated at four bytes each."""
    checks.check_size(b"x" * 10, 10)
    with pytest.raises(PromptTooLarge, match=r"11 bytes, over prompt_bytes_max = 10"):
        checks.check_size(b"x" * 11, 10)
    assert lines.token_estimate(b"x" * 400) == 101
