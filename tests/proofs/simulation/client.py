"""What redis-py's client looks like to the store, with a ``Memory`` behind it.

Every round trip goes through a *line*: given the commands, it has them run at the server at some time and gives back
the replies, or raises what a connection raises. ``Direct`` does it at once; the simulation's line is where the world
interferes. The shapes of the replies are redis-py 5.3's, held against it by ``test_lockstep``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Self

    from tests.proofs.simulation.memory import Memory

Words = list[bytes]


class Line(Protocol):
    """The way to the server and back."""

    appendfsync: str

    async def send(self, commands: Sequence[Words], *, atomic: bool) -> list[Any]:
        """Replies in order; a command that failed has its exception in place. Raises what a connection raises."""
        ...

    async def block(self, key: bytes, after: bytes, count: int, block_ms: int) -> list[Any]:
        """The entries of one stream after ``after``, waiting for some."""
        ...

    async def listen(self, channel: bytes) -> Ear:
        """Subscribe to a channel."""
        ...


class Ear(Protocol):
    """One subscription."""

    async def wait(self, timeout_s: float) -> bool:
        """Whether a message came in that time. Raises what a connection raises."""
        ...


class Deaf:
    """A subscription on which nothing is ever heard."""

    async def wait(self, timeout_s: float) -> bool:  # noqa: ARG002 - the port's
        """Nothing."""
        return False


class Direct:
    """The server as if it were here: nothing is awaited."""

    appendfsync = "always"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def send(self, commands: Sequence[Words], *, atomic: bool) -> list[Any]:  # noqa: ARG002 - the port's
        """Run them."""
        return [attempt(self._memory, words) for words in commands]

    async def block(self, key: bytes, after: bytes, count: int, block_ms: int) -> list[Any]:  # noqa: ARG002 - the port's
        """What is there."""
        return self._memory.entries_after(key, after, count)

    async def listen(self, channel: bytes) -> Ear:  # noqa: ARG002 - the port's
        """Nobody publishes while nobody waits."""
        return Deaf()


def attempt(memory: Memory, words: Words) -> Any:
    """A command's reply, or its error as a value."""
    try:
        return memory.run(words)
    except ResponseError as error:
        return error


def encoded(value: object) -> bytes:
    """An argument as redis-py encodes it."""
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    if isinstance(value, float):
        return repr(value).encode()
    return str(value).encode()


def _pairs(flat: list[bytes]) -> list[tuple[bytes, float]]:
    return [(member, float(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)]


def _entries(found: list[Any] | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(id_, dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in found or ()]


def _as_is(reply: Any) -> Any:
    return reply


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "hgetall": lambda flat: dict(zip(flat[::2], flat[1::2], strict=True)),
    "smembers": set,
    "set": lambda reply: None if reply is None else True,
    "ping": lambda _: True,
    "expire": bool,
    "persist": bool,
    "ltrim": lambda _: True,
    "zscore": lambda reply: None if reply is None else float(reply),
    "time": lambda reply: (int(reply[0]), int(reply[1])),
    "xrange": _entries,
    "xrevrange": _entries,
}


_WORDS: dict[str, bytes] = {}


class Command:
    """One command on its way: its words, and how its reply is shaped."""

    __slots__ = ("shape", "words")

    def __init__(self, name: str, arguments: Sequence[object], shape: Callable[[Any], Any] | None = None) -> None:
        word = _WORDS.get(name) or _WORDS.setdefault(name, name.upper().encode())
        self.words: Words = [word, *map(encoded, arguments)]
        self.shape = shape or _SHAPES.get(name, _as_is)


def command(name: str, *args: Any, **options: Any) -> Command:
    """The command that redis-py makes of a method call. Raises AssertionError for options that nobody uses."""
    if name in _BUILDERS:
        return _BUILDERS[name](*args, **options)
    if name in {"mget", "hmget"}:
        lead, keys = args[:-1], args[-1]
        return Command(name, args if isinstance(keys, str | bytes) else [*lead, *keys])
    assert not options, f"{name} with {options} is not modelled"
    return Command(name, args)


def _set(key: str, value: bytes, *, nx: bool = False, ex: int | None = None, px: int | None = None) -> Command:
    words: list[object] = [key, value]
    words += ["EX", ex] if ex is not None else []
    words += ["PX", px] if px is not None else []
    return Command("set", [*words, "NX"] if nx else words)


def _hset(key: str, field: Any = None, value: Any = None, *, mapping: Mapping[Any, Any] | None = None) -> Command:
    pairs = [] if field is None else [field, value]
    return Command("hset", [key, *pairs, *(part for item in (mapping or {}).items() for part in item)])


def _zadd(key: str, members: Mapping[Any, float], *, lt: bool = False, nx: bool = False) -> Command:
    flags = ["LT"] * lt + ["NX"] * nx
    return Command("zadd", [key, *flags, *(part for member, score in members.items() for part in (score, member))])


def _zrange(key: str, start: int, end: int, *, desc: bool = False, withscores: bool = False) -> Command:
    flags = ["WITHSCORES"] * withscores
    return Command("zrevrange" if desc else "zrange", [key, start, end, *flags], _pairs if withscores else None)


def _zrangebyscore(
    key: str, low: object, high: object, start: int | None = None, num: int | None = None, *, withscores: bool = False
) -> Command:
    limit = [] if start is None else ["LIMIT", start, num]
    flags = ["WITHSCORES"] * withscores
    return Command("zrangebyscore", [key, low, high, *flags, *limit], _pairs if withscores else None)


def _xadd(
    key: str,
    fields: Mapping[Any, Any],
    *,
    maxlen: int | None = None,
    approximate: bool = True,
    nomkstream: bool = False,
) -> Command:
    words: list[object] = [key, *["NOMKSTREAM"] * nomkstream]
    words += ["MAXLEN", *["~"] * approximate, maxlen] if maxlen is not None else []
    return Command("xadd", [*words, "*", *(part for item in fields.items() for part in item)])


def _xrange(key: str, low: str = "-", high: str = "+", count: int | None = None) -> Command:
    return Command("xrange", [key, low, high, *(["COUNT", count] if count is not None else [])])


def _xrevrange(key: str, high: str = "+", low: str = "-", count: int | None = None) -> Command:
    return Command("xrevrange", [key, high, low, *(["COUNT", count] if count is not None else [])])


_BUILDERS: dict[str, Callable[..., Command]] = {
    "set": _set,
    "hset": _hset,
    "zadd": _zadd,
    "zrange": _zrange,
    "zrangebyscore": _zrangebyscore,
    "xadd": _xadd,
    "xrange": _xrange,
    "xrevrange": _xrevrange,
    "delete": lambda *keys: Command("del", keys),
    "execute_command": lambda *words: Command(words[0].lower(), words[1:]),
}


class Pipeline:
    """Commands in one round trip; without ``transaction`` others' may come between them."""

    def __init__(self, line: Line, *, transaction: bool) -> None:
        self._line = line
        self._transaction = transaction
        self._commands: list[Command] = []

    def __getattr__(self, name: str) -> Callable[..., Pipeline]:
        def add(*args: Any, **options: Any) -> Pipeline:
            self._commands.append(command(name, *args, **options))
            return self

        return add

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them."""
        commands, self._commands = self._commands, []
        if not commands:
            return []
        replies = await self._line.send([each.words for each in commands], atomic=self._transaction)
        shaped: list[Any] = []
        for each, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                if raise_on_error:
                    raise reply
                shaped.append(reply)
            else:
                shaped.append(each.shape(reply))
        return shaped


class PubSub:
    """A connection that subscribes to one channel."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._ear: Ear = Deaf()
        self._confirmed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """It is closed."""

    async def subscribe(self, channel: str) -> None:
        """Listen."""
        self._ear = await self._line.listen(encoded(channel))
        self._confirmed = False

    async def get_message(self, *, ignore_subscribe_messages: bool = False, timeout: float = 0.0) -> object:
        """The next message: the confirmation first, unless it is ignored."""
        if not self._confirmed and not ignore_subscribe_messages:
            self._confirmed = True
            return {"type": "subscribe"}
        return {"type": "message"} if await self._ear.wait(timeout) else None


class Client:
    """One client."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.connection_pool = self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            each = command(name, *args, **options)
            reply = (await self._line.send([each.words], atomic=True))[0]
            if isinstance(reply, Exception):
                raise reply
            return each.shape(reply)

        return call

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Commands in one round trip."""
        return Pipeline(self._line, transaction=transaction)

    def pubsub(self) -> PubSub:
        """A connection for a subscription."""
        return PubSub(self._line)

    async def xread(self, streams: Mapping[str, str], count: int = 1000, block: int | None = None) -> list[Any]:
        """Entries of one stream."""
        ((key, after),) = streams.items()
        found = await self._line.block(encoded(key), encoded(after), count, block or 0)
        return [[encoded(key), _entries(found)]] if found else []

    async def scan_iter(self, match: str, count: int = 1000) -> AsyncGenerator[bytes]:  # noqa: ARG002 - redis-py's
        """All keys that match."""
        for key in await self.execute_command("KEYS", match):
            yield key

    async def config_get(self, *_names: str) -> dict[str, str]:
        """What a well-kept server says."""
        fsync = self._line.appendfsync
        log = {"appendonly": "yes", "appendfsync": fsync, "no-appendfsync-on-rewrite": "no"}
        return log | {"maxmemory-policy": "noeviction", "maxmemory": "0"}

    async def info(self, section: str) -> dict[str, Any]:
        """What the server says of itself."""
        text: bytes = await self.execute_command("INFO", section)
        return dict(line.split(":", 1) for line in text.decode().split("\r\n") if line)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def disconnect(self) -> None:
        """Nothing is open."""
