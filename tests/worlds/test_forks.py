"""A command in a fork does what it does in an interpreter of its own, and what it could not do so is not forked."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import ROOT, environment, gemqueue, gemqueue_within, real_gemqueue
from tests.cli.test_help import ALL, COLUMNS
from tests.worlds import forks

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = {"GEMQUEUE_REDIS_URL": "redis://127.0.0.1:1", "GEMQUEUE_EMULATE": "1"}


@pytest.mark.parametrize("path", ALL)
def test_every_command_starts_in_an_interpreter_of_its_own(path: str) -> None:
    """Each is found and says what it is for, with nothing imported before it."""
    ended = real_gemqueue(*path.split(), "-h", COLUMNS=str(COLUMNS))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"\n  gemqueue {path}" in ended.stdout or f" {path} " in ended.stdout


def test_commands_are_forked_where_the_system_can() -> None:
    """On Linux a test's plain command is a fork; elsewhere all of them start by themselves."""
    assert forks.takes(environment()) == (sys.platform == "linux")


@pytest.mark.parametrize(
    "words", [["config", "--json"], ["nonsense"], ["show", "batch", "--json"], ["--debug", "status"]]
)
def test_a_fork_ends_as_an_interpreter_does(words: list[str]) -> None:
    """What it prints, where, and its exit code are the same, whether it succeeds, is refused or raises."""
    forked = gemqueue(*words, **NOWHERE)
    real = real_gemqueue(*words, **NOWHERE)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_a_fork_that_takes_too_long_is_killed() -> None:
    """Its caller hears of it as from ``subprocess.run``."""
    with pytest.raises(subprocess.TimeoutExpired):
        gemqueue_within(0.0, "emulate", "--port", "0")


@pytest.mark.parametrize("name", ["GEMQUEUE_CRASH_AT", "GEMQUEUE_MODELS", "PYTHONHASHSEED", "TZ", "LC_ALL", "TMPDIR"])
def test_what_is_read_at_the_start_is_not_for_forks(name: str) -> None:
    """A variable that the interpreter or a module reads when it starts needs a start of its own."""
    assert not forks.takes(environment(**{name: "other"}))


def _read_at_import(node: ast.AST) -> Iterator[str]:
    """The statements outside of functions that look at the environment."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.ClassDef | ast.If | ast.Try | ast.With):
            yield from _read_at_import(child)
        elif any(_looks(each) for each in ast.walk(child)) and not isinstance(child, ast.ImportFrom):
            yield ast.unparse(child)


def _looks(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("_from_env"):
        return True
    return isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")


def test_every_variable_that_is_read_at_import_is_known() -> None:
    """Two are, the crash and the table of models; one more has to be excepted in ``forks`` as well."""
    folders = ["gemqueue", "workers/gemqueue_workers", "adapters/gemqueue_adapters"]
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    found = [text for file in files for text in _read_at_import(ast.parse(file.read_text()))]
    assert sorted(text.partition(" ")[0].partition(":")[0] for text in found) == ["TABLE", "_crash_at"]
