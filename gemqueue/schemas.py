"""Response schemas and function parameters: classes and dicts into what the provider takes.

The provider has two languages for a schema: its own ``Schema`` message (an OpenAPI subset, ``responseSchema``) and JSON
Schema (``responseJsonSchema``). Classes always become JSON Schema; a dict becomes it when it uses a word that only JSON
Schema has, because the ``Schema`` message would refuse that word and with it the whole batch.
"""

from __future__ import annotations

import types
from typing import cast, get_args, get_origin

import msgspec

from gemqueue.errors import PromptInvalid
from gemqueue.fields import JSON_SCHEMA_WORDS, SCHEMA_FIELDS, camel, unknown_field


class Twin(dict[str, object]):
    """A JSON Schema that stands in the twin's place, for a class or a dict that was asked for as a ``Schema``.

    What is sent for it is for the wire to say; its identity is this.
    """


def is_schema_class(value: object) -> bool:
    """Whether ``value`` is a class or a typing construct such as ``list[Recipe]`` rather than a dict."""
    return isinstance(value, type | types.UnionType) or get_origin(value) is not None


def class_schema(value: object, path: str) -> dict[str, object]:
    """The JSON Schema of a pydantic model, ``list[model]``, dataclass, msgspec Struct, Enum or plain type.

    Raises:
        PromptInvalid: the class has no JSON Schema.
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
        reason = type(error).__name__
        raise PromptInvalid(f"{path}: no JSON Schema can be made of this class ({reason}); give a dict") from error


def _dump(model: object) -> dict[str, object]:
    made: object = model.model_json_schema()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    return cast("dict[str, object]", made)


def _inline_root(schema: dict[str, object]) -> dict[str, object]:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = cast("dict[str, dict[str, object]]", schema["$defs"])
    return {**definitions[reference.rsplit("/", 1)[-1]], "$defs": definitions}


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
    return dict(sorted(out.items()))


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
