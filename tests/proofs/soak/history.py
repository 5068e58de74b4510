"""What a client did and was told, one line of JSON an event, written before the call and after it.

``invoke`` stands before every call. ``ok``, ``failed`` and ``unknown`` are what the call said: unknown means that the
prompt may have been taken or not, as after a lost connection, or when the process died and nobody was told anything.
``outcome`` is what the prompt's future came to. ``cancel`` stands before a cancellation, ``hung`` is a future that did
not end in time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

What = Literal["invoke", "ok", "failed", "unknown", "outcome", "cancel", "hung"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """``op`` is the prompt's number with its client; ``prompt`` and ``name`` stand at its ``invoke``."""

    what: What
    op: int
    prompt: str = ""
    name: str = ""
    key: str = ""
    kind: str = ""
    """Of an outcome: answered, or the failure's kind; of a refusal, the error's class."""
    text: str = ""
    """Of an answer, its text; of anything else, the message."""


class Log:
    """Appends events to a file; what was written is there whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if torn:
            os.write(self._file, b"\n")

    def write(self, *events: Event) -> None:
        """All in one write, so that no other line comes between."""
        os.write(self._file, b"".join(msgspec.json.encode(event) + b"\n" for event in events))


def read(path: Path) -> list[Event]:
    """The events of a file, in order; a line that was cut short by a kill is left out."""
    decode = msgspec.json.Decoder(Event).decode
    events: list[Event] = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        with suppress(msgspec.DecodeError):
            events.append(decode(line))
    return events
