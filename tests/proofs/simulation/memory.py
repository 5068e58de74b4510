"""The whole of the server that gemqueue uses: ``Keyspace``, sorted sets, streams, and the scripts on top.

``Memory.run`` is one command, atomic, as the real server's are. EVALSHA and EVAL run gemqueue's own Lua files in a
Lua 5.1 interpreter, the version that Redis and Valkey have, so the transitions themselves exist once: what is modelled
here is only the commands under them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoScriptError, ResponseError

from tests.proofs.simulation.keyspace import Keyspace, Reply, Stream, ZSet, span
from tests.proofs.simulation.scripting import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def number(value: float) -> bytes:
    """A score as the protocol has it."""
    return b"%d" % value if value == int(value) and not math.isinf(value) else b"%.17g" % value


class _Bound:
    """One end of a range of scores."""

    def __init__(self, text: bytes) -> None:
        self.open = text.startswith(b"(")
        self.value = float(text[1:] if self.open else text)

    def below(self, score: float) -> bool:
        return self.value < score or (self.value == score and not self.open)

    def above(self, score: float) -> bool:
        return self.value > score or (self.value == score and not self.open)


def _entry_id(text: bytes) -> tuple[int, int]:
    if text in (b"-", b"+"):
        return (0, 0) if text == b"-" else (1 << 64, 0)
    ms, _, n = text.partition(b"-")
    return int(ms), int(n or 0)


def entry_name(id_: tuple[int, int]) -> bytes:
    """An entry's id as the protocol has it."""
    return b"%d-%d" % id_


class Memory(Keyspace):
    """A server's data, and the commands on it."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms)
        self._commands: dict[bytes, Callable[..., Reply]] = {}
        self.scripts: set[bytes] = set()
        self.run_number = 1
        self.on_append: Callable[[bytes], None] = lambda _key: None
        """Called when a stream has got an entry, for those who block on it."""
        self.on_publish: Callable[[bytes], int] = lambda _channel: 0
        """Called when a message is published; says how many hear it."""
        self.on_wait: Callable[[int], int] = lambda replicas: replicas
        """Called when a connection waits for replicas; says how many have confirmed."""

    def run(self, words: Sequence[bytes]) -> Reply:
        """One command. Raises ResponseError as the server answers with one."""
        command = self._commands.get(words[0])
        if command is None:
            command = self._commands[words[0]] = self._command(words[0])
        return command(*words[1:])

    def _command(self, word: bytes) -> Callable[..., Reply]:
        name = word.decode().lower()
        name = _METHODS.get(name, name)
        command = None if name.startswith("_") or name in _NOT_COMMANDS else getattr(self, name, None)
        if command is None:
            raise ResponseError(f"ERR unknown command '{name}': it is not modelled")
        return cast("Callable[..., Reply]", command)

    # --- scripts ---

    def evalsha(self, sha: bytes, n_keys: bytes, *arguments: bytes) -> Reply:
        """Run a script that the server knows."""
        if sha not in self.scripts:
            raise NoScriptError("No matching script. Please use EVAL.")
        return self._script(sha, n_keys, arguments)

    def run_text(self, text: bytes, n_keys: bytes, *arguments: bytes) -> Reply:
        """Run a script, and know it from now on."""
        sha = Interpreter.shared().learn(text)
        self.scripts.add(sha)
        return self._script(sha, n_keys, arguments)

    def _script(self, sha: bytes, n_keys: bytes, arguments: tuple[bytes, ...]) -> Reply:
        n = int(n_keys)
        return Interpreter.shared().run(sha, arguments[:n], arguments[n:], self.run)

    def restart(self) -> None:
        """What a restart does: no script is known any more, and the server has another run id."""
        self.scripts.clear()
        self.run_number += 1

    # --- the server ---

    def time(self) -> Reply:
        """Seconds and microseconds."""
        now_ms = self.now_ms()
        return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]

    def info(self, *_sections: bytes) -> Reply:
        """Which server this is: a new one after every restart."""
        return b"run_id:%040x\r\nrole:master\r\nmaster_replid2:%040d\r\nconnected_slaves:0\r\n" % (self.run_number, 0)

    def ping(self) -> Reply:
        """It answers."""
        return b"PONG"

    def wait(self, replicas: bytes, _timeout: bytes) -> Reply:
        """How many replicas have everything: as many as were asked for, or fewer."""
        return self.on_wait(int(replicas))

    def publish(self, channel: bytes, _message: bytes) -> Reply:
        """Whoever listens now hears it."""
        return self.on_publish(channel)

    # --- sorted sets ---

    def zadd(self, key: bytes, *words: bytes) -> Reply:
        """Add members, with NX, XX, LT and GT."""
        at = 0
        options: set[bytes] = set()
        while words[at].upper() in {b"NX", b"XX", b"LT", b"GT", b"CH"}:
            options.add(words[at].upper())
            at += 1
        members: ZSet = self.make(key, ZSet)
        added = changed = 0
        for score_text, member in zip(words[at::2], words[at + 1 :: 2], strict=True):
            score, old = float(score_text), members.get(member)
            refused = b"XX" in options if old is None else b"NX" in options
            if old is not None:
                refused = refused or (b"LT" in options and score >= old) or (b"GT" in options and score <= old)
            if not refused:
                added += old is None
                changed += old != score
                members[member] = score
        self.tidy(key)
        return changed if b"CH" in options else added

    def zincrby(self, key: bytes, n: bytes, member: bytes) -> Reply:
        """Raise a score."""
        members: ZSet = self.make(key, ZSet)
        members[member] = members.get(member, 0.0) + float(n)
        return number(members[member])

    def zrem(self, key: bytes, *names: bytes) -> Reply:
        """Remove members."""
        members: ZSet | None = self.find(key, ZSet)
        if members is None:
            return 0
        gone = sum([members.pop(name, None) is not None for name in names])
        self.tidy(key)
        return gone

    def zscore(self, key: bytes, member: bytes) -> Reply:
        """A member's score."""
        members: ZSet | None = self.find(key, ZSet)
        return number(members[member]) if members and member in members else None

    def zcard(self, key: bytes) -> Reply:
        """How many."""
        return len(self.find(key, ZSet) or ())

    def zcount(self, key: bytes, low: bytes, high: bytes) -> Reply:
        """How many have a score in the range."""
        return len(self._between(key, low, high))

    def zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
        """Members by rank."""
        ordered = self._ordered(key)
        return _members(ordered[span(len(ordered), first, last)], options)

    def zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
        """Members by rank, from the end."""
        ordered = self._ordered(key)[::-1]
        return _members(ordered[span(len(ordered), first, last)], options)

    def zrangebyscore(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> Reply:
        """Members by score, with LIMIT."""
        found = self._between(key, low, high)
        words = [option.upper() for option in options]
        if b"LIMIT" in words:
            at = words.index(b"LIMIT")
            start, n = int(options[at + 1]), int(options[at + 2])
            found = found[start : start + n] if n >= 0 else found[start:]
            words[at : at + 3] = []
        return _members(found, words)

    def zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> Reply:
        """Remove members by score."""
        found = [member for member, _ in self._between(key, low, high)]
        return self.zrem(key, *found) if found else 0

    def _ordered(self, key: bytes) -> list[tuple[bytes, float]]:
        members: ZSet | None = self.find(key, ZSet)
        return members.ordered() if members else []

    def _between(self, key: bytes, low: bytes, high: bytes) -> list[tuple[bytes, float]]:
        least, most = _Bound(low), _Bound(high)
        return [(member, score) for member, score in self._ordered(key) if least.below(score) and most.above(score)]

    # --- streams ---

    def xadd(self, key: bytes, *words: bytes) -> Reply:
        """Append an entry, with NOMKSTREAM and MAXLEN (taken as exact, which ``~`` allows)."""
        at, maxlen = 0, None
        while words[at] != b"*":
            word = words[at].upper()
            if word == b"NOMKSTREAM" and not self.alive(key):
                return None
            if word == b"MAXLEN":
                at += words[at + 1] in (b"~", b"=")
                maxlen = int(words[at + 1])
                at += 1
            at += 1
        stream: Stream = self.make(key, Stream)
        stream.last = max((self.now_ms(), 0), (stream.last[0], stream.last[1] + 1))
        stream.append((stream.last, list(words[at + 1 :])))
        if maxlen is not None and len(stream) > maxlen:
            del stream[: len(stream) - maxlen]
        self.on_append(key)
        return entry_name(stream.last)

    def xlen(self, key: bytes) -> Reply:
        """How many entries."""
        return len(self.find(key, Stream) or ())

    def xrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
        """Entries by id, with COUNT."""
        low, high = _entry_id(first), _entry_id(last)
        found = [[entry_name(id_), fields] for id_, fields in self.find(key, Stream) or () if low <= id_ <= high]
        return found[: int(options[1])] if options else found

    def xrevrange(self, key: bytes, last: bytes, first: bytes, *options: bytes) -> Reply:
        """Entries by id, from the end, with COUNT."""
        found = self.xrange(key, first, last)[::-1]
        return found[: int(options[1])] if options else found

    def xdel(self, key: bytes, *ids: bytes) -> Reply:
        """Remove entries."""
        stream: Stream | None = self.find(key, Stream)
        wanted = {_entry_id(id_) for id_ in ids}
        before = len(stream or ())
        if stream:
            stream[:] = [entry for entry in stream if entry[0] not in wanted]
        return before - len(stream or ())

    def entries_after(self, key: bytes, after: bytes, count: int) -> list[Any]:
        """What XREAD gives of one stream."""
        stream: Stream | None = self.find(key, Stream)
        since = _entry_id(after)
        return [[entry_name(id_), fields] for id_, fields in stream or () if id_ > since][:count]


_METHODS = {"type": "kind", "set": "put", "eval": "run_text", "del": "unlink", "hmset": "hset"}
"""Commands whose names Python has taken, and synonyms."""
_NOT_COMMANDS = frozenset(
    {"run", "find", "make", "tidy", "drop", "alive", "restart", "entries_after", "copy", "become"}
)
"""Methods that are no commands."""


def _members(found: Sequence[tuple[bytes, float]], options: Sequence[bytes]) -> Reply:
    words = [option.upper() for option in options]
    if words == [b"WITHSCORES"]:
        return [part for member, score in found for part in (member, number(score))]
    if words:
        raise ResponseError(f"{words!r} are not modelled")
    return [member for member, _ in found]
