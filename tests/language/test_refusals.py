"""What the door refuses: each wrong field is named with a way out, and no input ends in another exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import ConfigError, PromptInvalid
from gemqueue.language import checks
from gemqueue.language.gemini.requests import embed_request, generate_request, rest_request
from gemqueue.states import Kind

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        ("gemini-embedding-2", Kind.GENERATE, "makes embeddings"),
        ("text-embedding-004", Kind.GENERATE, "makes embeddings"),
        ("gemini-3.8-flash", Kind.EMBED, "makes no embeddings"),
        ("gemini-2.5-pro", Kind.EMBED, "makes no embeddings"),
        ("gemini-2.5-flash-image", Kind.EMBED, "makes no embeddings"),
    ],
)
def test_a_model_of_the_other_kind_is_refused(model: str, kind: Kind, said: str) -> None:
    """A model that is known to do the other thing is refused, with the way out; the right kind is taken."""
    with pytest.raises(PromptInvalid, match=said):
        checks.check_kind(model, kind)
    checks.check_kind(model, Kind.EMBED if kind is Kind.GENERATE else Kind.GENERATE)


@pytest.mark.parametrize("model", ["gemini-9-ultra", "gemini-4.0-omni", "gemma-4-27b", "my-tuned-model"])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_model_that_nobody_knows_is_taken(model: str, kind: Kind) -> None:
    """What a model of another name can do is the provider's to say."""
    checks.check_kind(model, kind)


def double(number: int) -> int:
    return number * 2


class Broken:
    """A class of no library."""


def refused(contents: object, config: object | None = None) -> str:
    with pytest.raises(PromptInvalid) as caught:
        generate_request(contents, config)
    return str(caught.value)


WRONG_CONFIGS: list[tuple[object, str]] = [
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
    ({"labels": {"a": "b"}}, "config.labels is refused"),
    ({"system_instruction": " "}, "config.systemInstruction is empty"),
    ({"system_instruction": {"parts": []}}, "config.systemInstruction is empty"),
    ({"top_p": 1, "topP": 1}, "config.topP is given twice"),
    ({"top_p": 1, "generation_config": {"topP": 0.5}}, "config.topP and config.generationConfig.topP differ"),
    ({"response_schema": {"type": "object"}, "response_json_schema": {}}, "both given"),
    ({"response_schema": {"typ": "object"}}, 'config.responseSchema.typ is not a field; did you mean "type"?'),
    ({"response_schema": object}, "no JSON Schema can be made of object"),
    ({"response_schema": list[dict[str, int] | Broken]}, "no JSON Schema can be made of Broken"),
    ({"response_schema": {"type": "strin"}}, "config.responseSchema.type must be one of string, number"),
    (
        {"response_schema": {"properties": {"a": {"type": "string", "required": True}}}},
        "config.responseSchema.properties.a.required must be a list of strings",
    ),
    ({"response_schema": {"type": "string", "maxLength": "long"}}, "config.responseSchema.maxLength must be a number"),
    ({"response_schema": {"type": "string", "enum": "a"}}, "config.responseSchema.enum must be a list"),
    (
        {"tools": [{"function_declarations": [{"name": "f", "parameters": {"nullable": "yes"}}]}]},
        "parameters.nullable must be true or false",
    ),
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
    ({"tool_config": {"retrieval_config": {"a": {1, 2}}}}, "config.toolConfig.retrievalConfig.a is of type set"),
    ("temperature=1", "config must be a dict or a google.genai.types config, not str"),
    (types.GenerateContentConfig(tools=[double]), "config.tools[0] is a Python function"),
]


@pytest.mark.parametrize(("config", "words"), WRONG_CONFIGS)
def test_a_wrong_config_is_refused_by_name(config: object, words: str) -> None:
    """Unknown, misplaced, ill-typed and contradicting fields are named, with the way out."""
    assert words in refused("q", config)


WRONG_CONTENTS: list[tuple[object, str]] = [
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
    ({"function_call": {"name": "f", "args": {"x": object()}}}, "args.x is of type object"),
]


@pytest.mark.parametrize(("contents", "words"), WRONG_CONTENTS)
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
        """Fail with a value in the message."""
        raise KeyError("secret")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Hostile),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(
            st.sampled_from(["parts", "role", "text", "inlineData", "function_call", "args", "tools", "responseSchema"])
            | st.text(max_size=3),
            inner,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("make", [generate_request, embed_request])
@given(anything | st.lists(st.text() | st.fixed_dictionaries({"parts": st.lists(st.text() | anything, max_size=3)})))
def test_anything_is_a_request_or_a_prompt_invalid(make: Callable[..., bytes], value: object) -> None:
    """No contents and no config end in another exception, and whatever passes is one line of JSON."""
    for contents, config in ((value, None), ("q", value)):
        try:
            body = make(contents, config)
        except PromptInvalid:
            continue
        assert isinstance(json.loads(body), dict)
        assert b"\n" not in body


@pytest.mark.parametrize("kind", list(Kind))
@given(st.fixed_dictionaries({}, optional={"contents": anything, "content": anything, "tools": anything}))
def test_any_row_has_a_canonical_form_or_none(kind: Kind, row: dict[str, object]) -> None:
    """No row ends in another exception, and a canonical row is its own canonical form."""
    row = {"contents" if kind is Kind.GENERATE else "content": {"parts": ["x"]}, **row}
    try:
        body = rest_request(kind, row)
    except PromptInvalid:
        return
    assert rest_request(kind, json.loads(body)) == body


WRONG_EMBEDS: list[tuple[object, object, str]] = [
    (["a", "b"], None, "content holds 2 texts, and a request embeds one; pass them one by one"),
    ("", None, "content is empty"),
    ([], None, "content is empty"),
    ("a", {"temperature": 1}, "config.temperature is a field of generate, not of embed"),
    ("a", {"auto_truncate": True}, "only Vertex AI has it"),
    ("a", {"task_typ": "x"}, 'did you mean "task_type"?'),
    ("a", {"output_dimensionality": 0}, "config.outputDimensionality is 0, and must be 1 or more"),
    ({"content": "a"}, None, "content is a whole request"),
]


@pytest.mark.parametrize(("content", "config", "words"), WRONG_EMBEDS)
def test_a_wrong_embed_request_is_refused(content: object, config: object, words: str) -> None:
    """Several texts, nothing, and fields of the other kind are named."""
    with pytest.raises(PromptInvalid) as caught:
        embed_request(content, config)
    assert words in str(caught.value)


Q = [{"parts": [{"text": "q"}]}]


WRONG_ROWS: list[tuple[Kind, object, str]] = [
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
    (Kind.EMBED, "text", "request must be a dict of EmbedContentRequest fields, not str"),
]


@pytest.mark.parametrize(("kind", "row", "words"), WRONG_ROWS)
def test_wrong_rest_requests_are_refused(kind: Kind, row: object, words: str) -> None:
    """The classic mistakes of batch files are named before they cost a whole batch."""
    with pytest.raises(PromptInvalid) as caught:
        rest_request(kind, row)
    assert words in str(caught.value)


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "models/gemini-3.8-flash"])
def test_model_ids_lose_their_prefix(model: str) -> None:
    """Both spellings of a model are the one id."""
    assert checks.check_model(model) == "gemini-3.8-flash"


@pytest.mark.parametrize("model", ["", "models/", "Gemini", "a/b", "a b", "a?x=1", "../x", "a\n", "x" * 129, None])
def test_wrong_model_ids_are_refused(model: Any) -> None:
    """Whatever could leave its place in a URL is refused."""
    with pytest.raises(PromptInvalid, match="model must be an id"):
        checks.check_model(model)


@pytest.mark.parametrize("name", ["doc-42", "Käse 7", "x" * 256])
def test_names_stay_as_they_are(name: str) -> None:
    """Any printable name of up to 256 characters will do."""
    assert checks.check_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00", "\ud800", "x" * 257, 5])
def test_wrong_names_are_refused(name: Any) -> None:
    """Empty, blank, unprintable and too long names are refused."""
    with pytest.raises(PromptInvalid, match="name must be"):
        checks.check_name(name)


def test_queue_names() -> None:
    """A queue's name is a short lower-case word; anything else is a ConfigError."""
    assert checks.check_queue_name("news_2-a") == "news_2-a"
    for name in ("", "A", "-a", "a{b}", "a:b", "x" * 65, "a\n"):
        with pytest.raises(ConfigError, match="queue name"):
            checks.check_queue_name(name)
