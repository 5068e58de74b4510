"""What ``-h`` says: few commands first, each with an example, in plain words, on a terminal of 80 columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest

from gemqueue_workers.cli import main
from tests.cli.command import gemqueue

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = 80
FIRST = [
    "run", "work", "serve", "status", "health", "show", "cancel", "doctor", "prove", "demo", "emulate", "config",
]  # fmt: skip
GROUPS = ["admin", "webhooks"]
DECIDE = ["run", "doctor", "prove", "demo", "admin retry"]
"""The commands that end with 0 or 1 by what they found."""
STILTED = re.compile(r"\b(whoever|lest|for good|use to|for want of|anew|(is|are) told|hereof|thereof)\b", re.IGNORECASE)


def commands(group: click.Group, context: click.Context, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below the group by the words that call it, groups included."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, context, f"{path}{name} ")


ALL = dict(commands(main, click.Context(main)))


def shown(path: str) -> str:
    """The help of a command, as a terminal of 80 columns shows it."""
    context = click.Context(ALL[path], info_name=f"gemqueue {path}", terminal_width=COLUMNS)
    return ALL[path].get_help(context)


def listed(text: str, title: str) -> dict[str, str]:
    """The commands of a section of a help, each with what is said of it."""
    section = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^  (\w+) +(\S.*)$", section, re.MULTILINE))


def test_twelve_commands_come_first() -> None:
    """Who begins sees twelve commands, in the order in which they are met; the rest stand in two groups."""
    said = gemqueue("-h", COLUMNS=str(COLUMNS)).stdout
    assert said == gemqueue("--help", COLUMNS=str(COLUMNS)).stdout
    assert list(listed(said, "Commands")) == FIRST
    assert list(listed(said, "Groups of commands")) == GROUPS
    assert [line for line in said.splitlines() if len(line) > COLUMNS] == []


def test_belief_is_short_for_admin_belief() -> None:
    """``gemqueue belief`` is the same command, and says nothing of another name; the first help does not list it."""
    ended = gemqueue("belief", "decide", "-h", COLUMNS=str(COLUMNS))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "admin belief decide" in ended.stdout


@pytest.mark.parametrize("words", [[], ["admin"], ["webhooks"], ["admin", "dead"]])
def test_without_a_command_the_help_comes(words: list[str]) -> None:
    """A group by itself says which commands it has."""
    ended = gemqueue(*words)
    assert "\nCommands:\n" in ended.stdout + ended.stderr


@pytest.mark.parametrize("path", ALL)
def test_every_command_teaches(path: str) -> None:
    """Each says what it does, with an example that calls it, and no line is broken or cut by 80 columns."""
    said = shown(path)
    assert ALL[path].name == path.rpartition(" ")[2]
    assert re.search(rf"^    gemqueue {path}\b", said, re.MULTILINE)
    assert [line for line in said.splitlines() if len(line) > COLUMNS] == []
    assert STILTED.search(said) is None


@pytest.mark.parametrize("path", [path for path, command in ALL.items() if isinstance(command, click.Group)])
def test_every_command_has_a_line_in_its_group(path: str) -> None:
    """In the list of its group each command has one whole sentence on one line."""
    lines = listed(shown(path), "Commands")
    assert len(lines) >= 2
    assert all(re.fullmatch(r"[A-Z].*[^.]\.", said) for said in lines.values()), lines


@pytest.mark.parametrize("path", DECIDE)
def test_exit_codes_are_told_where_they_are_decided(path: str) -> None:
    """Scripts learn from the help what 0 and 1 mean."""
    assert re.search(r"^  Exit 0: .*\.\n       1: .*\.$", shown(path), re.MULTILINE)
