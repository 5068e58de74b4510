"""The two languages that the provider has for a schema, and the ways between them. Pure.

``responseSchema`` takes the provider's own ``Schema`` message, an OpenAPI subset: no references, no open maps, enums of
strings alone. ``responseJsonSchema`` takes JSON Schema, and batches were seen to answer it with wrong shapes. So what
``Schema`` can say is said in it, with references inlined; what only narrows a value (a format, a multiple) and has no
field there goes into the description in words.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import unquote

from gemqueue.language.gemini.fields import JSON_SCHEMA_WORDS, SCHEMA_FIELDS, camel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Fields = dict[str, object]

_DEPTH_MAX: Final = 24
_NODES_MAX: Final = 4_000
"""Inlined, a schema of 20 lines can become a million: every class that is used twice doubles what is below it."""

_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_FORMATS: Final = frozenset({"date-time", "enum", "float", "double", "int32", "int64"})
_VALUED: Final = frozenset({"string", "integer", "number", "null"})
"""Types whose makers know what to do with an enum or a constant."""
_NOTES: Final = ("title", "description")
_SILENT: Final = frozenset(
    re.findall(
        r"\S+",
        "$schema $id $anchor $comment $defs definitions default examples readOnly writeOnly deprecated discriminator "
        "contentEncoding contentMediaType",
    )
)
"""Words that change no answer."""
_SAYABLE: Final = SCHEMA_FIELDS | frozenset(
    re.findall(
        r"\w+", "additionalProperties const exclusiveMaximum exclusiveMinimum multipleOf prefixItems uniqueItems"
    )
)
_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS: Final = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_SINGLES: Final = frozenset({"items", "additionalProperties", "not", "contains", "if", "then", "else"})


class Unsayable(Exception):  # noqa: N818 - no error: the other language says it
    """The ``Schema`` message cannot say it; the message names the place and what is in the way."""


class _At(NamedTuple):
    """A place in a schema, and the references that led there."""

    path: str
    depth: int = 0
    refs: tuple[str, ...] = ("#",)

    def down(self, step: str) -> _At:
        return _At(f"{self.path}.{step}" if self.path else step, self.depth + 1, self.refs)

    def past(self, ref: str) -> _At:
        return _At(self.path, self.depth + 1, (*self.refs, ref))

    def stop(self, why: str) -> Unsayable:
        return Unsayable(f"{self.path}: {why}" if self.path else why)


def to_schema(schema: object) -> Fields:
    """A JSON Schema, or a mixture of both languages, as the ``Schema`` message.

    Raises:
        Unsayable: it refers to itself, has a map, a value of any type, an enum of other things than strings, or a word
            that ``Schema`` does not have.
    """
    return _Inliner(schema).node(schema, _At(""))


def to_json_schema(schema: object) -> object:
    """``Schema``, or a mixture of both languages, as JSON Schema. What is JSON Schema already comes back equal."""
    if not isinstance(schema, dict):
        return schema
    out = {name: _json_word(name, value) for name, value in _named(cast("Fields", schema)).items()}
    return _or_null(out) if out.pop("nullable", None) is True else out


def _named(fields: Fields) -> Fields:
    """The words of one schema in camelCase; what is no word of either language stays as it is."""
    words = SCHEMA_FIELDS | JSON_SCHEMA_WORDS | {"nullable"}
    return {camel(given) if camel(given) in words else given: value for given, value in fields.items()}


def _json_word(name: str, value: object) -> object:
    if name == "type":
        return [_lower(each) for each in cast("list[object]", value)] if isinstance(value, list) else _lower(value)
    if name in _MAPS and isinstance(value, dict):
        return {given: to_json_schema(each) for given, each in cast("Fields", value).items()}
    if name in _LISTS and isinstance(value, list):
        return [to_json_schema(each) for each in cast("list[object]", value)]
    return to_json_schema(value) if name in _SINGLES else value


def _lower(kind: object) -> object:
    return kind.lower() if isinstance(kind, str) and kind.lower() in _TYPES else kind


def _or_null(fields: Fields) -> Fields:
    """The same, or null."""
    kinds, options = fields.get("type"), fields.get("enum")
    if isinstance(kinds, str):
        more: Fields = {"enum": [*cast("list[object]", options), None]} if isinstance(options, list) else {}
        return fields | {"type": [kinds, "null"]} | more
    if isinstance(fields.get("anyOf"), list):
        return fields | {"anyOf": [*cast("list[object]", fields["anyOf"]), {"type": "null"}]}
    return {"anyOf": [fields, {"type": "null"}]} if fields and not isinstance(kinds, list) else fields


class _Inliner:
    """One conversion; counts how many schemas it may still visit."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _NODES_MAX
        self._makers: dict[str, Callable[[Fields, _At], Fields]] = {
            "object": self._object,
            "array": self._array,
            "string": _string,
            "integer": _integer,
            "number": _number,
        }

    def node(self, given: object, at: _At) -> Fields:
        """One schema and what is below it."""
        self._left -= 1
        if self._left < 0 or at.depth > _DEPTH_MAX:
            raise at.stop("too much to say without references")
        if not isinstance(given, dict):
            raise at.stop("any value")
        fields, at, nullable = self._plain(_named(cast("Fields", given)), at)
        if strange := fields.keys() - _SAYABLE - _SILENT:
            raise at.stop(min(strange))
        out = self._union(fields, at) if fields.get("anyOf") else self._typed(fields, at)
        return dict(sorted((out | {"nullable": True} if nullable else out).items()))

    def _plain(self, fields: Fields, at: _At) -> tuple[Fields, _At, bool]:
        """Without references, unions of one and null among the types; and whether null was there."""
        nullable = False
        while True:
            nullable = fields.pop("nullable", None) is True or nullable
            if isinstance(ref := fields.pop("$ref", None), str):
                fields, at = _both(self._target(ref, at), fields, at), at.past(ref)
            elif len(parts := _list(fields.get("allOf"))) == 1:
                fields = _both(_part(parts[0], at), {k: v for k, v in fields.items() if k != "allOf"}, at)
            elif (parted := _parted(fields)) is not None:
                fields, nullable = parted[0], nullable or parted[1]
            elif len(parts := _list(fields.get("anyOf"))) == 1:
                fields = _both(_part(parts[0], at), {k: v for k, v in fields.items() if k != "anyOf"}, at)
            else:
                return fields, at, nullable

    def _target(self, ref: str, at: _At) -> Fields:
        if ref in at.refs:
            raise at.stop(f"it holds itself ({ref})")
        found = self._root
        for step in ref.removeprefix("#").strip("/").split("/"):
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            found = cast("Fields", found).get(name) if isinstance(found, dict) else None
        if not ref.startswith("#/"):
            found = None
        return _part(found, at)

    def _union(self, fields: Fields, at: _At) -> Fields:
        if beside := fields.keys() - _SILENT - {"anyOf", *_NOTES}:
            raise at.stop(f"{min(beside)} beside anyOf")
        members = [self.node(each, at.down(f"anyOf[{i}]")) for i, each in enumerate(_list(fields["anyOf"]))]
        return {"anyOf": members, **_notes(fields, ())}

    def _typed(self, fields: Fields, at: _At) -> Fields:
        kind = _kind(fields, at)
        if kind not in _VALUED and not _says_both(_options(fields)):
            raise at.stop(f"an enum of {kind} values")
        make = self._makers.get(kind)
        said = make(fields, at) if make else {}
        return {"type": kind.upper(), **said, **_notes(fields, _hints(kind, fields))}

    def _object(self, fields: Fields, at: _At) -> Fields:
        given = fields.get("properties")
        if isinstance(fields.get("additionalProperties"), dict) or not isinstance(given, dict) or not given:
            raise at.stop("an object whose names are not known")
        properties = {name: self._property(name, each, at) for name, each in cast("Fields", given).items()}
        required = _list(fields.get("required"))
        if strange := [name for name in required if name not in properties]:
            raise at.stop(f"{strange[0]} is required and no property")
        out = _kept(fields, ("minProperties", "maxProperties", "propertyOrdering"))
        if len(properties) > 1:
            out.setdefault("propertyOrdering", list(properties))
        return {**out, "properties": properties, **({"required": required} if required else {})}

    def _property(self, name: str, given: object, at: _At) -> Fields:
        """A property's schema, without a title that only repeats the property's name."""
        made = self.node(given, at.down(name))
        if _letters(str(made.get("title", ""))) == _letters(name):
            del made["title"]
        return made

    def _array(self, fields: Fields, at: _At) -> Fields:
        firsts = _list(fields.get("prefixItems"))
        if any(each != firsts[0] for each in firsts) or (firsts and isinstance(fields.get("items"), dict)):
            raise at.stop("items of several kinds, each in its place")
        items = self.node(firsts[0] if firsts else fields.get("items"), at.down("items"))
        least: Fields = {"minItems": len(firsts), "maxItems": len(firsts)} if firsts else {}
        return {**least, **_kept(fields, ("minItems", "maxItems")), "items": items}


def _part(given: object, at: _At) -> Fields:
    if not isinstance(given, dict):
        raise at.stop("a reference to what is not there, or any value")
    return _named(cast("Fields", given))


def _both(part: Fields, beside: Fields, at: _At) -> Fields:
    """What a part and the words beside it say together: of notes those beside it hold."""
    for word in sorted(part.keys() & beside.keys() - _SILENT - {*_NOTES, "example"}):
        if part[word] != beside[word]:
            raise at.stop(f"{word} twice")
    return {**part, **beside}


def _parted(fields: Fields) -> tuple[Fields, bool] | None:
    """Several types, or several schemas of which one is null, as a union without null; None where neither is there."""
    if isinstance(kinds := fields.get("type"), list):
        return _of_types(fields, cast("list[object]", kinds))
    if "oneOf" in fields and "anyOf" not in fields:
        return {("anyOf" if name == "oneOf" else name): value for name, value in fields.items()}, False
    members = _list(fields.get("anyOf"))
    left = [each for each in members if not _is_null(each)]
    if left and len(left) < len(members):
        return {**fields, "anyOf": left}, True
    options = _list(fields.get("enum"))
    if None in options and len(options) > 1:
        return {**fields, "enum": [each for each in options if each is not None]}, True
    return None


def _of_types(fields: Fields, kinds: list[object]) -> tuple[Fields, bool]:
    rest = {name: value for name, value in fields.items() if name not in {"type", *_NOTES}}
    types = [each for each in kinds if not _is_null({"type": each})]
    said: list[object] = [{**rest, "type": each} for each in types] or [{"type": "null"}]
    return {**_kept(fields, _NOTES), "anyOf": said}, bool(types) and len(types) < len(kinds)


def _says_both(options: list[object]) -> bool:
    """Whether an enum leaves a boolean what it is; so does none."""
    return not options or {True, False} <= {each for each in options if isinstance(each, bool)}


def _is_null(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    fields = cast("Fields", schema)
    return str(fields.get("type")).lower() == "null" or ("const" in fields and fields["const"] is None)


def _kind(fields: Fields, at: _At) -> str:
    said = fields.get("type")
    if said is not None:
        kind = str(said).lower()
        if kind in _TYPES:
            return kind
        raise at.stop(f"the type {kind[:20]}")
    values = _options(fields)
    for kind, known in (("string", str), ("integer", int)):
        if values and all(type(each) is known for each in values):
            return kind
    for word, kind in (("properties", "object"), ("items", "array"), ("prefixItems", "array")):
        if word in fields:
            return kind
    raise at.stop("a value of any type")


def _string(fields: Fields, at: _At) -> Fields:
    values = _options(fields)
    if not all(isinstance(each, str) and each for each in values):
        raise at.stop("an enum with other things than texts")
    out = _kept(fields, ("pattern", "minLength", "maxLength"))
    if fields.get("format") in _FORMATS:
        out["format"] = fields["format"]
    return out | ({"enum": values} if values else {})


def _integer(fields: Fields, at: _At) -> Fields:
    """An enum of whole numbers without a gap is a range."""
    values = _options(fields)
    if not values:
        return _number(fields, at, whole=True)
    whole = sorted(cast("list[int]", values)) if all(type(each) is int for each in values) else []
    if not whole or whole != list(range(whole[0], whole[0] + len(whole))):
        raise at.stop("an enum of numbers, with gaps")
    return {"minimum": whole[0], "maximum": whole[-1]}


def _number(fields: Fields, at: _At, *, whole: bool = False) -> Fields:
    if _options(fields):
        raise at.stop("an enum of numbers")
    out = _kept(fields, ("minimum", "maximum"))
    if fields.get("format") in _FORMATS:
        out["format"] = fields["format"]
    for word, bound, inside, tightest in (
        ("exclusiveMinimum", "minimum", _above, max),
        ("exclusiveMaximum", "maximum", _below, min),
    ):
        if (edge := fields.get(word)) is not None:
            if isinstance(edge, bool) or not isinstance(edge, int | float):
                raise at.stop(word)
            least, known = inside(edge) if whole else edge, out.get(bound)
            out[bound] = tightest(least, known) if isinstance(known, int | float) else least
    return out


def _above(edge: float) -> int:
    return math.floor(edge) + 1


def _below(edge: float) -> int:
    return math.ceil(edge) - 1


def _hints(kind: str, fields: Fields) -> Iterable[str]:
    """What narrows a value and has no field, in words."""
    if kind == "string" and "format" in fields and fields["format"] not in _FORMATS:
        yield f"format: {fields['format']}"
    if kind in {"integer", "number"} and "multipleOf" in fields:
        yield f"a multiple of {fields['multipleOf']}"
    if kind == "number" and "exclusiveMinimum" in fields:
        yield f"above {fields['exclusiveMinimum']}"
    if kind == "number" and "exclusiveMaximum" in fields:
        yield f"below {fields['exclusiveMaximum']}"
    if kind == "array" and fields.get("uniqueItems") is True:
        yield "no item twice"


def _notes(fields: Fields, hints: Iterable[str]) -> Fields:
    """Title, description and example; ``hints`` join the description."""
    out = _kept(fields, (*_NOTES, "example"))
    if said := "; ".join(hints):
        out["description"] = f"{out.get('description', '')} ({said})".strip()
    return out


def _options(fields: Fields) -> list[object]:
    return [fields["const"]] if "const" in fields else _list(fields.get("enum"))


def _kept(fields: Fields, names: Iterable[str]) -> Fields:
    return {name: fields[name] for name in names if fields.get(name) is not None}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
