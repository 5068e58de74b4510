"""The caller's objects, in any spelling, as canonical request fields: the walk over the tables of ``fields``.

In: strings, dicts in camelCase or snake_case, lists, tuples, enums, bytes, and whatever has pydantic's ``model_dump``
(google-genai's ``types``). Out: plain JSON values under camelCase names, message fields in alphabetical order, so that
the same request always gives the same bytes. Every problem is a ``PromptInvalid`` that names the field; values never
appear in it.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini import schemas
from gemqueue.language.gemini.choices import Bounds, Words, check_bounds, check_word
from gemqueue.language.gemini.fields import (
    CONTENT,
    JSON_TWIN,
    OPAQUE,
    PART,
    PART_DATA,
    TOOL,
    Leaf,
    Message,
    Repeated,
    camel,
    unknown_field,
)
from gemqueue.language.gemini.values import mapping_of, plain, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue.language.gemini.fields import Kind

DEPTH_MAX: Final = 64
"""Levels of nesting; the provider's own parser stops at 100, counted from the outside of the line."""
VALUES_MAX: Final = 250_000
"""Single values in one request; ends walks through structures that refer to themselves many times over."""

_LISTS: Final = (list, tuple)
_ROLES: Final = frozenset({"user", "model", "function"})
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"


class Walk:
    """One walk over one request. Holds nothing but how many values it may still visit."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = VALUES_MAX

    def message(self, spec: Message, value: object, path: str, depth: int = 0) -> dict[str, object]:
        """``value`` as the fields of ``spec``. None means "not given"."""
        self._enter(path, depth)
        out: dict[str, object] = {}
        for given, item in mapping_of(plain(value, path), path, f"a dict of {spec.name} fields").items():
            name = self._name(spec, given, path)
            content = plain(item, f"{path}.{name}")
            if content is None or _is_empty_list(content):
                continue
            if name in spec.refused:
                raise PromptInvalid(f"{path}.{name} {spec.refused[name]}")
            if name in out:
                raise PromptInvalid(f"{path}.{name} is given twice, in two spellings; leave one out")
            name, content = self._field(spec.fields[name], name, content, path, depth)
            if name in out:
                raise PromptInvalid(f"{path}.{name} and its schema twin are both given; leave one out")
            out[name] = content
        for name in spec.required:
            if name not in out:
                raise PromptInvalid(f"{path}.{name} is missing: a {spec.name} needs it")
        return dict(sorted(out.items()))

    def contents(self, value: object, path: str = "contents") -> list[dict[str, object]]:
        """What google-genai's ``t_contents`` takes, as a list of Contents; neighbouring parts become one Content."""
        if not isinstance(value, list | tuple):
            return [self.content(value, path)]
        contents: list[dict[str, object]] = []
        group: list[dict[str, object]] = []
        for index, item in enumerate(cast("list[object]", value)):
            where = f"{path}[{index}]"
            given = plain(item, where)
            part = None if is_content(given) or type(given) in _LISTS else self.part(given, where)
            if group and (part is None or ("functionCall" in part) != ("functionCall" in group[0])):
                contents.append(_turn(group))
                group = []
            if part is None:
                contents.append(self.content(given, where))
            else:
                group.append(part)
        return [*contents, _turn(group)] if group else contents

    def content(self, value: object, path: str) -> dict[str, object]:
        """One Content: given as such, or made of a string, a Part or a list of Parts."""
        given = plain(value, path)
        if is_content(given):
            return self.whole_content(given, path)
        if isinstance(given, list | tuple):
            items = cast("list[object]", given)
            if not items:
                raise PromptInvalid(f"{path} is empty")
            return _turn([self.part(item, f"{path}[{i}]") for i, item in enumerate(items)])
        return _turn([self.part(given, path)])

    def whole_content(self, value: object, path: str, depth: int = 0) -> dict[str, object]:
        """One Content that is given as such, with a role that a request may have and at least one part."""
        content = self.message(CONTENT, value, path, depth)
        if not content.get("parts"):
            raise PromptInvalid(f"{path}.parts is empty")
        if content.get("role", "user") not in _ROLES:
            raise PromptInvalid(f'{path}.role must be "user" or "model" (an instruction goes into systemInstruction)')
        return content

    def part(self, value: object, path: str, depth: int = 0) -> dict[str, object]:
        """One Part: a string, a Part, a FileData or an uploaded File."""
        given = plain(value, path)
        if isinstance(given, str):
            self._enter(path, depth)
            return {"text": text_of(given, path)}
        if isinstance(given, bytes | bytearray):
            raise PromptInvalid(f'{path} is bytes; give {{"inlineData": {{"mimeType": ..., "data": ...}}}}')
        fields = mapping_of(given, path, "a string, a Part or a Content")
        part = self.message(PART, _file_part(fields), path, depth)
        data = [name for name in part if name in PART_DATA]
        if len(data) > 1:
            raise PromptInvalid(f"{path} carries {' and '.join(data)}; a Part carries one of them")
        if not data and "thoughtSignature" not in part:
            raise PromptInvalid(f"{path} is empty: a Part needs text, inlineData, fileData or the like")
        return part

    def json(self, value: object, path: str, depth: int = 0) -> object:
        """Free JSON: names stay as they are, None stays null, bytes become base64."""
        self._enter(path, depth)
        given = plain(value, path)
        if given is None or isinstance(given, bool | int):
            return given
        if isinstance(given, str):
            return text_of(given, path)
        if isinstance(given, float):
            return _finite(given, path)
        if isinstance(given, list | tuple):
            items = cast("list[object]", given)
            return [self.json(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]
        if isinstance(given, Mapping):
            fields = cast("Mapping[object, object]", given)
            return {
                text_of(k, f"a name in {path}"): self.json(v, f"{path}.{str(k)[:40]}", depth + 1)
                for k, v in fields.items()
            }
        return _scalar(given, path)

    def _enter(self, path: str, depth: int) -> None:
        self._left -= 1
        if depth > DEPTH_MAX:
            raise PromptInvalid(f"{path.split('.', 1)[0]} is nested more than {DEPTH_MAX} levels deep")
        if self._left < 0:
            raise PromptInvalid(f"{path.split('.', 1)[0]} holds more than {VALUES_MAX} values")

    def _name(self, spec: Message, given: object, path: str) -> str:
        text = text_of(given, f"a name in {path}")
        name = spec.spellings.get(text)
        if name is None:
            raise unknown_field(path, text, spec.fields)
        return name

    def _field(self, spec: Kind, name: str, value: object, path: str, depth: int) -> tuple[str, object]:
        """The field's name and canonical value. A schema may move to its JSON Schema twin."""
        where = f"{path}.{name}"
        if spec is Leaf.SCHEMA:
            return self._schema(name, value, path, depth)
        if isinstance(spec, Repeated):
            items = _items(value, where)
            return name, [self._value(spec.item, item, f"{where}[{i}]", depth + 1) for i, item in enumerate(items)]
        return name, self._value(spec, value, where, depth + 1)

    def _value(self, spec: Leaf | Message | Words | Bounds, value: object, path: str, depth: int) -> object:
        if isinstance(spec, Message):
            return self.message(spec, value, path, depth)
        if isinstance(spec, Words):
            return check_word(spec, text_of(plain(value, path), path), path)
        if isinstance(spec, Bounds):
            leaf = Leaf.INTEGER if spec.whole else Leaf.NUMBER
            return check_bounds(spec, cast("float", _LEAVES[leaf](self, plain(value, path), path, depth)), path)
        return _LEAVES[spec](self, plain(value, path), path, depth)

    def _schema(self, name: str, value: object, path: str, depth: int) -> tuple[str, object]:
        if schemas.is_schema_class(value):
            return JSON_TWIN[name], schemas.Twin(schemas.class_schema(value, f"{path}.{name}"))
        schema = schemas.dict_schema(self.json(value, f"{path}.{name}", depth + 1), f"{path}.{name}")
        is_own = type(schema) in {dict, schemas.Unsendable}
        return (name if is_own else JSON_TWIN[name]), schema

    def loose(self, value: object, path: str, depth: int) -> object:
        """A message without a table: names become camelCase, nulls are dropped, all else is JSON."""
        given = plain(value, path)
        if isinstance(given, list | tuple):
            items = cast("list[object]", given)
            self._enter(path, depth)
            return [self.loose(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]
        if not isinstance(given, Mapping):
            return self.json(given, path, depth)
        self._enter(path, depth)
        out: dict[str, object] = {}
        for key, item in cast("Mapping[object, object]", given).items():
            name = camel(text_of(key, f"a name in {path}"))
            if item is not None:
                inner = self.json if name in OPAQUE else self.loose
                out[name] = inner(item, f"{path}.{name}", depth + 1)
        return dict(sorted(out.items()))


def _is_empty_list(value: object) -> bool:
    return isinstance(value, list) and not value


def is_content(value: object) -> bool:
    """Whether a plain value is a Content: a mapping with ``parts`` or ``role``."""
    return not isinstance(value, str) and isinstance(value, Mapping) and ("parts" in value or "role" in value)


def _items(value: object, path: str) -> list[object]:
    if isinstance(value, Mapping):
        return [cast("object", value)]
    if isinstance(value, list | tuple):
        return cast("list[object]", value)
    raise PromptInvalid(f"{path} must be a list, not {type(value).__name__}")


def _turn(parts: list[dict[str, object]]) -> dict[str, object]:
    return {"parts": parts, "role": "model" if "functionCall" in parts[0] else "user"}


def _file_part(fields: Mapping[object, object]) -> Mapping[object, object]:
    """A FileData or an uploaded File stands for the part that points at it, as in the SDK's ``t_part``."""
    if "fileUri" in fields or "file_uri" in fields:
        return {"fileData": fields}
    if "uri" in fields:
        mime_type = fields.get("mimeType", fields.get("mime_type"))
        return {"fileData": {"fileUri": fields["uri"], "mimeType": mime_type}}
    return fields


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise PromptInvalid(f"{path} is not a finite number, which JSON cannot carry")
    return float(value)


def _scalar(value: object, path: str) -> object:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    raise PromptInvalid(f"{path} is of type {type(value).__name__}, which JSON cannot carry")


def _text(_walk: Walk, value: object, path: str, _depth: int) -> object:
    return text_of(value, path)


def _number(_walk: Walk, value: object, path: str, _depth: int) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PromptInvalid(f"{path} must be a number, not {type(value).__name__}")
    return _finite(value, path) if isinstance(value, float) else int(value)


def _integer(walk: Walk, value: object, path: str, depth: int) -> object:
    number = _number(walk, value, path, depth)
    if isinstance(number, float) and not number.is_integer():
        raise PromptInvalid(f"{path} must be an integer, not a fraction")
    return int(cast("float", number))


def _flag(_walk: Walk, value: object, path: str, _depth: int) -> object:
    if not isinstance(value, bool):
        raise PromptInvalid(f"{path} must be true or false, not {type(value).__name__}")
    return value


def _bytes(_walk: Walk, value: object, path: str, _depth: int) -> object:
    if isinstance(value, bytes | bytearray):
        value = base64.b64encode(value).decode("ascii")
    text = text_of(value, path)
    if not text:
        raise PromptInvalid(f"{path} is empty; give the bytes, or leave it out")
    encoded = text.encode().rstrip(b"=")
    if encoded.translate(None, _BASE64) or len(encoded) % 4 == 1:
        raise PromptInvalid(f"{path} must be bytes or base64 text without line breaks")
    return text


def _map(walk: Walk, value: object, path: str, depth: int) -> object:
    return walk.json(mapping_of(value, path, "an object"), path, depth)


def _json_schema(walk: Walk, value: object, path: str, depth: int) -> object:
    if schemas.is_schema_class(value):
        return schemas.class_schema(value, path)
    return walk.json(value, path, depth)


def _instruction(walk: Walk, value: object, path: str, depth: int) -> object:
    content: dict[str, object]
    if is_content(value):
        content = walk.message(CONTENT, value, path, depth)
    elif isinstance(value, list | tuple):
        parts = cast("list[object]", value)
        content = {"parts": [walk.part(item, f"{path}[{i}]", depth) for i, item in enumerate(parts)]}
    else:
        content = {"parts": [walk.part(value, path, depth)]}
    if not has_substance(content):
        raise PromptInvalid(f"{path} is empty; leave it out")
    return content


def _speech(walk: Walk, value: object, path: str, depth: int) -> object:
    if isinstance(value, str):
        return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": text_of(value, path)}}}
    return walk.loose(mapping_of(value, path, "a voice name or a SpeechConfig"), path, depth)


def _cache(_walk: Walk, value: object, path: str, _depth: int) -> object:
    name = text_of(value, path)
    return name if "/" in name else f"cachedContents/{name}"


def _tool(walk: Walk, value: object, path: str, depth: int) -> object:
    if callable(value):
        raise PromptInvalid(
            f"{path} is a Python function: nobody can call it from a batch; declare it in functionDeclarations "
            "and read answer.function_calls"
        )
    return walk.message(TOOL, value, path, depth)


def has_substance(content: dict[str, object]) -> bool:
    """Whether any part of a canonical Content says anything: text that is not blank, or other data."""
    for part in cast("list[dict[str, object]]", content.get("parts") or ()):
        text = part.get("text")
        if text is None or str(text).strip():
            return True
    return False


_LEAVES: Final[dict[Leaf, Callable[[Walk, object, str, int], object]]] = {
    Leaf.TEXT: _text,
    Leaf.NUMBER: _number,
    Leaf.INTEGER: _integer,
    Leaf.FLAG: _flag,
    Leaf.BYTES: _bytes,
    Leaf.JSON_SCHEMA: _json_schema,
    Leaf.MAP: _map,
    Leaf.LOOSE: Walk.loose,
    Leaf.INSTRUCTION: _instruction,
    Leaf.SPEECH: _speech,
    Leaf.CACHE: _cache,
    Leaf.TOOL: _tool,
    Leaf.PART: Walk.part,
    Leaf.CONTENT: Walk.whole_content,
}
