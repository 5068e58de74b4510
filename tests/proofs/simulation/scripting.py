"""gemqueue's Lua files in a Lua 5.1 interpreter of this process, with what the server gives to scripts.

The interpreter is shared: scripts keep nothing between calls, and compiling them again for every run would cost more
than running them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

import lupa.lua51  # type: ignore[import-untyped]  # it has no types
import msgspec
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SETUP = b"""
local call, pack, unpack_ = ...
redis = {call = call}
function redis.pcall(...)
  local ok, reply = pcall(call, ...)
  if ok then return reply end
  return {err = tostring(reply)}
end
cmsgpack = {pack = pack, unpack = unpack_}
bit = {}
function bit.band(a, b)
  local r, p = 0, 1
  while a > 0 and b > 0 do
    local x, y = a % 2, b % 2
    if x == 1 and y == 1 then r = r + p end
    a, b, p = (a - x) / 2, (b - y) / 2, p * 2
  end
  return r
end
function bit.bor(a, b) return a + b - bit.band(a, b) end
function bit.lshift(a, n) return (a * 2 ^ n) % 4294967296 end
function bit.rshift(a, n) return math.floor(a / 2 ^ n) end
return function(script, keys, args)
  KEYS, ARGV = keys, args
  return script()
end
"""

_LIST: Any = list  # a plain `list` would tell the type checkers more than they can use
_DICT: Any = dict


class Interpreter:
    """Scripts by their hash."""

    _shared: Interpreter | None = None

    def __init__(self) -> None:
        self._lua: Any = cast("Any", lupa.lua51).LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._table: Any = self._lua.table_from
        self._compile: Any = self._lua.eval(b"loadstring")
        self._items: Any = self._lua.eval(b"unpack")
        self._command: Callable[[Sequence[bytes]], Any] = _nothing
        self._scripts: dict[bytes, Any] = {}
        self._enter: Any = self._compile(_SETUP)(self._call, self._pack, self._unpack)

    @classmethod
    def shared(cls) -> Interpreter:
        """The interpreter of this process."""
        if cls._shared is None:
            cls._shared = Interpreter()
        return cls._shared

    def learn(self, text: bytes) -> bytes:
        """Compile a script; its hash."""
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        if sha not in self._scripts:
            compiled = self._compile(text)
            if isinstance(compiled, tuple):
                raise ResponseError(f"ERR Error compiling script: {compiled[1]!r}")
            self._scripts[sha] = compiled
        return sha

    def run(
        self, sha: bytes, keys: Sequence[bytes], args: Sequence[bytes], command: Callable[[Sequence[bytes]], Any]
    ) -> Any:
        """Run a known script; ``command`` does what it asks of the server."""
        self._command = command
        try:
            return self._reply(self._enter(self._scripts[sha], self._table(keys), self._table(args)))
        finally:
            self._command = _nothing

    def _call(self, *words: Any) -> Any:
        reply = self._command([word if type(word) is bytes else _word(word) for word in words])
        if type(reply) is _LIST:
            return self._nested(reply)
        return False if reply is None else reply

    def _nested(self, items: list[Any]) -> Any:
        return self._table(
            [False if item is None else self._nested(item) if type(item) is _LIST else item for item in items]
        )

    def _reply(self, value: Any) -> Any:
        """A Lua value as the server answers with it."""
        if type(value) is bytes or value is None:
            return value
        if isinstance(value, bool):
            return 1 if value else None
        if isinstance(value, int | float):
            return int(value)
        n = len(value)
        if n > 1:
            return [item if type(item) is bytes else self._reply(item) for item in self._items(value, 1, n)]
        return [self._reply(value[1])] if n else []

    def _pack(self, table: Any) -> bytes:
        return msgspec.msgpack.encode(_plain(table))

    def _unpack(self, data: bytes) -> Any:
        return self._to_lua(msgspec.msgpack.decode(data))

    def _to_lua(self, value: Any) -> Any:
        if type(value) is _DICT:
            return self._table({self._to_lua(name): self._to_lua(item) for name, item in value.items()})
        if type(value) is _LIST:
            return self._table([self._to_lua(item) for item in value])
        return value.encode() if isinstance(value, str) else value


def _nothing(_words: Sequence[bytes]) -> Any:
    raise AssertionError("no script is running")


def _word(value: Any) -> bytes:
    """An argument as the server makes it of a Lua value."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return b"%d" % value
    if isinstance(value, float):
        return b"%.17g" % value
    raise ResponseError("Lua redis lib command arguments must be strings or integers")


def _plain(value: Any) -> Any:
    """A Lua value as msgpack has it: strings of the scripts are text."""
    if isinstance(value, bytes):
        return value.decode()
    if value is None or isinstance(value, bool | int | float):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if len(value) or not list(value):
        return [_plain(value[i]) for i in range(1, len(value) + 1)]
    return {_plain(name): _plain(item) for name, item in value.items()}
