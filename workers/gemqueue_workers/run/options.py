"""What ``gemqueue run`` is asked to do, and which of it must stay the same when it is repeated."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from gemqueue.errors import ConfigError
from gemqueue.states import Kind

STDIO = "-"
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_NAME_CHARS_MAX = 128


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Paths are absolute; ``-`` is standard input or output."""

    source: str
    out: str
    model: str
    name: str = ""
    kind: Kind = Kind.GENERATE
    config: dict[str, Any] | None = None
    form: str = ""
    column: str = ""
    template: str = ""
    key: str = ""
    text: bool = False
    failed: str = ""
    order: str = "landed"
    dedupe_first: bool = False

    def settings(self) -> str:
        """What a repetition must have in common with the start: all that answers and OUT's form depend on, as JSON."""
        fields = ("model", "kind", "config", "column", "template", "key", "text")
        return msgspec.json.encode({field: getattr(self, field) for field in fields}, order="sorted").decode()


def absolute(path: str) -> str:
    """The path as it is stored, whatever the folder that the next command is given in."""
    return path if path == STDIO else str(Path(path).expanduser().resolve())


def named(options: RunOptions) -> RunOptions:
    """With its name: the given one, else one that the paths and the settings determine. Raises ConfigError."""
    if not options.name:
        identity = f"{options.source}\0{options.out}\0{options.settings()}"
        return msgspec.structs.replace(options, name=f"run-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    if not set(options.name) <= _NAME_CHARS or len(options.name) > _NAME_CHARS_MAX:
        raise ConfigError(f"--name must be 1 to {_NAME_CHARS_MAX} of letters, digits, - _ .")
    return options
