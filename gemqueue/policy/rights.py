"""What a server's user must be allowed, for a producer and for a worker; docs/servers.md has it as ACL lines. Pure.

Each right has a call that shows whether it is there. The calls are queued between ``MULTI`` and ``DISCARD``: a server
refuses what is not allowed when it queues it, and then forgets them all.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY: Final = "KEY"
_BOTH: Final = (
    "ping", "time", "eval 0 1 KEY", "evalsha 0 1 KEY",
    "get KEY", "set KEY 1", "mget KEY", "getbit KEY 0", "getrange KEY 0 1", "strlen KEY",
    "exists KEY", "expire KEY 9", "persist KEY", "unlink KEY",
    "hget KEY 1", "hset KEY 1 1", "hsetnx KEY 1 1", "hmget KEY 1", "hgetall KEY", "hincrby KEY 1 1",
    "hexists KEY 1", "hlen KEY", "hkeys KEY", "hdel KEY 1", "zcard KEY",
    "rpush KEY 1", "llen KEY", "lrange KEY 0 1", "lindex KEY 0",
    "sadd KEY 1", "srem KEY 1", "scard KEY", "smembers KEY", "sismember KEY 1", "srandmember KEY",
    "zadd KEY 1 1", "zrem KEY 1", "zscore KEY 1", "zcount KEY 0 1", "zrange KEY 0 1", "zrangebyscore KEY 0 1",
    "xadd KEY * 1 1", "xlen KEY", "xrange KEY - +", "xrevrange KEY + -", "xread STREAMS KEY 0",
)  # fmt: skip
_WORKER: Final = (
    "scan 0", "getdel KEY", "incrby KEY 1", "pexpire KEY 9", "psetex KEY 9 1", "setex KEY 9 1", "del KEY",
    "hvals KEY", "lset KEY 0 1", "ltrim KEY 0 1",
    "zremrangebyscore KEY 0 1", "xdel KEY 1-1", "watch KEY", "unwatch",
)  # fmt: skip
OPTIONAL: Final = ("select", "hello", "info", "config|get", "publish", "subscribe", "unsubscribe", "dbsize")
"""Commands that the queue uses where they are allowed; ``doctor`` says what is not seen or is slower without them."""
_MULTI: Final = ("multi", "exec", "discard")
_WAIT: Final = ("wait 1 1",)
_JOBS: Final = ("arq:job:", "arq:in-progress:", "arq:retry:", "arq:result:")
_ABORTED: Final = "arq:abort"
_OF_KEY: Final = "permissions to access"
"""In what a server says where a command is allowed, and its key is not."""


class Side(StrEnum):
    """Who uses the server: a program with a ``Queue`` and the commands of a queue's user, or ``gemqueue work``."""

    PRODUCER = "producer"
    WORKER = "worker"


class Right(NamedTuple):
    """A command and a place for keys, as an ACL line calls them, and a call that needs both."""

    command: str
    place: str
    call: tuple[str, ...]

    def lacking(self, said: str) -> str:
        """Which of the two is missing where the call was refused with these words."""
        return self.place if _OF_KEY in said else self.command


def rights_of(side: Side, queue: str, prefix: str, *, replicated: bool, by_arq: bool) -> list[Right]:
    """What a side needs for a queue whose keys begin with ``prefix``.

    ``replicated`` where writes wait for replicas, ``by_arq`` where arq runs the steps, on keys of its own.
    """
    own, key, jobs = f"~{{gq:{queue}:*", f"{prefix}:probe", f"gq:{queue}:probe"
    calls = [*_BOTH, *(_WORKER if side is Side.WORKER else ()), *(_WAIT if replicated else ())]
    rights = [_right(call.split(), own, key) for call in calls]
    if side is Side.WORKER and by_arq:
        places = [(f"~{at}gq:{queue}:*", f"{at}{jobs}") for at in ("", *_JOBS)]
        rights += [_right(["exists", _KEY], place, key) for place, key in [*places, (f"~{_ABORTED}", _ABORTED)]]
    return rights


def _right(words: list[str], place: str, key: str) -> Right:
    return Right(f"+{words[0]}", place, tuple(key if word == _KEY else word for word in words))


def multi_rights() -> list[str]:
    """What a server must allow before any other right can be seen."""
    return [f"+{name}" for name in _MULTI]


def why_missing(side: Side, missing: Iterable[str], user: str) -> str:
    """What a side lacks, as the rest of a sentence with the line that gives it."""
    return f"refuses its user what a {side} needs: ACL SETUSER {user or 'default'} {' '.join(missing)}"
