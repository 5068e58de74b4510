"""What a server refuses, in a sentence that names the way out, and what it tells of how it keeps things. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTENCE_CHARS_MAX: Final = 600
"""Of a sentence of ours that quotes a server: it may name every right that is missing."""
_CHARS_MAX: Final = 160
_OF_PIPELINE: Final = re.compile(
    r"^.*caused error: (?:\((?P<quote>['\"])(?P<said>.*)(?P=quote),\)|(?P<bare>.*))$", re.DOTALL
)
"""In a pipeline redis-py puts the whole command before what the server said, a job's packed bytes included."""
_SETTING: Final = "redis_url / GEMQUEUE_REDIS_URL"
_RIGHTS: Final = "refuses its user what the queue needs ({said}): `gemqueue doctor` names the missing rights"
REPLICA: Final = (
    f"is a read-only replica: name its primary in {_SETTING}, or the sentinels that know who that is "
    "(redis+sentinel://host:port/service)"
)
_UNKNOWN: Final = "does not have a command that the queue needs ({said}): take a server that has it"


class _Meaning(NamedTuple):
    mark: re.Pattern[str]
    words: str


_MEANINGS: Final = (
    _Meaning(re.compile(r"^NOPERM\b|ACL failure in script|can't run this command"), _RIGHTS),
    _Meaning(re.compile(r"unknown (redis )?command", re.IGNORECASE), _UNKNOWN),
)
"""The first that fits counts."""
_IN_INFO: Final = {"maxmemory": "maxmemory", "maxmemory-policy": "maxmemory_policy"}


def cleaned(text: str, chars_max: int = _CHARS_MAX) -> str:
    """A server's words in one line: without the command before them, what cannot be printed, and what is too long."""
    piped = _OF_PIPELINE.match(text)
    words = (piped["said"] or piped["bare"] or "") if piped else text
    shown = "".join(char if char.isprintable() else " " for char in words)
    line = " ".join(shown.split()).rstrip(".")
    return line if len(line) <= chars_max else f"{line[:chars_max]}..."


def refusal(said: str) -> str:
    """What a server does that lacks a right or a command, as the rest of a sentence; empty where that is not it."""
    meaning = next((words for mark, words in _MEANINGS if mark.search(said)), "")
    return meaning.format(said=cleaned(said))


def config_of(info: Mapping[str, Any]) -> dict[str, str]:
    """What ``INFO`` tells of the parameters that ``CONFIG GET`` would name; nothing of ``appendfsync``."""
    found = {name: str(info[key]) for name, key in _IN_INFO.items() if key in info}
    return found | ({"appendonly": "yes" if info["aof_enabled"] else "no"} if "aof_enabled" in info else {})
