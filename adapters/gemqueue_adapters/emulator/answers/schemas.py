"""A value that satisfies a schema, for the structured answers of the emulator.

Both dialects are understood: the API's own Schema (`responseSchema`) and JSON Schema (`responseJsonSchema`), with
local references. `pattern` and `multipleOf` are not: no answer is promised to match them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue_adapters.emulator.proto import fields, items

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH_MAX = 8
NESTING_MAX = 100
ITEMS_MAX = 10_000
VALUES_MAX = 20_000
FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "emulated@example.com",
    "uri": "https://example.com/emulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def satisfy(schema: Any, digest: str) -> Any:
    """A value for `schema`; its strings carry `digest`, so that an answer can be told from another's."""
    return _value(schema, _Made(schema, digest), 0)


class _Made:
    """What a value is made from, and how many more parts it may have: schemas can ask for more than there is room."""

    def __init__(self, root: Any, digest: str) -> None:
        self.root = root
        self.digest = digest
        self.left = VALUES_MAX


def _value(schema: Any, made: _Made, depth: int) -> Any:
    made.left -= 1
    digest = made.digest
    if not isinstance(schema, dict) or made.left < 0 or depth > NESTING_MAX:
        return f"[emulated] {digest}"
    schema = _resolved(fields(schema), made.root)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if options := items(schema.get("enum")):
        return options[int(digest[:4], 16) % len(options)]
    for choice in ("anyOf", "any_of", "oneOf"):
        if options := items(schema.get(choice)):
            return _value(options[0], made, depth + 1)
    makers: dict[str, Callable[[], Any]] = {
        "object": lambda: _object(schema, made, depth),
        "array": lambda: _array(schema, made, depth),
        "string": lambda: _string(schema, digest),
        "integer": lambda: int(_number(schema, int(digest[:4], 16) % 100)),
        "number": lambda: _number(schema, int(digest[:4], 16) % 100 + 0.5),
        "boolean": lambda: digest[0] < "8",
        "null": lambda: None,
    }
    return makers.get(_type(schema), makers["string"])()


def _resolved(schema: dict[str, Any], root: Any, depth: int = 0) -> dict[str, Any]:
    for _ in range(DEPTH_MAX):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        found = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = fields(found).get(step) if step else found
        schema = fields(found)
    for part in items(schema.get("allOf"))[: 0 if depth > DEPTH_MAX else None]:
        schema = schema | _resolved(fields(part), root, depth + 1)
    return schema


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in items(kind) if each != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind).lower()


def _object(schema: dict[str, Any], made: _Made, depth: int) -> dict[str, Any]:
    properties = fields(schema.get("properties"))
    required = [name for name in items(schema.get("required")) if isinstance(name, str)]
    names = [name for name in properties if depth < DEPTH_MAX // 2 or name in required]
    if depth >= DEPTH_MAX:
        names = []
    value = {name: _value(properties[name], made, depth + 1) for name in names}
    made.left -= len(required)
    for name in required if made.left > 0 else ():
        value.setdefault(name, f"[emulated] {made.digest}")
    return value


def _array(schema: dict[str, Any], made: _Made, depth: int) -> list[Any]:
    least = _limit(schema, "minItems", "min_items")
    most = _limit(schema, "maxItems", "max_items")
    count = int(least) if least is not None else int(depth < DEPTH_MAX // 2)
    if most is not None:
        count = min(count, int(most))
    count = max(0, min(count, ITEMS_MAX, made.left))
    prefix = items(schema.get("prefixItems"))
    each = [*prefix, *[schema.get("items")] * count][: max(count, len(prefix))]
    return [_value(item, made, depth + 1) for item in each]


def _string(schema: dict[str, Any], digest: str) -> str:
    text = FORMATS.get(str(schema.get("format")), f"[emulated] {digest}")
    least = int(_limit(schema, "minLength", "min_length") or 0)
    most = _limit(schema, "maxLength", "max_length")
    return text.ljust(min(least, ITEMS_MAX), "x")[: None if most is None else int(most)]


def _number(schema: dict[str, Any], wish: float) -> float:
    low, high = _limit(schema, "minimum"), _limit(schema, "maximum")
    above, below = _limit(schema, "exclusiveMinimum"), _limit(schema, "exclusiveMaximum")
    if above is not None:
        low = max(above + 1, low) if low is not None else above + 1
    if below is not None:
        high = min(below - 1, high) if high is not None else below - 1
    if low is not None and high is not None and low > high:
        return (low + high) / 2
    wish = wish if low is None else max(wish, low)
    return wish if high is None else min(wish, high)


def _limit(schema: dict[str, Any], *names: str) -> float | None:
    for name in names:
        try:
            return float(schema[name])
        except (KeyError, TypeError, ValueError):
            continue
    return None
