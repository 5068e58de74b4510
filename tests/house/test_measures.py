"""The measures of the house are right: small houses whose rooms, floors and circles can be seen at a glance."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.house import graph
from tests.house.figures import commands_in, complexity, functions, key_kinds, near, settings_in, spread
from tests.house.graph import Import, imports
from tests.house.plan import (
    FACE,
    GROUND,
    ROOMS,
    Package,
    circles,
    floors_of,
    going_up,
    plan_of,
    rooms_of,
    unplaced,
    widths,
)

if TYPE_CHECKING:
    from pathlib import Path


def house(name: str, **modules: str) -> Package:
    """A package of modules by their names without its own; ``__`` stands for a dot, and at the end for a folder."""
    texts = {name: ""}
    folders = {name}
    for module, text in modules.items():
        full = f"{name}.{module.removesuffix('__').replace('__', '.')}"
        texts[full] = text
        if module.endswith("__"):
            folders.add(full)
    return Package(name, texts, {module: ast.parse(text) for module, text in texts.items()}, frozenset(folders))


def found(text: str, *, source: str = "p.a.x") -> set[tuple[str, bool]]:
    """What a module imports of a package with some modules."""
    texts = dict.fromkeys(("p", "p.a", "p.a.x", "p.a.y", "p.b", "p.c"), "") | {source: text}
    trees = {name: ast.parse(each) for name, each in texts.items()}
    return {(each.target, each.typing) for each in imports(trees, frozenset({"p", "p.a"}))}


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("import p.b, os", {"p.b"}),
        ("from p import b, c", {"p.b", "p.c"}),
        ("from p.b import b", {"p.b"}),
        ("from p import version", {"p"}),
        ("from . import y", {"p.a.y"}),
        ("from .y import z", {"p.a.y"}),
        ("from .. import b", {"p.b"}),
        ("from ..c import d", {"p.c"}),
        ("def f():\n    from p import b", {"p.b"}),
        ("try:\n    import p.b\nexcept ImportError:\n    import p.c", {"p.b", "p.c"}),
        ("import p.a.x", set[str]()),
        ("from q import b", set[str]()),
    ],
)
def test_imports_are_found(text: str, targets: set[str]) -> None:
    """Every way to import a module of the package is seen, wherever it stands."""
    assert found(text) == {(target, False) for target in targets}


def test_a_folder_imports_from_itself() -> None:
    """What an ``__init__`` imports relatively is below its own folder."""
    assert found("from . import y\nfrom .. import b", source="p.a") == {("p.a.y", False), ("p.b", False)}


def test_imports_for_types_are_marked() -> None:
    """Only what stands under ``if TYPE_CHECKING:`` is for types alone; its ``else`` runs."""
    text = "if TYPE_CHECKING:\n    import p.b\nelse:\n    import p.c\nif DEBUG:\n    import p.a.y"
    assert found(text) == {("p.b", True), ("p.c", False), ("p.a.y", False)}
    drawn = {Import("p.a", "p.b", typing=True), Import("p.b", "p.a", typing=False)}
    names = {"p.a": "p.a", "p.b": "p.b"}
    assert graph.circles(graph.graph_of(drawn, names, typing=True)) == [["p.a", "p.b"]]
    assert graph.circles(graph.graph_of(drawn, names, typing=False)) == []


def drawn(text: str) -> graph.Graph:
    """A graph from words such as ``ab bc``: a imports b, b imports c."""
    return {name: {word[1] for word in text.split() if word[0] == name} for name in {*text} - {" "}}


@pytest.mark.parametrize(
    ("text", "floors", "circles_found", "back"),
    [
        ("ab bc ac", 3, [], 0),
        ("ab ba", 1, ["ab"], 1),
        ("ab bc cb cd", 3, ["bc"], 1),
        ("ab bc ca cd de ed", 2, ["abc", "de"], 2),
        ("ab bc ca ac cb ba", 1, ["abc"], 3),
        ("ab ac ad bd cd de", 4, [], 0),
        ("ab bc cd de ef fg gh hi ij jk kl lm ma", 1, ["abcdefghijklm"], 1),
    ],
)
def test_shapes_are_measured(text: str, floors: int, circles_found: list[str], back: int) -> None:
    """Floors are the longest path, circles what reaches itself, arrows back the least that opens every circle."""
    shape = drawn(text)
    assert graph.floors(shape) == floors
    assert ["".join(circle) for circle in graph.circles(shape)] == circles_found
    assert graph.back(shape) == back
    assert graph.arrows(shape) == len(text.split())


def test_rooms_are_folders() -> None:
    """A folder is a room; what lies beside folders, or directly in the package, is a room of its own."""
    package = house("p", a="", b__="", b__x="", b__c__="", b__c__y="", d__="", d__z="")
    assert rooms_of(package) == {
        "p": "p",
        "p.a": "p.a",
        "p.b": "p.b",
        "p.b.x": "p.b.x",
        "p.b.c": "p.b.c",
        "p.b.c.y": "p.b.c",
        "p.d": "p.d",
        "p.d.z": "p.d",
    }
    assert widths(package) == {"p": 2, "p.b": 2, "p.b.c": 2, "p.d": 2}


def ordered(**modules: str) -> Package:
    """The package whose order is declared, with all its rooms."""
    return house("gemqueue", **{f"{room}__": "" for room in ROOMS}, **modules)


def test_the_order_is_held() -> None:
    """An import of a higher room is an arrow up, also one for types; the ground imports no room."""
    package = ordered(
        store__a="import gemqueue.policy.b, gemqueue.errors",
        policy__b="if TYPE_CHECKING:\n    import gemqueue.store.a",
        errors="from gemqueue.language import words\nimport gemqueue.states",
        states="import gemqueue.errors",
        queue="import gemqueue.client",
    )
    assert going_up(package) == ["gemqueue.errors > gemqueue.language", "gemqueue.policy.b > gemqueue.store.a"]
    assert going_up(package, typing=False) == ["gemqueue.errors > gemqueue.language"]
    assert circles(package) == [["gemqueue.errors", "gemqueue.states"], ["gemqueue.policy.b", "gemqueue.store.a"]]
    assert (plan_of(package).rooms_typed.up, plan_of(package).modules_run.up) == (2, 1)


def test_every_room_needs_a_place() -> None:
    """A module that the order does not name is told; what is below a room is the room's, however deep."""
    package = ordered(
        language__gemini__="", language__gemini__rows="import gemqueue.language.lines", language__lines=""
    )
    assert unplaced(package) == []
    assert set(rooms_of(package).values()) == {"gemqueue", *(f"gemqueue.{room}" for room in ROOMS)}
    assert unplaced(ordered(attic="")) == ["gemqueue.attic"]


def test_the_order_holds_when_all_rooms_are_there() -> None:
    """A commit from before the rooms has no order; each name stands on one floor."""
    assert floors_of(house("gemqueue", client__="", errors="")) == ()
    assert floors_of(house("gemqueue_workers", run__="")) == ()
    names = [*FACE, *ROOMS, *GROUND]
    assert len(names) == len(set(names))


def test_figures_are_counted() -> None:
    """Settings, commands, keys, complexity and spreads are what one would count by hand."""
    text = '''
class Settings:
    """Text."""
    a: int = 1
    b: str = ""
    def method(self): return self.a
@click.group(cls=Program)
def main():
    pass
@main.command("x")
@option("--y")
def x():
    pass
'''
    assert settings_in([ast.parse(text)]) == 2
    assert commands_in([ast.parse(text)]) == (1, 1)
    hard = ast.parse("def f(a):\n  if a and b or c:\n    return [x for x in a if x]\n  def g():\n    while a: pass\n")
    assert {each.name: complexity(each) for each in functions(hard)} == {"f": 6, "g": 2}
    many = spread(range(1, 201))
    assert (many.count, many.median, many.p90, many.p99, many.max) == (200, 100.5, 180, 198, 200)
    assert [lines for lines in range(380, 420) if near(lines)] == list(range(391, 410))


def test_keys_are_read_from_their_table(tmp_path: Path) -> None:
    """Kinds of keys are the first words in the table of keys, in whichever text it stands, and in no other table."""
    (tmp_path / "a.md").write_text(
        "| key | type | holds |\n| --- | --- | --- |\n| `x:<id>` | a | b |\n| `y` | a | b |\n\n"
    )
    (tmp_path / "b.md").write_text("| name | type |\n| --- | --- |\n| `z` | a |\n")
    assert key_kinds([tmp_path / "a.md", tmp_path / "b.md", tmp_path / "gone.md"]) == {"x", "y"}
