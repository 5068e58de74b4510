"""What the commands share of the screen: where they print, and text that is safe and short enough to be shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIPE_WIDTH: Final = 120
_LEFT_OUT_MAX: Final = 10


def make_console(*, stderr: bool) -> Console:
    """A console that leaves numbers alone; ``stderr`` where standard output belongs to JSON."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def stripped(text: str) -> str:
    """Text of a model or a provider without control characters, on one line: it must not steer a terminal."""
    kept = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(kept.split())


def shortened(text: str, chars_max: int) -> str:
    """The text, cut with an ellipsis where it is longer than ``chars_max``."""
    return text if len(text) <= chars_max else text[: chars_max - 1].rstrip() + "…"


def plain(text: str) -> Text:
    """Foreign text as rich must show it: stripped, and its brackets are no markup."""
    return Text(stripped(text))


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use: 0.4 s, 12 s, 3 min, 5 h, 2 d."""
    for unit_s, unit, from_s in ((86_400, "d", 172_800), (3_600, "h", 7_200), (60, "min", 120)):
        if seconds >= from_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def since(age_s: float, now: datetime | None = None) -> str:
    """Since when, in local time, with the day where it is not today: since 14:05 CET."""
    now = now or datetime.now().astimezone()
    then = now - timedelta(seconds=age_s)
    return f"since {then:%H:%M %Z}" if then.date() == now.date() else f"since {then:%Y-%m-%d %H:%M %Z}"


def held(reason: str, age_s: float | None) -> str:
    """Why and since when something does not move on; empty where nothing holds it."""
    if " since " in reason:  # what is being believed says it itself
        return reason
    return f"{reason.rstrip('.')}, {since(age_s)}" if reason and age_s is not None else reason


def counted(n: int, one: str, many: str) -> str:
    """A number and what it counts: 1 batch, 2,000 batches."""
    return f"{n:,} {one if n == 1 else many}"


def left_out(unreadable: Mapping[str, str]) -> list[str]:
    """Malformed records in words, the first few by name."""
    said = [f"the record of {what} cannot be read and is left out: {why}" for what, why in unreadable.items()]
    more = len(said) - _LEFT_OUT_MAX
    return said if more <= 0 else [*said[:_LEFT_OUT_MAX], f"{counted(more, 'more record', 'more records')} like these"]
