"""The two languages for a schema: what is said in the provider's own, what cannot be, and what comes back."""

from __future__ import annotations

import dataclasses
import datetime as dt  # noqa: TC003 - pydantic looks at it
import enum
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.language.gemini.dialects import Unsayable, to_json_schema, to_schema
from gemqueue.language.gemini.fields import SCHEMA_FIELDS
from gemqueue.language.gemini.schemas import class_schema, misfit
from gemqueue_adapters.emulator.answers.schemas import satisfy
from gemqueue_adapters.emulator.rows import check_line

LINE = {"$defs": {"Line": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}
POINT: dict[str, Any] = {"properties": {"x": {"type": "INTEGER"}}, "required": ["x"], "type": "OBJECT"}

SAID: list[tuple[object, dict[str, Any]]] = [
    (
        {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "a+"},
        {"type": "STRING", "minLength": 1, "maxLength": 3, "pattern": "a+"},
    ),
    ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
    ({"type": "boolean", "enum": [False, True]}, {"type": "BOOLEAN"}),
    ({"type": "integer", "exclusiveMinimum": 1.5}, {"type": "INTEGER", "minimum": 2}),
    ({"type": "integer", "exclusiveMaximum": 3}, {"type": "INTEGER", "maximum": 2}),
    ({"type": "string", "nullable": True}, {"type": "STRING", "nullable": True}),
    ({"type": "null"}, {"type": "NULL"}),
    ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {"type": "STRING", "nullable": True}),
    (
        {"type": ["integer", "string", "null"], "minLength": 2, "title": "T"},
        {"anyOf": [{"type": "INTEGER"}, {"minLength": 2, "type": "STRING"}], "nullable": True, "title": "T"},
    ),
    (
        {"oneOf": [{"type": "string"}, {"type": "number"}], "discriminator": {"propertyName": "k"}},
        {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
    ),
    ({"enum": ["a", "b"]}, {"enum": ["a", "b"], "type": "STRING"}),
    ({"enum": ["a", None]}, {"enum": ["a"], "nullable": True, "type": "STRING"}),
    ({"const": "a"}, {"enum": ["a"], "type": "STRING"}),
    ({"type": "integer", "enum": [3, 1, 2]}, {"maximum": 3, "minimum": 1, "type": "INTEGER"}),
    ({"type": "integer", "exclusiveMinimum": 0, "minimum": -3}, {"minimum": 1, "type": "INTEGER"}),
    (
        {"type": "number", "exclusiveMinimum": 0, "description": "The price.", "multipleOf": 0.5},
        {"description": "The price. (a multiple of 0.5; above 0)", "minimum": 0, "type": "NUMBER"},
    ),
    ({"type": "string", "format": "date-time"}, {"format": "date-time", "type": "STRING"}),
    ({"type": "string", "format": "uuid"}, {"description": "(format: uuid)", "type": "STRING"}),
    (
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 1},
        {"description": "(no item twice)", "items": {"type": "STRING"}, "minItems": 1, "type": "ARRAY"},
    ),
    (
        {"type": "array", "prefixItems": [{"type": "number"}] * 2, "items": False},
        {"items": {"type": "NUMBER"}, "maxItems": 2, "minItems": 2, "type": "ARRAY"},
    ),
    (
        {"properties": {"b_c": {"type": "string", "title": "B C"}, "a": {"$ref": "#/$defs/Line"}}, **LINE},
        {"properties": {"b_c": {"type": "STRING"}, "a": POINT}, "propertyOrdering": ["b_c", "a"], "type": "OBJECT"},
    ),
    ({"$ref": "#/$defs/Line", "description": "here", **LINE}, {**POINT, "description": "here"}),
    ({"allOf": [{"$ref": "#/$defs/Line"}], "title": "T", **LINE}, {**POINT, "title": "T"}),
    (
        {"type": "OBJECT", "properties": {"x": {"any_of": [{"type": "INTEGER"}], "nullable": True}}}
        | {"additional_properties": False},
        {"properties": {"x": {"nullable": True, "type": "INTEGER"}}, "type": "OBJECT"},
    ),
]


@pytest.mark.parametrize(("schema", "said"), SAID)
def test_what_the_schema_message_says(schema: object, said: dict[str, Any]) -> None:
    """References are inlined, null is nullable, order is kept, what has no field is said in the description."""
    made: dict[str, Any] = to_schema(schema)
    assert made == said
    assert list(made.get("properties", {})) == list(said.get("properties", {}))
    assert misfit(made) is None


UNSAYABLE: list[tuple[object, str]] = [
    ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}, "a: it holds itself"),
    ({"properties": {"a": {"$ref": "#"}}}, "a: it holds itself (#)"),
    ({"$ref": "https://example.com/x"}, "a reference to what is not there"),
    ({"type": "object", "additionalProperties": {"type": "string"}}, "an object whose names are not known"),
    ({"type": "object"}, "an object whose names are not known"),
    ({"properties": {"a": {}}}, "a: a value of any type"),
    ({"type": "array"}, "items: any value"),
    (True, "any value"),
    ({"type": "integer", "enum": [60, 1440]}, "an enum of numbers, with gaps"),
    ({"type": "number", "enum": [0.5]}, "an enum of numbers"),
    ({"enum": ["a", 1]}, "a value of any type"),
    ({"type": "string", "enum": [""]}, "an enum with other things than texts"),
    ({"prefixItems": [{"type": "string"}, {"type": "number"}]}, "items of several kinds"),
    ({"type": "string", "not": {"const": "a"}}, "not"),
    ({"properties": {"a": {"type": "string"}}, "required": ["b"]}, "b is required and no property"),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"}, "type beside anyOf"),
    ({"type": "text"}, "the type text"),
    ({"type": "boolean", "const": True}, "an enum of boolean values"),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "enum": [{"a": "x"}]}, "an enum of object values"),
    ({"$ref": "#/$defs/A", "properties": {"b": {"type": "string"}}, "$defs": {"A": {"properties": {"a": {}}}}},
     "properties twice"),
    ({"type": "string", "minLength": 2, "allOf": [{"minLength": 5}]}, "minLength twice"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "why"), UNSAYABLE)
def test_what_it_cannot_say(schema: object, why: str) -> None:
    """Recursion, maps, open values and enums of numbers are named with their place, not dropped."""
    with pytest.raises(Unsayable) as caught:
        to_schema(schema)
    assert why in str(caught.value)


def test_a_small_schema_that_is_huge_without_references() -> None:
    """Thirty classes, each of which holds the next one twice, are given up early instead of being written out."""
    definitions: dict[str, Any] = {
        f"C{n}": {"properties": {"a": (below := {"$ref": f"#/$defs/C{n + 1}"}), "b": below}} for n in range(30)
    }
    with pytest.raises(Unsayable, match="too much"):
        to_schema({"$ref": "#/$defs/C0", "$defs": definitions | {"C30": {"type": "string"}}})


@pytest.mark.parametrize(
    ("mixed", "expected"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "STRING", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"any_of": [{"type": "INTEGER"}], "nullable": True}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ({"$ref": "#/x", "nullable": True}, {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]}),
        (
            {
                "properties": {"any_of": {"type": "OBJECT", "max_properties": 1}},
                "additionalProperties": {"type": "ARRAY"},
            },
            {
                "properties": {"any_of": {"type": "object", "maxProperties": 1}},
                "additionalProperties": {"type": "array"},
            },
        ),
    ],
)
def test_a_mixture_becomes_json_schema(mixed: object, expected: object) -> None:
    """Types become lower case, nullable a type, words camelCase; the names of properties stay the caller's own."""
    assert to_json_schema(mixed) == expected


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Verdict:
    """What was found."""

    label: str
    score: float
    colours: list[Colour]
    stars: Literal[1, 2, 3]
    reason: str | None = None


class Page(pydantic.BaseModel):
    """A page of verdicts."""

    when: dt.datetime
    size: tuple[float, float]
    first: Verdict | None
    others: list[Verdict] = pydantic.Field(min_length=1, description="The others.")
    price: float = pydantic.Field(gt=0)


class Struct(msgspec.Struct):
    """One with names of its own."""

    a: int = msgspec.field(name="Metric A")
    page: int | str = 3


CLASSES: list[Any] = [Verdict, Page, Struct, Colour, list[Page], Verdict | Page, Page | None, list[Struct | Page], str]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_answer_to_the_schema_is_one_of_the_class(cls: Any) -> None:
    """What satisfies the Schema message of a class can be read as that class, and the provider takes the message."""
    said = to_schema(class_schema(cls, "schema"))
    row = {"contents": [{"parts": [{"text": "q"}]}], "generationConfig": {"responseSchema": said}}
    check_line("generate", msgspec.json.encode({"key": "k", "request": row}))
    answer = satisfy(said, "0123456789abcdef")
    if "Struct" in str(cls):
        msgspec.convert(answer, Struct if cls is Struct else list[Struct])
        return
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(cls)
    adapter.validate_python(answer)


WORDS = sorted(SCHEMA_FIELDS | {"$ref", "a", "additionalProperties", "allOf", "any_of", "const", "exclusiveMinimum"})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["string", "OBJECT", "null", "a", "#", "#/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_is_given_is_said_or_is_not(schema: Any) -> None:
    """No JSON value raises anything but Unsayable, and what is said and fits is taken by the provider."""
    assert to_json_schema(to_json_schema(schema)) == to_json_schema(schema)
    try:
        said = to_schema(schema)
    except Unsayable:
        return
    if misfit(said) is None:
        row = {"contents": [{"parts": [{"text": "q"}]}], "generationConfig": {"responseSchema": said}}
        check_line("generate", msgspec.json.encode({"key": "k", "request": row}))
