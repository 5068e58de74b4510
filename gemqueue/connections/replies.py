"""What a server refused, as itself: servers and redis-py put other words around it, or take its first word off."""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

_WORDS: Final[dict[type[RedisError], str]] = {
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
    ClusterCrossSlotError: "CROSSSLOT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
}
"""The first words that redis-py takes off, some from its version 6 on."""
_TYPES: Final = {"OOM": OutOfMemoryError, "READONLY": ReadOnlyError, "NOPERM": NoPermissionError}
_IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -([A-Z]+) (.*)", re.DOTALL)
"""Redis 6.2 tells so what a command in a script was refused with."""


def code_of(error: RedisError) -> str:
    """The server's word for it; in a pipeline redis-py puts "Command # 1 (...) of pipeline caused error: " before."""
    if known := _WORDS.get(type(error)):
        return known
    if found := _IN_SCRIPT.search(str(error)):
        return found[1]
    return str(error).rpartition("caused error: ")[2].lstrip("(").strip("'\"").partition(" ")[0]


def said_by(error: RedisError) -> str:
    """What the server said, its word first; without what Redis 6.2 puts around it."""
    said, word = str(error), code_of(error)
    if found := _IN_SCRIPT.search(said):
        return f"{found[1]} {found[2]}"
    return said if word in said else f"{word} {said}"


def itself(error: Exception) -> Exception:
    """The error that a script's command was refused with, as newer servers tell it; any other as it is."""
    found = _IN_SCRIPT.search(str(error)) if type(error) is ResponseError else None
    if found is None or found[1] not in _TYPES:
        return error
    return _TYPES[found[1]](found[2].rstrip(". "))
