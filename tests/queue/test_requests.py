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

from gemqueue import requests
from gemqueue.errors import ConfigError, PromptInvalid, PromptTooLarge
from gemqueue.requests import RequestEncoder, embed_request, generate_request, rest_request
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


def double(number: int) -> int:
    return number * 2


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
    expected = {
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
    camel = {
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
    ("q", {"cached_content": "abc", "service_tier": "flex", "labels": {"a_b": "c"}, "store": False}),
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


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (Recipe, {"type": "object"}),
        (list[Recipe], {"type": "array"}),
        (Tree, {"type": "object"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (Colour, {"enum": ["blue", "red"]}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
    ],
)
def test_classes_and_json_schema_become_response_json_schema(schema: object, expected: dict[str, object]) -> None:
    """A class, or a dict that only JSON Schema can say, goes out as responseJsonSchema with its MIME type."""
    config = generate("q", {"response_schema": schema})["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert {name: config["responseJsonSchema"][name] for name in expected} == expected
    assert "responseSchema" not in config


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


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"temprature": 1}, 'config.temprature is not a field; did you mean "temperature"?'),
        ({"max_output_token": 1}, 'did you mean "max_output_tokens"?'),
        ({"maxOutputToken": 1}, 'did you mean "maxOutputTokens"?'),
        ({"generationConfig": {"topp": 1}}, "config.generationConfig.topp is not a field"),
        ({"thinking_config": {"thinking_buget": 1}}, 'did you mean "thinking_budget"?'),
        ({"qqq": 1}, "config.qqq is not a field"),
        ({5: 1}, "a name in config must be a string"),
        ({"temperature": "hot"}, "config.temperature must be a number, not str"),
        ({"temperature": True}, "config.temperature must be a number, not bool"),
        ({"temperature": float("nan")}, "config.temperature is not a finite number"),
        ({"temperature": float("inf")}, "config.temperature is not a finite number"),
        ({"candidate_count": 1.5}, "config.candidateCount must be an integer"),
        ({"stop_sequences": "x"}, "config.stopSequences must be a list"),
        ({"stop_sequences": [1]}, "config.stopSequences[0] must be a string"),
        ({"response_logprobs": 1}, "config.responseLogprobs must be true or false"),
        ({"labels": "a"}, "config.labels must be an object"),
        ({"system_instruction": " "}, "config.systemInstruction is empty"),
        ({"system_instruction": {"parts": []}}, "config.systemInstruction is empty"),
        ({"top_p": 1, "topP": 1}, "config.topP is given twice"),
        ({"top_p": 1, "generation_config": {"topP": 0.5}}, "config.topP and config.generationConfig.topP differ"),
        ({"response_schema": {"type": "object"}, "response_json_schema": {}}, "both given"),
        ({"response_schema": {"typ": "object"}}, 'config.responseSchema.typ is not a field; did you mean "type"?'),
        ({"response_schema": object}, "no JSON Schema can be made of this class"),
        ({"cached_content": "c", "system_instruction": "s"}, "config.systemInstruction cannot stand beside"),
        ({"cached_content": "c", "tools": [{"google_search": {}}]}, "config.tools cannot stand beside"),
        ({"cached_content": "c", "tool_config": {}}, "config.toolConfig cannot stand beside"),
        ({"tools": [double]}, "config.tools[0] is a Python function"),
        ({"tools": [{"retrieval": {}}]}, "only Vertex AI has it"),
        ({"tools": [{"function_declarations": [{}]}]}, "functionDeclarations[0].name is missing"),
        ({"http_options": {}}, "a batch cannot honour it"),
        ({"automatic_function_calling": {"disable": True}}, "a batch cannot honour it"),
        ({"should_return_http_response": True}, "a batch cannot honour it"),
        ({"audio_timestamp": True}, "only Vertex AI has it"),
        ({"task_type": "X"}, "config.taskType is a field of embed, not of generate"),
        ({"model": "m"}, "config.model is refused"),
        ({"contents": "m"}, "config.contents is not a part of config"),
        ({"labels": {"a": {1, 2}}}, "config.labels.a is a set"),
        ("temperature=1", "config must be a dict or a google.genai.types config, not str"),
        (types.GenerateContentConfig(tools=[double]), "config.tools[0] is a Python function"),
    ],
)
def test_a_wrong_config_is_refused_by_name(config: object, words: str) -> None:
    """Unknown, misplaced, ill-typed and contradicting fields are named, with the way out."""
    assert words in refused("q", config)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "contents is empty"),
        (" \n\t", "contents is empty"),
        ([], "contents is empty"),
        (None, "contents is empty"),
        (["", " "], "contents is empty"),
        ({}, "contents is empty"),
        ([[]], "contents[0] is empty"),
        ({"parts": []}, "contents.parts is empty"),
        ({"parts": [{}]}, "contents.parts[0] is empty"),
        ({"role": "user"}, "contents.parts is empty"),
        ({"parts": ["x"], "role": "system"}, "contents.role must be"),
        ({"txt": "x"}, 'contents.txt is not a field; did you mean "text"?'),
        ({"text": 5}, "contents.text must be a string, not int"),
        ({"text": "a", "inline_data": {"data": b"x", "mime_type": "a/b"}}, "carries inlineData and text"),
        ({"inline_data": {"data": b"x"}}, "contents.inlineData.mimeType is missing"),
        ({"inline_data": {"data": "!", "mime_type": "a/b"}}, "contents.inlineData.data must be bytes or base64"),
        (b"x", "contents is bytes"),
        (5, "contents must be a string, a Part or a Content, not int"),
        ([{"parts": ["x"]}, 5], "contents[1] must be a string, a Part or a Content, not int"),
        ({"contents": "x"}, "contents is a whole request"),
        ("a\ud800", "contents holds half of a surrogate pair at character 1"),
        ([{"text": "a\udfff"}], "contents[0].text holds half of a surrogate pair"),
        ({"function_call": {"name": "f", "args": {"x": float("nan")}}}, "args.x is not a finite number"),
        ({"function_call": {"name": "f", "args": {"x": object()}}}, "args.x is a object"),
    ],
)
def test_wrong_contents_are_refused_by_name(contents: object, words: str) -> None:
    """Empty, ill-shaped and unwritable contents are refused with the field's name."""
    assert words in refused(contents)


def test_no_value_appears_in_an_error() -> None:
    """Prompt bodies stay out of messages, for these end in logs."""
    assert "secret" not in refused([{"text": "secret \ud800"}])
    assert "secret" not in refused({"inline_data": {"data": "secret!", "mime_type": "a/b"}})
    assert "secret" not in refused("q", {"temperature": "secret"})


def test_endless_and_huge_structures_are_refused() -> None:
    """A structure that contains itself, or itself many times over, ends in PromptInvalid and soon."""
    loop: list[object] = []
    loop.append(loop)
    many: list[object] = ["x"]
    for _ in range(60):
        many = [many, many]
    assert "nested" in refused("q", {"response_json_schema": {"x": loop}})
    assert "holds more than" in refused("q", {"response_json_schema": {"x": many}})
    assert refused(loop)


class Hostile:
    """An object whose dump fails, as a foreign library's may."""

    def model_dump(self, **_options: object) -> object:
        raise KeyError("secret")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Hostile),
    lambda inner: st.lists(inner)
    | st.tuples(inner)
    | st.dictionaries(
        st.sampled_from(["parts", "role", "text", "inlineData", "function_call", "args", "tools", "responseSchema"])
        | st.text(max_size=3),
        inner,
    ),
    max_leaves=12,
)


@given(anything, anything)
def test_anything_is_a_request_or_a_prompt_invalid(contents: object, config: object) -> None:
    """No input ends in another exception, and whatever passes is one line of JSON."""
    for make in (generate_request, embed_request):
        try:
            body = make(contents, config)
        except PromptInvalid:
            continue
        assert decoded(body)
    for kind in Kind:
        try:
            body = rest_request(kind, contents)
        except PromptInvalid:
            continue
        assert rest_request(kind, json.loads(body)) == body


def test_embed_takes_one_text() -> None:
    """A string, a Part, a Content or a list of one; the config's three fields in either spelling."""
    expected = {"content": {"parts": [{"text": "t"}]}, "outputDimensionality": 5, "taskType": "RETRIEVAL_DOCUMENT"}
    config = {"task_type": "RETRIEVAL_DOCUMENT", "outputDimensionality": 5}
    for content in ("t", ["t"], {"text": "t"}, {"parts": [{"text": "t"}]}, types.Part(text="t")):
        assert decoded(embed_request(content, config)) == expected
    sdk = types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=5)
    assert decoded(embed_request("t", sdk)) == expected


@pytest.mark.parametrize(
    ("content", "config", "words"),
    [
        (["a", "b"], None, "content holds 2 texts, and a request embeds one; pass them one by one"),
        ("", None, "content is empty"),
        ([], None, "content is empty"),
        ("a", {"temperature": 1}, "config.temperature is a field of generate, not of embed"),
        ("a", {"auto_truncate": True}, "only Vertex AI has it"),
        ("a", {"task_typ": "x"}, 'did you mean "task_type"?'),
        ("a", {"output_dimensionality": 0}, "config.outputDimensionality must be 1 or more"),
        ({"content": "a"}, None, "content is a whole request"),
    ],
)
def test_a_wrong_embed_request_is_refused(content: object, config: object, words: str) -> None:
    """Several texts, nothing, and fields of the other kind are named."""
    with pytest.raises(PromptInvalid) as caught:
        embed_request(content, config)
    assert words in str(caught.value)


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


Q = [{"parts": [{"text": "q"}]}]


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        (Kind.GENERATE, {"contents": Q, "config": {}}, "request.config is the SDK's spelling"),
        (Kind.GENERATE, {"contents": Q, "model": "m"}, "request.model is refused: a batch has one model"),
        (Kind.GENERATE, {"contents": Q, "temperature": 1}, "request.temperature belongs under generationConfig"),
        (Kind.GENERATE, {"contents": Q, "generationconfig": {}}, 'did you mean "generationConfig"?'),
        (Kind.GENERATE, {"content": Q[0]}, "request.content is a field of embed"),
        (Kind.GENERATE, {}, "request.contents is missing"),
        (Kind.GENERATE, {"contents": [{"parts": [{"text": ""}]}]}, "request.contents is empty"),
        (Kind.GENERATE, {"contents": [{"parts": []}]}, "request.contents[0].parts is empty"),
        (Kind.GENERATE, {"contents": Q, "cachedContent": "c", "tools": [{}]}, "cannot stand beside"),
        (Kind.EMBED, {"contents": Q}, "request.contents is a field of generate, not of embed"),
        (Kind.EMBED, {"content": {"parts": [{"text": " "}]}}, "request.content is empty"),
        (Kind.EMBED, "text", "request must be a EmbedContentRequest, not str"),
    ],
)
def test_wrong_rest_requests_are_refused(kind: Kind, row: object, words: str) -> None:
    """The classic mistakes of batch files are named before they cost a whole batch."""
    with pytest.raises(PromptInvalid) as caught:
        rest_request(kind, row)
    assert words in str(caught.value)


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
    made = requests.line("s1.7", generate_request("a\nb"))
    assert made.endswith(b"}\n")
    assert made.count(b"\n") == 1
    assert json.loads(made) == {"key": "s1.7", "request": {"contents": [{"parts": [{"text": "a\nb"}], "role": "user"}]}}


def test_size_and_tokens() -> None:
    """A body over the limit is refused with both sizes; tokens are estimated at four bytes each."""
    requests.check_size(b"x" * 10, 10)
    with pytest.raises(PromptTooLarge, match=r"11 bytes, over prompt_bytes_max = 10"):
        requests.check_size(b"x" * 11, 10)
    assert requests.token_estimate(b"x" * 400) == 101


@pytest.mark.parametrize("model", ["gemini-3.5-flash", "models/gemini-3.5-flash"])
def test_model_ids_lose_their_prefix(model: str) -> None:
    """Both spellings of a model are the one id."""
    assert requests.check_model(model) == "gemini-3.5-flash"


@pytest.mark.parametrize("model", ["", "models/", "Gemini", "a/b", "a b", "a?x=1", "../x", "a\n", "x" * 129, None])
def test_wrong_model_ids_are_refused(model: Any) -> None:
    """Whatever could leave its place in a URL is refused."""
    with pytest.raises(PromptInvalid, match="model must be an id"):
        requests.check_model(model)


@pytest.mark.parametrize("name", ["doc-42", "Käse 7", "x" * 256])
def test_names_stay_as_they_are(name: str) -> None:
    """Any printable name of up to 256 characters will do."""
    assert requests.check_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00", "\ud800", "x" * 257, 5])
def test_wrong_names_are_refused(name: Any) -> None:
    """Empty, blank, unprintable and too long names are refused."""
    with pytest.raises(PromptInvalid, match="name must be"):
        requests.check_name(name)


def test_queue_names() -> None:
    """A queue's name is a short lower-case word; anything else is a ConfigError."""
    assert requests.check_queue_name("news_2-a") == "news_2-a"
    for name in ("", "A", "-a", "a{b}", "a:b", "x" * 65, "a\n"):
        with pytest.raises(ConfigError, match="queue name"):
            requests.check_queue_name(name)
