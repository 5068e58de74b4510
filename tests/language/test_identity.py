"""Identity is not the wire: digests that were recorded of 0.2.0 hold, whatever is sent."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest
from google.genai import types

from gemqueue.language.gemini import requests
from gemqueue.language.gemini.requests import RequestEncoder
from gemqueue.language.gemini.schemas import Twin
from gemqueue.language.identity import digest_of, salt_of
from gemqueue.states import Kind


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Verdict:
    """A class as people write one."""

    label: str
    score: float
    colours: list[Colour]
    reason: str | None = None


SPOKEN: dict[str, Any] = {"speech_config": "Kore", "response_modalities": ["AUDIO"]}
TOOLS: dict[str, Any] = {
    "tools": [
        {"function_declarations": [{"name": "f", "parameters": {"type": "object", "additionalProperties": False}}]}
    ],
    "tool_config": {"function_calling_config": {"mode": "ANY"}},
}
TURNS: list[Any] = [
    {"role": "user", "parts": [{"text": 'ü 漢\n"'}, {"inline_data": {"mime_type": "image/png", "data": b"\xfb\xff"}}]},
    types.Part(text="more"),
]
RECORDED: list[tuple[str, Kind, object, object]] = [
    ("464fc2b5d07cbde0374a0b1d43503d58", Kind.GENERATE, "q", None),
    (
        "07336541846bd99bfac9593ab6652b17",
        Kind.GENERATE,
        "q",
        {"temperature": 0.5, "max_output_tokens": 7, "system_instruction": "s"},
    ),
    (
        "07336541846bd99bfac9593ab6652b17",
        Kind.GENERATE,
        "q",
        types.GenerateContentConfig(temperature=0.5, max_output_tokens=7, system_instruction="s"),
    ),
    (
        "7b386f405c2975ae0f002af2c595baf3",
        Kind.GENERATE,
        TURNS,
        {"thinking_config": {"thinkingBudget": 0}, "stop_sequences": ["x"]},
    ),
    ("ed64a66ef2922c5c303e78b90ef67317", Kind.GENERATE, "q", {"response_schema": Verdict}),
    (
        "d7875eb81b46f5c75cd7cdf0158ced76",
        Kind.GENERATE,
        "q",
        {"response_schema": list[Verdict], "response_mime_type": "application/json"},
    ),
    (
        "c7a2e58c429cdb45d882d187695cdbbf",
        Kind.GENERATE,
        "q",
        {"response_schema": {"type": "object", "properties": {"a_b": {"type": "string"}}}},
    ),
    ("a8ff35d8983d72e809b322777d0be92f", Kind.GENERATE, "q", {"response_schema": {"type": ["string", "null"]}}),
    ("91d3a04ba500362818a0c4b9340b8680", Kind.GENERATE, "q", {"response_json_schema": {"type": "string"}}),
    (
        "0f73b1acfb6e06ce6aa7e907fd210a66",
        Kind.GENERATE,
        "q",
        {"response_schema": Colour, "response_mime_type": "text/x.enum"},
    ),
    ("18512301936e87dd6317711258e48bb3", Kind.GENERATE, "q", SPOKEN),
    ("334c8c329ffa5aed6a41fc4ac3be2096", Kind.GENERATE, "q", TOOLS),
    (
        "3a3a30c52132c5c4ca0ac194e13c4015",
        Kind.EMBED,
        "t",
        {"output_dimensionality": 5, "task_type": "RETRIEVAL_DOCUMENT"},
    ),
]
"""Digests of 0.2.0, and what they were taken of, with the model ``gemini-3.5-flash``."""


def identified(kind: Kind, contents: object, config: object) -> str:
    asked = RequestEncoder(kind, config).identified(contents)[1]
    return digest_of(salt_of("gemini-3.5-flash", kind), asked)


@pytest.mark.parametrize(("digest", "kind", "contents", "config"), RECORDED)
def test_recorded_digests_hold(digest: str, kind: Kind, contents: object, config: object) -> None:
    """The identity form of 0.2.0 is frozen: each request has the digest that 0.2.0 stored."""
    assert identified(kind, contents, config) == digest


def test_what_is_sent_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another wire changes what goes out, for classes too, and no digest."""

    def other(fields: dict[str, object], _dialect: str) -> dict[str, object]:
        assert isinstance(fields["generationConfig"], dict)
        assert isinstance(fields["generationConfig"]["responseJsonSchema"], Twin)
        return {"generationConfig": {"responseSchema": {"type": "OBJECT"}}}

    config = {"response_schema": Verdict}
    before = RequestEncoder(Kind.GENERATE, config)
    monkeypatch.setattr(requests, "sent", other)
    after = RequestEncoder(Kind.GENERATE, config)
    for contents in ("q", TURNS):
        assert after.encode(contents) != before.encode(contents)
        assert b'"responseSchema":{"type":"OBJECT"}' in after.encode(contents)
        assert after.identified(contents) == (after.encode(contents), before.identified(contents)[1])


def test_what_goes_as_it_is_is_encoded_once() -> None:
    """Where nothing is sent otherwise, the identity form is the very request."""
    request, asked = RequestEncoder(Kind.GENERATE, {"temperature": 1}).identified("q")
    assert request is asked
