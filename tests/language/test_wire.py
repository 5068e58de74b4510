"""What is sent for a schema: in which language, by which setting, under which identity."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import pytest

from gemqueue.language.gemini import schemas, wire
from gemqueue.language.gemini.dialects import to_schema
from gemqueue.language.gemini.requests import RequestEncoder, encoder_for, rest_request
from gemqueue.language.identity import digest_of, salt_of
from gemqueue.states import Kind


@dataclasses.dataclass
class Verdict:
    """What the Schema message can say."""

    label: str
    score: float


@dataclasses.dataclass
class Node:
    """What it cannot: a class that holds itself."""

    name: str
    below: list[Node]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No schema has been warned of yet."""
    monkeypatch.setattr(wire, "_warned", set[bytes]())


def generation(config: object, dialect: str = wire.SCHEMA) -> dict[str, Any]:
    """The generationConfig that goes out."""
    sent: dict[str, Any] = json.loads(RequestEncoder(Kind.GENERATE, config, dialect).encode("q"))
    found: dict[str, Any] = sent["generationConfig"]
    assert found["responseMimeType"] == "application/json"
    return found


def test_a_class_goes_out_as_response_schema() -> None:
    """In the provider's own Schema, in the order of its fields; the setting turns it into JSON Schema."""
    own = generation({"response_schema": Verdict})
    assert "responseJsonSchema" not in own
    assert own["responseSchema"] == {
        "properties": {"label": {"type": "STRING"}, "score": {"type": "NUMBER"}},
        "propertyOrdering": ["label", "score"],
        "required": ["label", "score"],
        "description": "What the Schema message can say.",
        "title": "Verdict",
        "type": "OBJECT",
    }
    turned = generation({"response_schema": Verdict}, wire.JSON_SCHEMA)
    assert "responseSchema" not in turned
    assert turned["responseJsonSchema"]["properties"]["label"] == {"type": "string"}


def test_what_schema_cannot_say_goes_out_as_json_schema_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Recursion keeps its references; each shape is warned of once; nobody is warned of what he asked for."""
    with caplog.at_level(logging.WARNING, "gemqueue"):
        generation({"response_schema": Node}, wire.JSON_SCHEMA)
        generation({"response_json_schema": {"type": "object"}})
        assert caplog.messages == []
        sent = generation({"response_schema": Node})
        for _ in range(2):
            assert generation({"response_schema": Node}) == sent
            generation({"response_schema": dict[str, Verdict]})
    assert sent["responseJsonSchema"]["properties"]["below"]["items"] == {"$ref": "#/$defs/Node"}
    assert ["it holds itself" in each for each in caplog.messages] == [True, False]
    assert all("schema_dialect" in each for each in caplog.messages)


def test_the_callers_own_json_schema_stays() -> None:
    """What is given as response_json_schema goes out as it is, whatever Schema could say."""
    given = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    for dialect in wire.DIALECTS:
        assert generation({"response_json_schema": given}, dialect)["responseJsonSchema"] == given


def test_a_dict_in_words_of_both_languages_is_translated() -> None:
    """A Schema with additionalProperties goes out as one, or wholly in JSON Schema; never as a mixture."""
    mixed = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}, "additionalProperties": False}
    own = generation({"response_schema": mixed})["responseSchema"]
    assert own == {"properties": {"a": {"nullable": True, "type": "STRING"}}, "type": "OBJECT"}
    assert generation({"response_schema": mixed}, wire.JSON_SCHEMA)["responseJsonSchema"] == {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }


def test_an_enum_of_integers_goes_out_where_it_is_allowed() -> None:
    """As a range where it has no gap, else as JSON Schema: Schema has enums of strings alone, and refuses a batch."""
    minutes = {"type": "integer", "enum": [60, 1440]}
    schema = {"type": "object", "properties": {"minutes": minutes}}
    assert generation({"responseSchema": schema})["responseJsonSchema"] == schema
    stars = {"type": "integer", "enum": [1, 2, 3]}
    assert generation({"responseSchema": stars})["responseSchema"] == {"maximum": 3, "minimum": 1, "type": "INTEGER"}
    function = {"name": "f", "parameters": schema}
    row = {"contents": [{"parts": [{"text": "q"}]}], "tools": [{"functionDeclarations": [function]}]}
    sent = json.loads(rest_request(Kind.GENERATE, row))["tools"][0]["functionDeclarations"][0]
    assert sent == {"name": "f", "parametersJsonSchema": schema}


def test_a_functions_parameters_are_said_in_schema() -> None:
    """A class, or a dict with additionalProperties, as parameters and response of a function."""
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    tools = [{"function_declarations": [{"name": "f", "parameters": closed, "response": Verdict}, {"name": "g"}]}]
    sent = json.loads(RequestEncoder(Kind.GENERATE, {"tools": tools}).encode("q"))
    first, second = sent["tools"][0]["functionDeclarations"]
    assert first["parameters"] == {"properties": {"a": {"type": "STRING"}}, "type": "OBJECT"}
    assert first["response"]["required"] == ["label", "score"]
    assert (set(first), second) == ({"name", "parameters", "response"}, {"name": "g"})


def test_the_digest_is_equal_with_either_setting() -> None:
    """A name is compared by what was asked: the recorded digest of 0.2.0, whatever the setting says."""
    config = {"response_schema": Verdict}
    encoders = [encoder_for(Kind.GENERATE, config, dialect) for dialect in sorted(wire.DIALECTS)]
    sent, asked = zip(*(encoder.identified("q") for encoder in encoders), strict=True)
    assert sent[0] != sent[1]
    assert {digest_of(salt_of("gemini-3.5-flash", Kind.GENERATE), each) for each in asked} == {DIGEST}


DIGEST = "1f46e703f5350e4a7932b202484fe04d"
"""Of 0.2.0, with a ``Verdict`` as here."""


def test_a_schema_that_many_rows_carry_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a file mostly carry one schema: what it becomes is remembered, with its order, for each setting."""
    monkeypatch.setattr(wire, "_known", dict[object, object]())
    monkeypatch.setattr(schemas, "_known", dict[object, object]())
    said = list[object]()

    def counted(schema: object) -> dict[str, object]:
        said.append(schema)
        return to_schema(schema)

    monkeypatch.setattr(wire, "to_schema", counted)
    sent = list[list[str]]()
    for order in ("ab", "ab", "ba"):
        properties = {name: {"type": "string"} for name in order}
        closed = {"type": "object", "properties": properties, "additionalProperties": False}
        row = {"contents": [{"parts": [{"text": "q"}]}], "generationConfig": {"responseSchema": closed}}
        generation = json.loads(rest_request(Kind.GENERATE, row))["generationConfig"]
        sent.append(generation["responseSchema"]["propertyOrdering"])
    assert sent == [["a", "b"], ["a", "b"], ["b", "a"]]
    assert len(said) == 2
