"""The Lua scripts are tidy: no formatter and no linter looks at them, so this does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_origin

import msgspec
import pytest

from gemqueue.states import MOVES, SEGMENT_TRANSITIONS, TRANSITIONS, Record, SegmentState
from gemqueue.store import calls
from gemqueue.store.scripts import SCRIPTS, Call
from tests.lua_names import lines_over, names_in, tokens
from tests.lua_writes import UNKNOWN, written

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
COLUMNS_MAX = 120
LUA = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "gemqueue").rglob("*.lua"))}
LUA_NAMES = {
    "ARGV", "KEYS", "bit", "cmsgpack", "ipairs", "math", "pairs", "pcall", "redis", "string", "table", "tonumber",
    "tostring", "type", "unpack",
}  # fmt: skip
"""What the server gives to a script."""

CALLS = {
    call.__struct_config__.tag: call
    for call in vars(calls).values()
    if isinstance(call, type) and issubclass(call, Call)
}


def taken(text: str) -> Iterator[tuple[str, str]]:
    """Part and name of all that a file's header says that it takes."""
    for part, names in re.findall(r"^-- takes: (\w+) \(([^)]*)\)$", text, re.MULTILINE):
        yield from ((part, name) for name in names.replace("\n--", "").replace(",", " ").split())


def test_lines_are_short() -> None:
    """No line of a script has more than 120 columns."""
    assert len(LUA) > 30
    assert {name: long for name, text in LUA.items() if (long := list(lines_over(text, COLUMNS_MAX)))} == {}


def test_no_local_is_unread() -> None:
    """Every local, loop variable and parameter is read; what a part declares, by that or by a script."""
    found = {name: names_in(text) for name, text in LUA.items()}
    read = frozenset(name for names in found.values() for name in names.free)
    unread = {
        file: names.unread(elsewhere=read if file.startswith("_") else frozenset()) for file, names in found.items()
    }
    assert {file: names for file, names in unread.items() if names} == {}


def test_files_take_what_they_use() -> None:
    """The header of each file lists, by the part that has it, every name that it uses of others, and no other name."""
    found = {name: names_in(text) for name, text in LUA.items()}
    homes = [(one.name, file) for file, names in found.items() if file[0] == "_" for one in names.declared if one.outer]
    home = {name: file.removesuffix(".lua") for name, file in homes}
    assert len(home) == len(homes), "two parts have the same name"
    for file, names in found.items():
        used = {(home[name], name) for name in names.free if name in home}
        assert used == set(taken(LUA[file])), file
        assert names.free - home.keys() <= LUA_NAMES, file


def arguments(text: str) -> tuple[list[str], list[str]]:
    """The arguments that a script's header names, and those of each group behind them."""
    (said,) = re.findall(r"^-- KEYS: prefix\. ARGV: now, (.*)$", text, re.MULTILINE)
    plain, _, group = said.partition("each (")
    return plain.replace(",", " ").split(), group.rstrip(")").replace(",", " ").split()


def fields(call: type[Call]) -> tuple[list[str], list[str]]:
    """The same, of the struct that the store calls the script with; a list of plain items has a group of one."""
    *plain, last = msgspec.structs.fields(call)
    if get_origin(last.type) is not list:
        return [field.name for field in (*plain, last)], []
    (item,) = get_args(last.type)
    one = re.sub("ie$", "y", last.name.removesuffix("s"))
    return [field.name for field in plain], list(getattr(item, "_fields", [one]))


@pytest.mark.parametrize("script", SCRIPTS)
def test_calls_and_headers_agree(script: str) -> None:
    """Header and struct of a script name the same arguments in the same order, and its first line gives them names."""
    text = LUA[f"{script}.lua"]
    plain, group = arguments(text)
    assert fields(CALLS[script]) == (plain, group)
    code = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE)
    after = len(plain) + 2
    read = f"unpack(ARGV, 2{f', {after - 1}' if group else ''})" if len(plain) > 1 else "ARGV[2]"
    assert not plain or code.startswith(f"local {', '.join(plain)} = {read}\n")
    groups = {f"in groups({after}, {len(group)}) do", f"unpack(ARGV, {after})"} if group else set[str]()
    others = re.findall(r"in groups\(.*?\) do|unpack\(ARGV.*?\)|ARGV\[.*?\]|#ARGV", code)
    assert set(others) - groups <= {read}, "an argument is read by its place"
    assert bool(set(others) & groups) == bool(group)
    for names in re.findall(r"for (.*) in groups", code):
        assert all(name in {"_", said} for name, said in zip(names.split(", "), group, strict=False)), names


KINDS = {
    **{record.value: record for record in Record},
    **dict.fromkeys(("segment", "settled", "outcomes", "moved"), Record.SEGMENT),
    "reserved": Record.QUOTA,
}
PARTS = {name: text for name, text in LUA.items() if name.startswith("_")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_move_what_the_table_says(script: str) -> None:
    """No script writes a record that ``MOVES`` does not give it, nor is given one that it cannot write."""
    kinds = written(LUA[f"{script}.lua"], PARTS)
    moved = {KINDS[kind] for kind in kinds if kind in KINDS}
    assert moved <= MOVES[script]
    assert moved == MOVES[script] or UNKNOWN in kinds


def test_what_changes_a_state_is_in_its_table() -> None:
    """Scripts that make a segment live, or close it, are those of its table; who moves a state may write its record."""
    assert MOVES.keys() == SCRIPTS.keys()
    alive = {name for name in SCRIPTS if "'state', 'live'" in LUA[f"{name}.lua"]}
    assert alive == {verb for before, verb, _ in SEGMENT_TRANSITIONS if before is None}
    closing = {name for name in SCRIPTS if re.search(r"\bland\(|meta_key, 'state', 'closed'", LUA[f"{name}.lua"])}
    assert closing == {verb for _, verb, after in SEGMENT_TRANSITIONS if after is SegmentState.CLOSED}
    assert all(Record.SEGMENT in MOVES[verb] for _, verb, _ in SEGMENT_TRANSITIONS)
    assert all(Record.BATCH in MOVES[verb] for before, verb, after in TRANSITIONS if before is not after)


def test_writes_are_found() -> None:
    """The reader follows locals and the functions of parts, and owns up to what it does not know."""
    parts = {"_a": "local function end_it(id)\n  redis.call('HSET', key('lane', id), 'x', 1)\n  deeper(id)\nend\n"}
    parts["_b"] = "local function deeper(record)\n  redis.call('HDEL', record, 'x')\nend\n"
    assert written("local a, b = key('batch', id), 1\nredis.call('HSET', a, 'x', b)", parts) == {"batch"}
    assert written("end_it(id) -- deeper(id)", parts) == {"lane", UNKNOWN}
    assert written("redis.call('XDEL', T .. ':dead', id)\nredis.call('HGET', key('lane', id), 'x')", parts) == {"dead"}


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("local x = 1", ["x:1"]),
        ("local x = 1\nreturn x", []),
        ("local x, y = 1, 2\nreturn y", ["x:1"]),
        ('local x = 1 -- x\nreturn \'x\', "x\\"x", [[x]] --[==[ x\n]==]', ["x:1"]),
        ("local x = 1\nreturn a.x, a:x(), { x = 2 }", ["x:1"]),
        ("local x = 1\nreturn a..x", []),
        ("local x = 1\nreturn 1 ..x, 2", []),
        ("local x\nx = 2", ["x:1"]),
        ("local x = 1\nreturn x == 2", []),
        ("local x = 1\nlocal x = x\nreturn x", []),
        ("if a then local x = 1 elseif b then local y = 2 return y else local z = 3 end\nreturn x", ["x:1", "z:1"]),
        ("for i, v in ipairs(a) do f(v) end", ["i:1"]),
        ("for _, v in ipairs(a) do f(v) end", []),
        ("for i = 1, n do f() end\nreturn i", ["i:1"]),
        ("for i = 1, n do\n  while b do f(i) end\nend", []),
        ("local function f(a, b, ...) return b end\nreturn f", ["a:1"]),
        ("local function f(a) return f(a) end", ["f:1"]),
        ("local g = function(a)\n  return function(b) return a end\nend\nreturn g", ["b:2"]),
        ("function g(a) return 1 end", ["a:1"]),
        ("repeat local x = f() until x", []),
        ("local x = 1\nlocal function f() return x end\nreturn f()", []),
    ],
)
def test_unread_names_are_found(text: str, unread: list[str]) -> None:
    """The reader names what nobody reads, and nothing else."""
    assert names_in(text).unread() == unread


def test_a_part_is_read_by_scripts() -> None:
    """What a file declares at its top may be read by those that come after it, and only that."""
    part = names_in("local a, b = 1, 2\nlocal function c(d) end")
    assert part.unread() == ["a:1", "b:1", "c:2", "d:2"]
    assert part.unread(elsewhere=frozenset(names_in("return a, c(), d").free)) == ["b:1", "d:2"]


def test_tokens_know_their_lines() -> None:
    """Comments and strings of several lines count as lines, and are no tokens."""
    assert [tuple(token) for token in tokens("--[[\n]] a = [[\n\n]] .. 1.5..b")] == [
        ("a", 2),
        ("=", 2),
        ("..", 4),
        ("..", 4),
        ("b", 4),
    ]
