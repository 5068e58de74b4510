"""Response schemas and function parameters: classes and dicts into what the provider takes.

The provider has two languages for a schema: its own ``Schema`` message (an OpenAPI subset, ``responseSchema``) and JSON
Schema (``responseJsonSchema``). A class, or a dict with a word that only JSON Schema has, is a ``Twin`` here, a JSON
Schema; in which language it is sent is for ``wire`` to say.
"""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Annotated, Final, Union, cast, get_args, get_origin

import msgspec

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini.fields import JSON_SCHEMA_WORDS, SCHEMA_FIELDS, camel, unknown_field

if TYPE_CHECKING:
    from collections.abc import Callable


class Twin(dict[str, object]):
    """A JSON Schema that stands in the twin's place, for a class or a dict that was asked for as a ``Schema``.

    What is sent for it is for the wire to say; its identity is this.
    """


class Unsendable(dict[str, object]):
    """A ``Schema`` with an enum of other things than strings, which the provider would refuse: the wire finds a way."""


def is_schema_class(value: object) -> bool:
    """Whether ``value`` is a class or a typing construct such as ``list[Recipe]`` rather than a dict."""
    return isinstance(value, type | types.UnionType) or get_origin(value) is not None


def class_schema(value: object, path: str) -> dict[str, object]:
    """The JSON Schema of a pydantic model, dataclass, Struct, Enum or plain type, or a list, dict or union of such.

    Raises:
        PromptInvalid: a class in it has no JSON Schema; the message names it.
    """
    try:
        if hasattr(value, "model_json_schema"):
            return _inline_root(_dump(value))
        item = get_args(value)[0] if get_origin(value) is list else None
        if hasattr(item, "model_json_schema"):
            schema = _dump(item)
            definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
            return {"type": "array", "items": schema, **definitions}
        return _inline_root(cast("dict[str, object]", msgspec.json.schema(cast("type[object]", value))))
    except Exception as error:  # a model's own schema code may raise anything
        if (composed := _composed(value, path)) is not None:
            return composed
        reason, name = type(error).__name__, getattr(value, "__name__", str(value))[:100]
        raise PromptInvalid(f"{path}: no JSON Schema can be made of {name} ({reason}); give a dict") from error


_COMPOSED: Final[dict[object, Callable[[list[dict[str, object]]], dict[str, object]]]] = {
    Union: lambda members: {"anyOf": members},
    types.UnionType: lambda members: {"anyOf": members},
    list: lambda members: {"type": "array", "items": members[0]},
    dict: lambda members: {"type": "object", "additionalProperties": members[1]},
}


def _composed(value: object, path: str) -> dict[str, object] | None:
    """The schema of a union, list or dict whose members are of several libraries; None for anything else."""
    origin, members = get_origin(value), get_args(value)
    if origin is Annotated:
        return class_schema(members[0], path)
    if origin not in _COMPOSED or (origin is dict and members[0] is not str):
        return None
    definitions: dict[str, object] = {}
    made = _COMPOSED[origin]([_gathered(each, definitions, path) for each in members])
    return {**made, "$defs": definitions} if definitions else made


def _gathered(member: object, definitions: dict[str, object], path: str) -> dict[str, object]:
    """A member's schema; what it defines goes to ``definitions``, under another name where its own is taken."""
    schema: dict[str, object] = {"type": "null"} if member is type(None) else class_schema(member, path)
    defined = cast("dict[str, object]", schema.pop("$defs", {}))
    taken = {name for name, each in defined.items() if definitions.get(name, each) != each}
    names = {f"#/$defs/{name}": f"#/$defs/{name}_{len(definitions)}" for name in taken}
    for name, each in defined.items():
        new = names.get(f"#/$defs/{name}", f"#/$defs/{name}").removeprefix("#/$defs/")
        definitions[new] = _renamed(each, names)
    return cast("dict[str, object]", _renamed(schema, names))


def _renamed(value: object, names: dict[str, str]) -> object:
    """A schema whose references follow ``names``."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    made = {name: _renamed(each, names) for name, each in fields.items()}
    if isinstance(ref := fields.get("$ref"), str):
        made["$ref"] = names.get(ref, ref)
    return made


def _dump(model: object) -> dict[str, object]:
    made: object = model.model_json_schema()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    return cast("dict[str, object]", made)


def _inline_root(schema: dict[str, object]) -> dict[str, object]:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = cast("dict[str, dict[str, object]]", schema["$defs"])
    return {**definitions[reference.rsplit("/", 1)[-1]], "$defs": definitions}


_KNOWN_MAX: Final = 64
_KNOWN_BYTES_MAX: Final = 65_536
_known: Final[dict[bytes, dict[str, object]]] = {}
_encode: Final = msgspec.json.Encoder().encode


def dict_schema(schema: object, path: str) -> object:
    """A schema that was given as finite JSON: a ``Twin``, a ``Schema`` message, or what is no object as it is.

    The last ones are remembered, since the rows of a file mostly carry the same one; nobody may change them.

    Raises:
        PromptInvalid: as ``openapi_schema``.
    """
    key = _encode(schema)
    known = _known.get(key)
    if known is not None:
        return known
    if not is_json_schema(schema):
        own = openapi_schema(schema, path)
        made = Unsendable(own) if _has_other_enum(own) else own
    elif isinstance(schema, dict):
        made = Twin(cast("dict[str, object]", schema))
    else:
        return schema
    if len(key) <= _KNOWN_BYTES_MAX:
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        _known[key] = made
    return made


def is_json_schema(schema: object) -> bool:
    """Whether a finite JSON value uses words that only JSON Schema has, anywhere where a schema may stand."""
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    fields = cast("dict[str, object]", schema)
    if any(name.startswith("$") or camel(name) in JSON_SCHEMA_WORDS for name in fields):
        return True
    return isinstance(fields.get("type"), list) or any(map(is_json_schema, _subschemas(fields)))


def _subschemas(fields: dict[str, object]) -> list[object]:
    found: list[object] = []
    for name, value in fields.items():
        if name == "properties" and isinstance(value, dict):
            found.extend(cast("dict[str, object]", value).values())
        elif name == "items":
            found.append(value)
        elif camel(name) == "anyOf" and isinstance(value, list):
            found.extend(cast("list[object]", value))
    return found


def openapi_schema(schema: object, path: str) -> dict[str, object]:
    """A finite JSON value as the provider's Schema message: camelCase names, upper-case types.

    Raises:
        PromptInvalid: not an object, or a name that Schema does not have.
    """
    if not isinstance(schema, dict):
        raise PromptInvalid(f"{path} must be a schema, not {type(schema).__name__}")
    out: dict[str, object] = {}
    for given, value in cast("dict[str, object]", schema).items():
        name = camel(given)
        if name not in SCHEMA_FIELDS:
            raise unknown_field(path, given, SCHEMA_FIELDS)
        if value is not None or name in {"default", "example"}:
            out[name] = _schema_field(name, value, f"{path}.{name}")
    if (wrong := misfit(out, deep=False)) is not None:
        raise PromptInvalid(f"{path}.{wrong[0]} must be {wrong[1]}")
    return dict(sorted(out.items()))


def _are_texts(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(each, str) for each in cast("list[object]", given))


def _is_number(given: object) -> bool:
    if isinstance(given, str):
        return re.fullmatch(r"-?\d+(\.\d+)?", given) is not None
    return isinstance(given, int | float) and not isinstance(given, bool)


_SCHEMA_TYPES: Final = frozenset(
    {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL", "TYPE_UNSPECIFIED"}
)
_FITS: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "type": (
        lambda given: isinstance(given, str) and given in _SCHEMA_TYPES,
        "one of string, number, integer, boolean, array, object, null",
    ),
    **dict.fromkeys(("format", "title", "description", "pattern"), (lambda given: isinstance(given, str), "a string")),
    "nullable": (lambda given: isinstance(given, bool), "true or false"),
    "enum": (lambda given: isinstance(given, list), "a list"),
    **dict.fromkeys(("required", "propertyOrdering"), (_are_texts, "a list of strings")),
    "properties": (lambda given: isinstance(given, dict), "an object: a schema for each name"),
    "anyOf": (lambda given: isinstance(given, list), "a list of schemas"),
    **dict.fromkeys(
        re.findall(r"\w+", "maxItems minItems minProperties maxProperties minLength maxLength minimum maximum"),
        (_is_number, "a number"),
    ),
}
"""What the fields of ``Schema`` take: a value of another kind would refuse the whole batch."""


def misfit(schema: dict[str, object], *, deep: bool = True) -> tuple[str, str] | None:
    """The first field of a ``Schema`` message whose value is of the wrong kind, and what it must be."""
    for name, value in schema.items():
        if name in _FITS and not _FITS[name][0](value):
            return name, _FITS[name][1]
    if not deep:
        return None
    inner = (misfit(cast("dict[str, object]", each)) for each in _subschemas(schema) if isinstance(each, dict))
    return next((found for found in inner if found is not None), None)


def _has_other_enum(schema: object) -> bool:
    """Whether an enum in a ``Schema`` message holds other things than strings, which that message cannot."""
    if not isinstance(schema, dict):
        return False
    fields = cast("dict[str, object]", schema)
    return ("enum" in fields and not _are_texts(fields["enum"])) or any(map(_has_other_enum, _subschemas(fields)))


def _schema_field(name: str, value: object, path: str) -> object:
    if name == "type" and isinstance(value, str):
        return value.upper()
    if name == "properties" and isinstance(value, dict):
        properties = cast("dict[str, object]", value)
        return {given: openapi_schema(item, f"{path}.{given}") for given, item in properties.items()}
    if name == "items":
        return openapi_schema(value, path)
    if name == "anyOf" and isinstance(value, list):
        return [openapi_schema(item, f"{path}[{i}]") for i, item in enumerate(cast("list[object]", value))]
    return value
