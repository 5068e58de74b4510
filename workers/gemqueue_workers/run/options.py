"""What ``gemqueue run`` is asked to do, and which of it must stay the same when it is repeated."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gemqueue.errors import ConfigError, PromptInvalid
from gemqueue.policy.deadlines import deadline_at_ms
from gemqueue.setting_values import expanded
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
    deadline: str = ""
    config_mode: str = ""
    """What a row's own config does to ``config``; empty: as the run began, and a new one merges."""

    def settings(self) -> str:
        """What a repetition must have in common with the start: all that answers and OUT's form depend on, as JSON.

        It names runs and is compared as it is, so it stays byte for byte: a new field stands in it only where it
        differs from its default.
        """
        fields = ("model", "kind", "config", "column", "template", "key", "text")
        return msgspec.json.encode({field: getattr(self, field) for field in fields}, order="sorted").decode()


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def deadline_of(text: str) -> timedelta | datetime | None:
    """What ``--deadline`` says: 90m, 2h, seconds, or a time with its zone; None for nothing. Raises ConfigError."""
    if not text:
        return None
    if found := _DURATION.fullmatch(text.strip()):
        return timedelta(seconds=float(found[1]) * _UNIT_S[found[2]])
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigError(f"--deadline {text!r} is neither like 90m, 2h, 1d nor like 2026-10-07T18:00+02:00")
    return at


def deadline_at_now(text: str, now_ms: int) -> int:
    """The deadline of rows that are submitted now, in ms; 0 where there is none, or it has passed."""
    try:
        return deadline_at_ms(deadline_of(text), now_ms)
    except PromptInvalid:  # a run that is taken up again after its deadline goes on without one
        return 0


def absolute(path: str) -> str:
    """The path as it is stored, whatever the folder that the next command is given in. Raises ConfigError."""
    return path if path == STDIO else str(expanded(path, "give the whole path").resolve())


def named(options: RunOptions) -> RunOptions:
    """With its name: the given one, else one that the paths and the settings determine. Raises ConfigError."""
    if not options.name:
        identity = f"{options.source}\0{options.out}\0{options.settings()}"
        return msgspec.structs.replace(options, name=f"run-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    if not set(options.name) <= _NAME_CHARS or len(options.name) > _NAME_CHARS_MAX:
        raise ConfigError(f"--name must be 1 to {_NAME_CHARS_MAX} of letters, digits, - _ .")
    return options
