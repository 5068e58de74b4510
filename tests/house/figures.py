"""The house in numbers: how large the product is, its functions and files, and what people have to know of it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tests.house.plan import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.house.plan import Package

EMULATOR = "gemqueue_adapters.emulator"
LINES_MAX = 400
NEAR = 10
_BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Spread:
    """Lines of functions or files."""

    count: int
    median: float
    p90: int
    p99: int
    max: int


@dataclass(frozen=True)
class Figures:
    """The product as a whole, without the emulator but for ``*_all`` and ``files_near_the_limit``."""

    python_lines: int
    lua_lines: int
    settings: int
    commands: int
    command_groups: int
    key_kinds: int
    functions: Spread
    complexity_max: int
    most_complex: str
    files: Spread
    files_near_the_limit: list[str]
    functions_all: Spread
    files_all: Spread


def figures_of(packages: Iterable[Package], root: Path) -> Figures:
    """The product measured: the packages, and the texts that stand beside them."""
    everything = {module: package for package in packages for module in package.texts}
    own = {module: package for module, package in everything.items() if not module.startswith(EMULATOR)}
    lines = {module: len(package.texts[module].splitlines()) for module, package in everything.items()}
    trees = {module: package.trees[module] for module, package in everything.items()}
    long = [(lines_of(each), each, module) for module in everything for each in functions(trees[module])]
    complex_, where = max((complexity(each), f"{module}.{each.name}") for _, each, module in long if module in own)
    commands, groups = commands_in(trees[module] for module in own)
    lua = [file.read_text(encoding="utf-8") for top in PACKAGES.values() for file in (root / top).rglob("*.lua")]
    return Figures(
        python_lines=sum(lines[module] for module in own),
        lua_lines=sum(len(text.splitlines()) for text in lua),
        settings=settings_in(trees[module] for module in own),
        commands=commands,
        command_groups=groups,
        key_kinds=len(key_kinds([root / "ARCHITECTURE.md", *sorted((root / "docs").glob("*.md"))])),
        functions=spread(n for n, _, module in long if module in own),
        complexity_max=complex_,
        most_complex=where,
        files=spread(lines[module] for module in own),
        files_near_the_limit=sorted(module for module in lines if near(lines[module])),
        functions_all=spread(n for n, _, _ in long),
        files_all=spread(lines.values()),
    )


def near(lines: int) -> bool:
    """Whether a file is within ten lines of the limit: the limit begins to shape it."""
    return abs(lines - LINES_MAX) < NEAR


def spread(numbers: Iterable[int]) -> Spread:
    """Median, percentiles (the least number that so many per cent are not above) and the most."""
    found = sorted(numbers)
    p90, p99 = (found[-(-len(found) * percent // 100) - 1] for percent in (90, 99))
    return Spread(len(found), median(found), p90, p99, found[-1])


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function and method, also those inside others."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    """From ``def`` to its last line, docstring and all; without its decorators."""
    return (function.end_lineno or 0) - function.lineno + 1


def complexity(function: Function) -> int:
    """One, and one for each branch, loop, handler, comprehension, condition in it, and each further ``and`` or ``or``.

    Functions inside count for themselves.
    """
    total, todo = 1, list(ast.iter_child_nodes(function))
    while todo:
        node = todo.pop()
        if isinstance(node, Function):
            continue
        total += isinstance(node, _BRANCHES)
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        total += len(node.ifs) if isinstance(node, ast.comprehension) else 0
        todo += ast.iter_child_nodes(node)
    return total


def settings_in(trees: Iterable[ast.Module]) -> int:
    """The fields of the class ``Settings``."""
    classes = [
        node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    return sum(isinstance(statement, ast.AnnAssign) for each in classes for statement in each.body)


def commands_in(trees: Iterable[ast.Module]) -> tuple[int, int]:
    """The functions that click makes commands of, and those that it makes groups of."""
    marks = [
        decorator.func.attr
        for tree in trees
        for function in functions(tree)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute)
    ]
    return marks.count("command"), marks.count("group")


def key_kinds(texts: Iterable[Path]) -> set[str]:
    """The first words of the keys in the table of Redis keys, which ``tests/test_docs.py`` holds to the code.

    It is the table whose head begins with ``| key | type |``, in whichever of the texts it stands.
    """
    found: set[str] = set()
    for file in texts:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        for table in re.findall(r"^\| key \| type \|.*\n((?:\|.*\n?)+)", text, re.MULTILINE):
            found |= set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))
    return found
