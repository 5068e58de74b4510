"""The README's program is the one in examples/, and it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from gemqueue_workers.cli import main
from tests.cli.command import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = ROOT / "examples" / "quickstart.py"


def test_readme_shows_the_quickstart() -> None:
    """The first Python block of the README is examples/quickstart.py, to the letter."""
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block[1] == QUICKSTART.read_text(encoding="utf-8")


def test_quickstart_prints_answers() -> None:
    """Without a key, a server or a setting it prints an emulated answer to each of its three questions."""
    data = tempfile.mkdtemp(prefix="gqr-", dir="/tmp")
    quick = {"GEMQUEUE_LINGER_S": "0.2", "GEMQUEUE_POLL_FIRST_S": "0.2", "GEMQUEUE_SWEEP_S": "0.2"}
    try:
        ended = subprocess.run(
            [sys.executable, str(QUICKSTART)],
            env=environment(GEMQUEUE_DATA_DIR=data, **quick),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        shutil.rmtree(data, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 3
    assert [line.startswith("[emulated] ") for line in lines] == [True] * 3
    assert [word in line for word, line in zip(("salty", "purr", "blue"), lines, strict=True)] == [True] * 3


def test_readme_is_short() -> None:
    """Nobody reads more than 200 lines."""
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_names_the_two_commands(command: str) -> None:
    """The two commands that a reader needs are there, and the Makefile has them."""
    assert command in README
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)


def leaves(group: click.Group, context: click.Context, path: str = "") -> Iterator[str]:
    """Every command below the group by the words that call it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, context, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def test_readme_lists_every_command() -> None:
    """The list of commands names each that there is, and none that is not."""
    block = README.partition("## Command line\n")[2].split("```")[1]
    calls = re.findall(r"^gemqueue ((?:[a-z]+ )*)([a-z|]+)", block, re.MULTILINE)
    listed = {f"{path}{name}" for path, names in calls for name in names.split("|")}
    assert listed == {*leaves(main, click.Context(main))}
