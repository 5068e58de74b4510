"""The commands that moved into a group go on working by the names of 0.2.0, and say the new one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import gemqueue
from tests.cli.run_world import RunWorld

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.valkey_server import ValkeyServer

MOVED = ["batches", "retry", "purge", "dead", "reconcile", "return", "metrics"]


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """A queue to look at."""
    with RunWorld(tmp_path_factory.mktemp("old"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def told(name: str) -> str:
    """The line that an old name prints; a terminal of 80 columns does not break it."""
    line = f"gemqueue: {name} is now `gemqueue admin {name}`; the old name still works"
    assert len(line) <= 80
    return f"{line}\n"


@pytest.mark.parametrize("name", MOVED)
def test_an_old_name_is_the_new_one(name: str) -> None:
    """Its help is that of the new name; the line about it is on standard error, and nowhere else."""
    old, new = gemqueue(name, "-h"), gemqueue("admin", name, "-h")
    assert (old.stdout, old.returncode, old.stderr) == (new.stdout, 0, told(name) + new.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["batches", "--json"],
        ["dead", "list", "--json"],
        ["dead", "list", "--kind", "nonsense"],
        ["dead", "replay"],
        ["metrics"],
        ["purge", "nobody", "--json"],
        ["purge"],
        ["reconcile", "--json"],
        ["retry", "--run", "nobody"],
        ["retry", "--nonsense"],
        ["return", "00b97c58734f6bc71100f1d"],
    ],
)
def test_what_it_prints_and_its_exit_stay(world: RunWorld, words: list[str]) -> None:
    """Scripts that call it see the same output, the same exit code, and one more line on standard error."""
    old, new = world.command(*words), world.command("admin", *words)
    assert (old.returncode, steady(old.stdout)) == (new.returncode, steady(new.stdout))
    assert old.stderr == told(words[0]) + new.stderr


def steady(text: str) -> list[str]:
    """What a command printed, without the ages of what is running beside it."""
    return [line for line in text.splitlines() if "_age_seconds{" not in line]


def test_old_names_are_not_listed() -> None:
    """The help and the shell show the new names alone."""
    said = gemqueue("-h").stdout
    assert all(f"\n  {name} " not in said for name in MOVED)
    shell = {"_GEMQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": "gemqueue ", "COMP_CWORD": "1"}
    assert {*MOVED} & {line.partition(",")[2] for line in gemqueue(**shell).stdout.splitlines()} == set()


@pytest.mark.parametrize(("typed", "meant"), [("stauts", "status"), ("reconcil", "reconcile"), ("webhook", "webhooks")])
def test_a_misspelt_name_is_answered_with_the_right_one(typed: str, meant: str) -> None:
    """New names and old ones are suggested."""
    ended = gemqueue(typed)
    assert (ended.returncode, f"Did you mean '{meant}'" in ended.stderr) == (2, True)
