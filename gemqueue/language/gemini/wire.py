"""What is sent for a canonical request. Every release may send something else; ``identity`` does not look here.

A schema that was asked for as the provider's ``Schema``, as a class or in words of JSON Schema goes out in the language
that ``schema_dialect`` prefers, and in the other one where that cannot say it. What was given as the ``...JsonSchema``
field is the caller's own and stays.
"""

from __future__ import annotations

import logging
from typing import Final, cast

import msgspec

from gemqueue.language.gemini.dialects import Fields, Unsayable, to_json_schema, to_schema
from gemqueue.language.gemini.schemas import Twin, Unsendable, misfit

SCHEMA: Final = "schema"
JSON_SCHEMA: Final = "json_schema"
DIALECTS: Final = frozenset({SCHEMA, JSON_SCHEMA})

log = logging.getLogger("gemqueue")

_RESPONSE: Final = (("responseSchema", "responseJsonSchema"),)
_FUNCTION: Final = (("parameters", "parametersJsonSchema"), ("response", "responseJsonSchema"))
_KNOWN_MAX: Final = 64
_KNOWN_BYTES_MAX: Final = 65_536
_known: Final[dict[tuple[str, str, bytes], tuple[str, Fields]]] = {}
_WARNED_MAX: Final = 256
_warned: Final[set[bytes]] = set()


def sent(fields: Fields, dialect: str = SCHEMA) -> Fields:
    """The fields of a canonical config or request as the provider gets them.

    It changes nothing in ``fields``, and gives ``fields`` itself back where they go as they are. A schema that was
    asked for as a class, or in words that only JSON Schema has, is a ``schemas.Twin``.
    """
    changed: Fields = {}
    if (generation := fields.get("generationConfig")) is not None:
        said = _said(cast("Fields", generation), _RESPONSE, dialect)
        changed |= {} if said is generation else {"generationConfig": said}
    if (tools := fields.get("tools")) is not None:
        given = cast("list[Fields]", tools)
        made = [_tool(tool, dialect) for tool in given]
        changed |= {} if all(a is b for a, b in zip(made, given, strict=True)) else {"tools": made}
    return {**fields, **changed} if changed else fields


def _tool(tool: Fields, dialect: str) -> Fields:
    functions = cast("list[Fields]", tool.get("functionDeclarations") or [])
    made = [_said(function, _FUNCTION, dialect) for function in functions]
    if all(a is b for a, b in zip(made, functions, strict=True)):
        return tool
    return {**tool, "functionDeclarations": made}


def _said(message: Fields, pairs: tuple[tuple[str, str], ...], dialect: str) -> Fields:
    """A message with each of its schemas under the field of the language that says it."""
    out = message
    for own, twin in pairs:
        given = message.get(twin)
        if not isinstance(given, Twin):
            given = message.get(own)
            if not isinstance(given, Unsendable):
                continue
        name, schema = _remembered(own, twin, given, dialect)
        if name in message and schema == given:
            continue
        rest = {field: value for field, value in out.items() if field not in {own, twin}}
        out = dict(sorted({**rest, name: schema}.items()))
    return out


def _remembered(own: str, twin: str, schema: Fields, dialect: str) -> tuple[str, Fields]:
    """As ``_chosen``, which the rows of a file mostly ask of one schema. Nobody may change what comes."""
    key = (own, dialect, msgspec.json.encode(schema))
    found = _known.get(key)
    if found is None:
        found = _chosen(own, twin, schema, dialect)
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        if len(key[2]) <= _KNOWN_BYTES_MAX:
            _known[key] = found
    return found


def _chosen(own: str, twin: str, schema: Fields, dialect: str) -> tuple[str, Fields]:
    if dialect == SCHEMA:
        try:
            said = to_schema(schema)
            if (wrong := misfit(said)) is None:
                return own, said
            why = f"{wrong[0] or 'schema'} must be {wrong[1]}"
        except Unsayable as unsayable:
            why = str(unsayable)
        if own == _RESPONSE[0][0]:
            _warn(schema, why)
    return twin, cast("Fields", to_json_schema(schema))


def _warn(schema: Fields, why: str) -> None:
    """Once for each shape, in a process."""
    shape = msgspec.json.encode(schema)
    if shape in _warned or len(_warned) >= _WARNED_MAX:
        return
    _warned.add(shape)
    log.warning(
        "responseSchema cannot say a schema (%s), so it goes out as responseJsonSchema, which batches were reported to "
        "answer with wrong shapes: check the answers, or change the schema; "
        'schema_dialect = "json_schema" ends this warning',
        why[:200],
    )
