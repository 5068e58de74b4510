"""Which kinds of keys a Lua file writes, for ``tests/test_lua.py``: a reader of lines, not of Lua.

It knows a key by ``key('kind', ...)``, ``T .. ':kind'``, or by a local that is one of these. What a function gets as a
parameter it does not know, and says so with a question mark.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WRITES = re.compile(
    r"redis\.call\('(?:H?SET|HDEL|HINCRBY|HSETNX|UNLINK|EXPIRE|PERSIST|LSET|RPUSH|XADD|XDEL)', ([^,(]+(?:\([^)]*\))?)"
)
_TTLS = re.compile(r"set_ttl\(keep_s, ([^,(]+(?:\([^)]*\))?)")
_LOCALS = re.compile(r"local ([\w, ]+) = ([^\n]+)")
_KEY = re.compile(r"(?:\w+(?:\[\d\])? and )?(?:key\('(\w+)'|T \.\. ':(\w+)')")
_FUNCTIONS = re.compile(r"^local function (\w+)\(.*?^end", re.MULTILINE | re.DOTALL)
_CALLS = re.compile(r"\b(\w+)\(")
_COMMENTS = re.compile(r"--[^\n]*")
UNKNOWN = "?"


def written(script: str, parts: Mapping[str, str]) -> set[str]:
    """The kinds that a script writes, by itself and by the functions of the parts that it calls."""
    functions = {m[1]: m[0] for text in parts.values() for m in _FUNCTIONS.finditer(_COMMENTS.sub("", text))}
    text = _COMMENTS.sub("", script)
    todo, seen, kinds = [text], set[str](), set[str]()
    while todo:
        part = todo.pop()
        kinds |= set(_kinds(part))
        called = (set(_CALLS.findall(part)) & functions.keys()) - seen
        seen |= called
        todo += [functions[name] for name in called]
    return kinds


def _kinds(text: str) -> Iterator[str]:
    known: dict[str, str] = {}
    for names, values in _LOCALS.findall(text):
        for name, value in zip(names.split(", "), _apart(values), strict=False):
            if kind := _kind(value):
                known[name] = kind
    for written_to in (*_WRITES.findall(text), *_TTLS.findall(text)):
        yield _kind(written_to) or known.get(written_to.strip(), UNKNOWN)


def _kind(value: str) -> str:
    found = _KEY.match(value.strip())
    return (found[1] or found[2]) if found else ""


def _apart(values: str) -> list[str]:
    """At the commas that stand in no brackets."""
    parts, depth = [""], 0
    for char in values:
        depth += (char in "({") - (char in ")}")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return parts
