"""The door's values: held to the official client's lists, and to the emulator's, which are written apart."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types

from gemqueue import PromptInvalid
from gemqueue.language.gemini import choices, fields
from gemqueue.language.gemini.choices import Bounds, Words
from gemqueue.language.gemini.requests import embed_request, generate_request
from gemqueue_adapters.emulator import proto
from gemqueue_adapters.emulator.rows import RowError, check_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

    from gemqueue.language.gemini.fields import Message

SDK = "3."
OFFICIAL: list[tuple[Words, type[Enum]]] = [
    (choices.THRESHOLD, types.HarmBlockThreshold),
    (choices.CALLING_MODE, types.FunctionCallingConfigMode),
    (choices.BEHAVIOR, types.Behavior),
    (choices.SCHEDULING, types.FunctionResponseScheduling),
    (choices.MODALITY, types.Modality),
    (choices.RESOLUTION, types.MediaResolution),
    (choices.THINKING_LEVEL, types.ThinkingLevel),
    (choices.SERVICE_TIER, types.ServiceTier),
]
MESSAGES: list[tuple[Message, Any]] = [
    (fields.PART, proto.Part),
    (fields.CONTENT, proto.Content),
    (fields.GENERATION, proto.GenerationConfig),
    (fields.FUNCTION_DECLARATION, proto.FunctionDeclaration),
    (fields.TOOL, proto.Tool),
    (fields.GENERATE_REQUEST, proto.GenerateContentRequest),
    (fields.EMBED_REQUEST, proto.EmbedContentRequest),
]
PLACES: dict[str, tuple[Words | Bounds, Callable[[Any], dict[str, Any]]]] = {
    "category": (choices.CATEGORY, lambda value: {"safety_settings": [{"category": value, "threshold": "OFF"}]}),
    "threshold": (
        choices.THRESHOLD,
        lambda value: {"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": value}]},
    ),
    "mode": (choices.CALLING_MODE, lambda value: {"tool_config": {"function_calling_config": {"mode": value}}}),
    "behavior": (
        choices.BEHAVIOR,
        lambda value: {"tools": [{"function_declarations": [{"name": "f", "behavior": value}]}]},
    ),
    "thinkingLevel": (choices.THINKING_LEVEL, lambda value: {"thinking_config": {"thinking_level": value}}),
    "thinkingBudget": (choices.THINKING_BUDGET, lambda value: {"thinking_config": {"thinking_budget": value}}),
    "mediaResolution": (choices.RESOLUTION, lambda value: {"media_resolution": value}),
    "serviceTier": (choices.SERVICE_TIER, lambda value: {"service_tier": value}),
    "temperature": (choices.TEMPERATURE, lambda value: {"temperature": value}),
    "topP": (choices.SHARE, lambda value: {"top_p": value}),
    "topK": (choices.TOP_K, lambda value: {"top_k": value}),
    "candidateCount": (choices.CANDIDATES, lambda value: {"candidate_count": value}),
    "maxOutputTokens": (choices.COUNT, lambda value: {"max_output_tokens": value}),
    "presencePenalty": (choices.PENALTY, lambda value: {"presence_penalty": value}),
    "frequencyPenalty": (choices.PENALTY, lambda value: {"frequency_penalty": value}),
    "logprobs": (choices.LOGPROBS, lambda value: {"logprobs": value}),
    "seed": (choices.SEED, lambda value: {"seed": value}),
}
"""Where a value of each list or range may stand in a config."""


def door(config: dict[str, Any]) -> bool:
    try:
        generate_request("q", config)
    except PromptInvalid:
        return False
    return True


def emulator(config: dict[str, Any]) -> bool:
    """Whether the emulator takes what the door would send, unchecked."""
    top = {name: config[name] for name in config if name in {"safety_settings", "tool_config", "tools", "service_tier"}}
    rest = {name: value for name, value in config.items() if name not in top}
    request = {"contents": [{"parts": [{"text": "q"}]}], "generation_config": rest, **top}
    try:
        check_request("generate", json.dumps(request).encode())
    except RowError:
        return False
    return True


def samples(spec: Words | Bounds) -> list[Any]:
    if isinstance(spec, Words):
        return [*sorted(spec.words), "", "NONSENSE", f"{max(spec.words)}\t", max(spec.words).title(), " OFF"]
    return [spec.low, spec.high, spec.low - 1, spec.high + 1, (int(spec.low) + int(spec.high)) // 2]


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(PromptInvalid) as caught:
        generate_request("q", config)
    return str(caught.value)


def test_the_official_client_is_the_one_that_the_tables_name() -> None:
    """The lists are of this version; a later one may have more words, and then the next test says which."""
    assert importlib.metadata.version("google-genai").startswith(SDK)


@pytest.mark.parametrize(("words", "official"), OFFICIAL)
def test_closed_lists_are_the_official_clients(words: Words, official: type[Enum]) -> None:
    """Word for word: one that is missing here refuses what the client sends, one too many lets a slip through."""
    assert words.words == {member.value for member in official}


def test_every_category_of_the_official_client_passes() -> None:
    """The list is open: those that the client has for another service go out with a warning."""
    assert all(door(PLACES["category"][1](member.value)) for member in types.HarmCategory)


@pytest.mark.parametrize(("message", "struct"), MESSAGES)
def test_the_door_and_the_emulator_know_the_same_fields(message: Message, struct: Any) -> None:
    """What the door lets through the emulator takes, field by field; ``model`` stands only in an interactive call."""
    assert set(message.fields) == {proto.camel(name) for name in struct.__struct_fields__} - {"model"}


@pytest.mark.parametrize("place", PLACES)
def test_the_door_and_the_emulator_take_the_same_values(place: str) -> None:
    """Each word of a list, both ends of a range, and what lies beside them."""
    spec, make = PLACES[place]
    taken = {value: (door(make(value)), emulator(make(value))) for value in samples(spec)}
    assert {value for value, (ours, theirs) in taken.items() if ours and not theirs} == set()
    assert {value for value, (ours, theirs) in taken.items() if theirs and not ours} == set()
    assert any(ours for ours, _ in taken.values())
    assert not all(ours for ours, _ in taken.values())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"safety_settings": [{"category": "HARM_CATEGORY_HATESPEECH", "threshold": "OFF"}]},
            "HARM_CATEGORY_HATE_SPEE",
        ),
        ({"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT\t", "threshold": "OFF"}]}, "HARM_CATEGORY_HARASS"),
        ({"thinking_config": {"thinking_level": "hi"}}, "it takes HIGH, LOW"),
        ({"temperature": 3}, "config.temperature is 3, and must be from 0 to 2"),
        ({"max_output_tokens": 0}, "config.maxOutputTokens is 0, and must be 1 or more"),
        ({"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}] * 2}, "given twice"),
        ({"response_modalities": ["TEXT", "SOUND"]}, "config.responseModalities[1] is 'SOUND': it takes"),
        ({"response_mime_type": "json"}, "config.responseMimeType is 'json': it takes"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(config: dict[str, Any], words: str) -> None:
    """The field, the value, and what it should have been."""
    assert words in refusal(config)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"inlineData": {"mimeType": "png", "data": "aa=="}}, "mimeType is 'png': a MIME type is written"),
        ({"inlineData": {"mimeType": "image/png", "data": ""}}, "data is empty"),
        ({"inlineData": {"mimeType": "image/png", "data": b""}}, "data is empty"),
        ({"fileData": {"fileUri": "a.pdf"}}, "a URI begins with https://"),
        ({"fileData": {"fileUri": "file:///a.pdf"}}, "a URI begins with https://"),
    ],
)
def test_a_part_without_usable_data_is_refused(part: dict[str, Any], words: str) -> None:
    """No bytes, no type, or a place that only the caller's machine knows."""
    with pytest.raises(PromptInvalid, match=words):
        generate_request([part])


def test_new_words_of_open_lists_pass_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Models learn new MIME types and picture sizes before we do."""
    with caplog.at_level(logging.WARNING, "gemqueue"):
        for _ in range(3):
            assert door({"image_config": {"image_size": "16K", "aspect_ratio": "7:3"}})
    said = {record.getMessage().partition(",")[0] for record in caplog.records}
    assert (said, len(caplog.records)) == ({"aspectRatio is '7:3'", "imageSize is '16K'"}, 2)


def test_a_lenient_door_lets_unknown_values_pass_and_no_unknown_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out for the day on which the service knows more than the table."""
    monkeypatch.setenv(choices.DOOR_ENV, "lenient")
    assert door({"thinking_config": {"thinking_level": "ULTRA"}, "temperature": 9})
    assert not door({"thinking_confg": {}})
    assert not door({"temperature": "warm"})


class Scalar:
    """A number as other libraries have it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        """What NumPy's own gives."""
        return self._value


def test_numbers_of_other_libraries_are_numbers() -> None:
    """NumPy's scalars and arrays, Decimal, and floats that are whole where an integer is asked for."""
    given = {"temperature": Decimal("0.5"), "seed": Scalar(3), "stop_sequences": Scalar(["a"]), "top_k": 5.0}
    plain = {"temperature": 0.5, "seed": 3, "stop_sequences": ["a"], "top_k": 5}
    assert generate_request("q", given) == generate_request("q", plain)


def test_the_embed_config_of_the_present_reference_is_the_same_request() -> None:
    """``embedContentConfig`` beside the content, or its fields there."""
    assert embed_request("t", {"task_type": "CLUSTERING"}) == (
        b'{"content":{"parts":[{"text":"t"}]},"taskType":"CLUSTERING"}'
    )
    with pytest.raises(PromptInvalid, match="it takes CLASSIFICATION"):
        embed_request("t", {"task_type": "X"})
