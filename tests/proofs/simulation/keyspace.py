"""Keys over a dict: what every value has in common, and strings, hashes, lists and sets.

One method per command of Redis, named as the command is, with its arguments as bytes and its reply as the protocol has
it (int, bytes, None, list). Only what gemqueue uses is here, with the options that it uses; anything else is refused
loudly. What these commands mean is not claimed by this file: ``test_lockstep`` holds it against a real server.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

Reply = Any
"""int, bytes, None, or a list of replies."""


class ZSet(dict[bytes, float]):
    """Members and scores; the order is made when it is asked for."""

    def ordered(self) -> list[tuple[bytes, float]]:
        """By score, then by member."""
        return sorted(self.items(), key=lambda item: (item[1], item[0]))


class Stream(list[tuple[tuple[int, int], list[bytes]]]):
    """Entries in order; ``last`` is the greatest id ever given."""

    last: tuple[int, int] = (0, 0)


_KINDS: dict[type, bytes] = {bytes: b"string", dict: b"hash", list: b"list", set: b"set", ZSet: b"zset"}
_KINDS[Stream] = b"stream"

_NONE: dict[bytes, bytes] = {}
_NO_ITEMS: list[bytes] = []


class Keyspace:
    """Values by key, each of which may expire; ``now_ms`` is the server's clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.data: dict[bytes, Any] = {}
        self.expires: dict[bytes, int] = {}
        self.now_ms = now_ms

    def find(self, key: bytes, kind: type) -> Any:
        """The value, or None. Raises ResponseError when it is of another kind."""
        if key in self.expires and self.expires[key] <= self.now_ms():
            self.drop(key)
        value = self.data.get(key)
        if value is not None and type(value) is not kind:
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def make(self, key: bytes, kind: type) -> Any:
        """The value, made when it is not there."""
        value = self.find(key, kind)
        if value is None:
            value = self.data[key] = kind()
        return value

    def tidy(self, key: bytes) -> None:
        """A collection without members is no key."""
        if not self.data[key]:
            self.drop(key)

    def drop(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        self.expires.pop(key, None)
        return self.data.pop(key, None) is not None

    def alive(self, key: bytes) -> bool:
        """Whether the key is there and has not expired."""
        if key in self.expires and self.expires[key] <= self.now_ms():
            self.drop(key)
        return key in self.data

    def copy(self) -> tuple[dict[bytes, Any], dict[bytes, int]]:
        """Everything that is there now; values of values are never changed."""
        values = {key: value if type(value) is bytes else _copied(value) for key, value in self.data.items()}
        return values, dict(self.expires)

    def become(self, copied: tuple[dict[bytes, Any], dict[bytes, int]]) -> None:
        """Hold what was there at the time of the copy, and nothing that came after."""
        values, expires = copied
        self.data = {key: value if type(value) is bytes else _copied(value) for key, value in values.items()}
        self.expires = dict(expires)

    # --- keys ---

    def exists(self, *keys: bytes) -> Reply:
        """How many are there."""
        return sum(map(self.alive, keys))

    def unlink(self, *keys: bytes) -> Reply:
        """Remove them."""
        return sum([self.drop(key) for key in keys if self.alive(key)])

    def kind(self, key: bytes) -> Reply:
        """The name of its kind."""
        return _KINDS[type(self.data[key])] if self.alive(key) else b"none"

    def keys(self, pattern: bytes) -> Reply:
        """All keys that match; only ``*`` is special."""
        plain = pattern.replace(b"\\", b"").replace(b"[", b"[[]")
        return [key for key in list(self.data) if fnmatch.fnmatchcase(key, plain) and self.alive(key)]

    def expire(self, key: bytes, seconds: bytes) -> Reply:
        """Let it live for so long."""
        return self.pexpire(key, b"%d" % (int(seconds) * 1000))

    def pexpire(self, key: bytes, ms: bytes) -> Reply:
        """As ``expire``, in milliseconds."""
        if not self.alive(key):
            return 0
        self.expires[key] = self.now_ms() + int(ms)
        self.alive(key)
        return 1

    def persist(self, key: bytes) -> Reply:
        """Let it live for ever."""
        return int(self.alive(key) and self.expires.pop(key, None) is not None)

    def ttl(self, key: bytes) -> Reply:
        """Seconds that are left; -1 for ever, -2 not there."""
        left_ms = self.pttl(key)
        return left_ms if left_ms < 0 else (left_ms + 500) // 1000

    def pttl(self, key: bytes) -> Reply:
        """As ``ttl``, in milliseconds."""
        if not self.alive(key):
            return -2
        return self.expires[key] - self.now_ms() if key in self.expires else -1

    # --- strings ---

    def get(self, key: bytes) -> Reply:
        """The value."""
        return self.find(key, bytes)

    def getdel(self, key: bytes) -> Reply:
        """The value, which goes."""
        value = self.find(key, bytes)
        self.drop(key)
        return value

    def getbit(self, key: bytes, index: bytes) -> Reply:
        """One bit; 0 beyond the end."""
        at, value = int(index), self.find(key, bytes) or b""
        return value[at >> 3] >> (7 - at % 8) & 1 if at >> 3 < len(value) else 0

    def mget(self, *keys: bytes) -> Reply:
        """The values."""
        return [self.find(key, bytes) for key in keys]

    def strlen(self, key: bytes) -> Reply:
        """Its length."""
        return len(self.find(key, bytes) or b"")

    def getrange(self, key: bytes, start: bytes, end: bytes) -> Reply:
        """Its bytes from one place to another, which belongs to them."""
        return (self.find(key, bytes) or b"")[int(start) : int(end) + 1]

    def put(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        """Write it, with NX, EX, PX and KEEPTTL."""
        words = [word.upper() for word in options]
        if not {word for word in words if not word.isdigit()} <= {b"NX", b"EX", b"PX", b"KEEPTTL"}:
            raise ResponseError(f"SET {options!r} is not modelled")
        if b"NX" in words and self.alive(key):
            return None
        expires = self.expires.get(key) if b"KEEPTTL" in words and self.alive(key) else None
        self.drop(key)
        self.data[key] = value
        if expires is not None:
            self.expires[key] = expires
        if b"EX" in words:
            self.expire(key, options[words.index(b"EX") + 1])
        if b"PX" in words:
            self.pexpire(key, options[words.index(b"PX") + 1])
        return b"OK"

    def incrby(self, key: bytes, n: bytes) -> Reply:
        """Count."""
        value = int(self.find(key, bytes) or 0) + int(n)
        self.data[key] = b"%d" % value
        return value

    def incr(self, key: bytes) -> Reply:
        """Count one."""
        return self.incrby(key, b"1")

    # --- hashes ---

    def hset(self, key: bytes, *pairs: bytes) -> Reply:
        """Set fields; how many are new."""
        if not pairs or len(pairs) % 2:
            raise ResponseError("wrong number of arguments for 'hset' command")
        fields = self.make(key, dict)
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    hmset = hset

    def hsetnx(self, key: bytes, field: bytes, value: bytes) -> Reply:
        """Set a field that is not there."""
        fields = self.make(key, dict)
        if field in fields:
            return 0
        fields[field] = value
        return 1

    def hget(self, key: bytes, field: bytes) -> Reply:
        """A field."""
        fields = self.find(key, dict)
        return fields.get(field) if fields else None

    def hmget(self, key: bytes, *names: bytes) -> Reply:
        """Fields."""
        fields = self.find(key, dict) or _NONE
        return [fields.get(name) for name in names]

    def hgetall(self, key: bytes) -> Reply:
        """Fields and values, flat."""
        return [part for item in (self.find(key, dict) or _NONE).items() for part in item]

    def hexists(self, key: bytes, field: bytes) -> Reply:
        """Whether the field is there."""
        return int(field in (self.find(key, dict) or _NONE))

    def hlen(self, key: bytes) -> Reply:
        """How many fields."""
        return len(self.find(key, dict) or _NONE)

    def hkeys(self, key: bytes) -> Reply:
        """The fields."""
        return list(self.find(key, dict) or _NONE)

    def hvals(self, key: bytes) -> Reply:
        """The values."""
        return list((self.find(key, dict) or _NONE).values())

    def hdel(self, key: bytes, *names: bytes) -> Reply:
        """Remove fields."""
        fields = self.find(key, dict)
        if fields is None:
            return 0
        gone = sum([fields.pop(name, None) is not None for name in names])
        self.tidy(key)
        return gone

    def hincrby(self, key: bytes, field: bytes, n: bytes) -> Reply:
        """Count in a field."""
        fields = self.make(key, dict)
        value = int(fields.get(field, 0)) + int(n)
        fields[field] = b"%d" % value
        return value

    def hincrbyfloat(self, key: bytes, field: bytes, n: bytes) -> Reply:
        """Count in a field, with a fraction."""
        fields = self.make(key, dict)
        value = float(fields.get(field, 0)) + float(n)
        fields[field] = b"%.17g" % value
        return fields[field]

    # --- lists ---

    def rpush(self, key: bytes, *values: bytes) -> Reply:
        """Append."""
        items = self.make(key, list)
        items.extend(values)
        return len(items)

    def lpush(self, key: bytes, *values: bytes) -> Reply:
        """Prepend, one by one."""
        items = self.make(key, list)
        for value in values:
            items.insert(0, value)
        return len(items)

    def llen(self, key: bytes) -> Reply:
        """Its length."""
        return len(self.find(key, list) or ())

    def lindex(self, key: bytes, index: bytes) -> Reply:
        """One of them."""
        items: list[bytes] = self.find(key, list) or _NO_ITEMS
        at = int(index)
        return items[at] if -len(items) <= at < len(items) else None

    def lset(self, key: bytes, index: bytes, value: bytes) -> Reply:
        """Change one of them."""
        items: list[bytes] | None = self.find(key, list)
        if items is None:
            raise ResponseError("ERR no such key")
        items[int(index)] = value
        return b"OK"

    def lrange(self, key: bytes, first: bytes, last: bytes) -> Reply:
        """From ``first`` to ``last``, both included."""
        items = self.find(key, list) or _NO_ITEMS
        return items[span(len(items), first, last)]

    def ltrim(self, key: bytes, first: bytes, last: bytes) -> Reply:
        """Keep those from ``first`` to ``last``."""
        items = self.find(key, list)
        if items is not None:
            items[:] = items[span(len(items), first, last)]
            self.tidy(key)
        return b"OK"

    # --- sets ---

    def sadd(self, key: bytes, *members: bytes) -> Reply:
        """Add; how many are new."""
        found = self.make(key, set)
        before = len(found)
        found.update(members)
        return len(found) - before

    def srem(self, key: bytes, *members: bytes) -> Reply:
        """Remove."""
        found = self.find(key, set)
        if found is None:
            return 0
        before = len(found)
        found.difference_update(members)
        gone = before - len(found)
        self.tidy(key)
        return gone

    def smembers(self, key: bytes) -> Reply:
        """All, in order, so that a run can be repeated."""
        return sorted(self.find(key, set) or ())

    def srandmember(self, key: bytes, count: bytes) -> Reply:
        """Some, each once; always the first, so that a run can be repeated."""
        return self.smembers(key)[: int(count)]

    def sismember(self, key: bytes, member: bytes) -> Reply:
        """Whether it is one."""
        return int(member in (self.find(key, set) or ()))

    def scard(self, key: bytes) -> Reply:
        """How many."""
        return len(self.find(key, set) or ())


def _copied(value: Any) -> Any:
    found = type(value)(value)
    if isinstance(value, Stream):
        found.last = value.last
    return found


def span(length: int, first: bytes, last: bytes) -> slice:
    """The slice from ``first`` to ``last``, both included, negative ones counted from the end."""
    start, stop = int(first), int(last)
    start = max(0, start + length) if start < 0 else start
    stop = stop + length if stop < 0 else stop
    return slice(start, max(start, stop + 1))
