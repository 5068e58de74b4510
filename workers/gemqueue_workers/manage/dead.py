"""``gemqueue admin dead``: prompts that failed through no fault of their own are looked at, asked again, dropped.

What their callers got stays a failure; who asks under the old key is told so. A replayed prompt has a new key, and its
name, if it has one, leads to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.errors import ConfigError
from gemqueue.records import Lane
from gemqueue_workers.screen import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gemqueue.store.dead import DeadLetter
    from gemqueue_workers.run.connection import Link


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead prompt as a list shows it."""

    id: str
    key: str
    lane: str
    kind: str
    message: str
    run: str
    bytes: int


class Replayed(msgspec.Struct, frozen=True):
    """A prompt that was submitted again: its old key, and the one that its new outcome will have."""

    old: str
    new: str


async def find(link: Link, words: Sequence[str], *, kind: str = "") -> list[DeadLetter]:
    """The account's dead letters with these ids or keys, or all of them. Raises ConfigError for a word that is none."""
    letters = [
        letter
        async for letter in link.store.dead_letters()
        if Lane.parse(letter.lane).account == link.account and (not kind or letter.kind == kind)
    ]
    if not words:
        return letters
    chosen = [letter for letter in letters if letter.id in words or letter.key in words]
    unknown = set(words) - {letter.id for letter in chosen} - {letter.key for letter in chosen}
    if unknown:
        raise ConfigError(
            f"{min(unknown)!r} is no dead letter of the account {link.account}: `gemqueue admin dead list`"
        )
    return chosen


async def listed(link: Link, *, kind: str) -> list[Letter]:
    """Every dead letter of the account, without its body."""
    return [
        Letter(
            id=letter.id,
            key=letter.key,
            lane=letter.lane,
            kind=letter.kind,
            message=letter.message,
            run=letter.run,
            bytes=len(letter.body.encode()),
        )
        for letter in await find(link, (), kind=kind)
    ]


async def replay(link: Link, words: Sequence[str], *, kind: str) -> list[Replayed]:
    """Submit them again, in segments of one lane, tenant and priority. Raises ConfigError, QueueFull."""
    letters = await find(link, words, kind=kind)
    of_runs = sorted({letter.run for letter in letters if letter.run})
    if of_runs and words:
        raise ConfigError(
            f"a row of the run {of_runs[0]!r}: `gemqueue admin retry --run {of_runs[0]}` keeps its OUT right"
        )
    groups: dict[tuple[str, str, int], list[DeadLetter]] = {}
    for letter in letters:
        if not letter.run:
            groups.setdefault((letter.lane, letter.tenant, letter.priority), []).append(letter)
    done: list[Replayed] = []
    for group in groups.values():
        for part in _parts(group, link.store.settings.segment_prompts_max, link.store.settings.segment_bytes_max):
            new = await link.store.replay(part)
            done += [Replayed(letter.key, key) for letter, key in zip(part, new, strict=True)]
    return done


def _parts(letters: Sequence[DeadLetter], prompts_max: int, bytes_max: int) -> list[list[DeadLetter]]:
    parts: list[list[DeadLetter]] = []
    room = 0
    for letter in letters:
        if not parts or len(parts[-1]) >= prompts_max or len(letter.body) > room:
            parts.append([])
            room = bytes_max
        parts[-1].append(letter)
        room -= len(letter.body)
    return parts


async def purge(link: Link, words: Sequence[str], *, kind: str) -> int:
    """Forget them; how many."""
    return await link.store.purge_dead([letter.id for letter in await find(link, words, kind=kind)])


def show_letters(console: Console, letters: list[Letter]) -> None:
    """Print them for a person."""
    if not letters:
        console.print("No dead letters.")
        return
    table = Table("id", "key", "lane", "kind", "run", "why", box=box.SIMPLE_HEAD)
    for letter in letters:
        cells = (letter.id, letter.key, letter.lane, letter.kind, letter.run, letter.message)
        table.add_row(*(Text(str(plain(cell))) for cell in cells))
    console.print(table)
    console.print(f"{len(letters):,} dead letters, {sum(letter.bytes for letter in letters):,} bytes")
