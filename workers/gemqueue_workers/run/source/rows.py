"""A row of IN, and a line that is none."""

from __future__ import annotations

from typing import Final, NamedTuple

LINE_BYTES_MAX: Final = 64_000_000
_KEY_CHARS_MAX: Final = 512


class Request(NamedTuple):
    """A request in Gemini's own form, still undecoded; without the fields named in ``drop``."""

    raw: bytes
    drop: tuple[str, ...] = ()


class Prompt(NamedTuple):
    """Contents, and a config of the row's own; both decoded, None where the row has none."""

    contents: object
    config: object = None


class Row(NamedTuple):
    """A line that can be read. ``content`` stands for all that the answer depends on beside the settings."""

    line: int
    key: str
    content: bytes
    ask: Request | Prompt


class BadLine(NamedTuple):
    """A line that cannot be read: where, how it begins, why."""

    line: int
    text: str
    reason: str


class BadRowError(ValueError):
    """Why a line is no row."""


def key_of(value: object, number: int) -> str:
    """The row's key; its line's number where it has none. Raises BadRowError."""
    if value is None or value == "":
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRowError("its key is neither a string nor a whole number")
    key = str(value)
    if len(key) > _KEY_CHARS_MAX:
        raise BadRowError(f"its key has more than {_KEY_CHARS_MAX} characters")
    return key


def prompt_row(number: int, key: str, text: str) -> Row:
    """A row that is a text. Raises BadRowError for a blank one."""
    if not text.strip():
        raise BadRowError("its prompt is empty")
    return Row(number, key, text.encode("utf-8", "surrogateescape"), Prompt(text))
