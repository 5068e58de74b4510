"""Style is a test: what CONTRIBUTING.md asks for and a machine can see is held here, not in reviews."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gemqueue.config import Settings
from gemqueue.setting_values import BOUNDED, DERIVED
from gemqueue.states import TRANSITIONS
from gemqueue.store import calls
from gemqueue.store.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.house.plan import FACE

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SLEEP_S_MAX = 0.05
WAIT_S_MIN = 60
WAITS = {"until", "wait_for", "timeout", "communicate", "create_connection"}
UNITS = ("_s", "_ms", "_bytes", "_count", "_max")
UNITLESS = {"timeout", "interval", "delay", "ttl", "size", "duration", "period"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(folder: str) -> dict[str, ast.Module]:
    """The folder's Python files by their path in the repository."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in files}


SOURCE = {**parsed("gemqueue"), **parsed("workers"), **parsed("adapters")}
TESTS = parsed("tests")


def functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, Function]]:
    """Every function, with the place to name in a complaint."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.lineno} {node.name}", node


def module_name(path: str) -> str:
    """The name by which a file of the three packages is imported."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts if parts[0] == "gemqueue" else parts[1:]).removesuffix(".__init__")


def mentions(tree: ast.Module) -> Iterator[str]:
    """What a file imports, and its strings, as ``"package.module:app"`` names a module too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def test_files_are_short() -> None:
    """No source file has more than 400 lines."""
    files = [*SOURCE, *(str(file.relative_to(ROOT)) for file in ROOT.glob("gemqueue/store/lua/*.lua"))]
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: n for path, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    """No function has more than 70 lines: it fits a screen."""
    lengths = {where: (node.end_lineno or 0) - node.lineno + 1 for where, node in functions(SOURCE)}
    assert {where: n for where, n in lengths.items() if n > FUNCTION_LINES_MAX} == {}


def test_tests_state_their_claim() -> None:
    """Every test says in a docstring what it shows."""
    bare = [where for where, node in functions(TESTS) if node.name.startswith("test_") and not ast.get_docstring(node)]
    assert bare == []


def test_tests_do_not_sleep() -> None:
    """No test waits for time to pass; they wait for a condition, looking often, up to a deadline."""
    sleeps = [
        f"{path}:{node.lineno}"
        for path, tree in TESTS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}
        and isinstance(seconds := getattr(node.args[0], "value", 0), int | float)
        and seconds > SLEEP_S_MAX
    ]
    assert sleeps == []


def test_tests_wait_long_enough() -> None:
    """What waits for a condition gives it a minute; a second or less is for what should not happen meanwhile."""
    short = [
        f"{path}:{node.lineno}"
        for path, tree in TESTS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in WAITS
        for given in (*node.args, *(keyword.value for keyword in node.keywords))
        if isinstance(given, ast.Constant) and isinstance(given.value, int | float) and 1 < given.value < WAIT_S_MIN
    ]
    assert short == []


def test_names_end_in_their_unit() -> None:
    """Numbers in the settings end in a unit or ``_max``, and no parameter is a bare quantity such as ``timeout``."""
    numbers = [field.name for field in msgspec.structs.fields(Settings) if field.type in {"int", "float", int, float}]
    assert numbers != []
    assert [name for name in numbers if not name.endswith(UNITS)] == []
    bare = [
        f"{where}({arg.arg})"
        for where, node in functions(SOURCE)
        for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if arg.arg.rpartition("_")[2] in UNITLESS
    ]
    assert bare == []


def test_no_dead_modules() -> None:
    """Every module of the three packages is used by another one, is a command, a plugin, or an old name of one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tables = (project["scripts"], *project["entry-points"].values())
    commands = {target.partition(":")[0] for table in tables for target in table.values()}
    used = {name for path, tree in SOURCE.items() for name in mentions(tree) if name != module_name(path)}
    modules = {module_name(path) for path in SOURCE if not path.endswith(("__init__.py", "__main__.py"))}
    assert sorted(modules - used - commands) == [f"gemqueue.{old}" for old in FACE if old and not old.startswith("_")]


def test_every_script_is_a_method() -> None:
    """The listing of ``lua/`` is the list of transitions: the store calls each, and each verb has one."""
    scripts = {file.stem for file in ROOT.glob("gemqueue/store/lua/[!_]*.lua")}
    store = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("gemqueue/store/**/*.py"))
    assert scripts == {
        getattr(calls, name).__struct_config__.tag
        for name in re.findall(r"\bcalls\.(\w+)\(", store)
        if issubclass(getattr(calls, name), Call)
    }
    assert {verb for _, verb, _ in TRANSITIONS} <= scripts


def test_config_file_equals_the_defaults() -> None:
    """``config/gemqueue.toml`` holds every setting once, with its default, under a comment that says why.

    A setting that follows from another one is commented out, so that a copy of the file lets it follow.
    """
    text = (ROOT / "config" / "gemqueue.toml").read_text(encoding="utf-8")
    assert tomllib.loads(re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)) == msgspec.to_builtins(Settings())
    assert set(Settings.__struct_fields__) - tomllib.loads(text).keys() == DERIVED.keys() | BOUNDED.keys()
    commented = re.findall(r"^#.*\n#?(\w+) = ", text, flags=re.MULTILINE)
    assert commented == list(Settings.__struct_fields__)


def test_the_config_file_begins_with_what_people_set() -> None:
    """Ten settings come first, then those that can stay as they are."""
    text = (ROOT / "config" / "gemqueue.toml").read_text(encoding="utf-8")
    first, _, _ = text.partition("# ===== what we set for you =====")
    assert len(tomllib.loads(first)) == 10


def test_markdown_is_tidy() -> None:
    """No line of a text ends in blanks, and every text has one title."""
    folders = (".", "docs", "gemqueue", "workers", "adapters", "config", "benchmarks", "examples")
    for file in (file for folder in folders for file in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")):
        text = file.read_text(encoding="utf-8")
        assert [line for line in text.splitlines() if line != line.rstrip()] == [], file.name
        outside_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^# ", outside_code, flags=re.MULTILINE)) == 1, file.name
