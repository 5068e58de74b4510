"""Dead letters: prompts that ended for good through no fault of their own, kept with their bodies.

Their outcome has been delivered, and stays what it was: a failure. ``replay`` submits such a prompt again, as a new
prompt under a new key, in the very script that takes it from the dead, so that it is bought again once, however often
and by how many it is asked for.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gemqueue.effects import Effect, effect
from gemqueue.errors import ConfigError, QueueFull
from gemqueue.ids import new_segment_id, split_key
from gemqueue.language.lines import line, token_estimate
from gemqueue.policy.packing import full_limits
from gemqueue.records import Lane
from gemqueue.sealing.box import is_sealed_text
from gemqueue.store import calls, codec
from gemqueue.store.batches import BatchStore
from gemqueue.store.producer import RETRY_WINDOW_S
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

_AT_ONCE = 200


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead prompt; ``run`` is the run it belongs to, if any, and ``body`` its line as it was sent."""

    id: str
    key: str
    lane: str
    kind: str
    message: str
    body: str
    tenant: str = "default"
    priority: int = 0
    run: str = ""
    size: int = 0


class _Line(msgspec.Struct):
    request: msgspec.Raw


class DeadStore(BatchStore):
    """Dead letters: looking, replaying, forgetting."""

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Every dead letter that can be read, oldest first."""
        after = "-"
        while True:
            with translated(self.url):
                found: list[Any] = await self.redis.xrange(self.key("dead"), after, "+", count=_AT_ONCE)
            for id_, fields in found:
                entry = (id_, await self._opened(fields))
                letter = self.unreadable.read(f"dead letter {id_.decode()}", _letter, entry)
                if letter is not None:
                    yield letter
            if len(found) < _AT_ONCE:
                return
            after = f"({found[-1][0].decode()}"

    async def _opened(self, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The fields as they were buried; what will never open stays sealed, and cannot be read."""
        key = fields.get(b"key", b"").decode(errors="replace")
        opened = dict(fields)
        for field, kind in ((b"message", "message"), (b"body", "dead")):
            text = fields.get(field, b"").decode(errors="replace")
            if is_sealed_text(text):
                with suppress(ValueError):
                    opened[field] = (await self.seals.open_text(kind, key, text)).encode()
        return opened

    async def purge_dead_of(self, tenant: str) -> int:
        """Forget a tenant's, unread; how many there were."""
        with translated(self.url):
            found: list[Any] = await self.redis.xrange(self.key("dead"))
        whose = tenant.encode()
        return await self.purge_dead([id_.decode() for id_, fields in found if fields.get(b"tenant") == whose])

    async def purge_dead(self, ids: Sequence[str]) -> int:
        """Forget these; how many there were."""
        gone = 0
        for start in range(0, len(ids), _AT_ONCE):
            gone += int((await self.scripts.run(calls.PurgeDead([*ids[start : start + _AT_ONCE]])))[1])
        return gone

    async def replay(self, letters: Sequence[DeadLetter]) -> list[str]:
        """Submit dead letters of one lane, tenant and priority again, at most 1,000; their new keys, in order.

        Raises ConfigError when one of them is not there any more, QueueFull; then nothing was done.
        """
        id_ = new_segment_id()
        keys = [f"{id_}.{number}" for number in range(len(letters))]
        requests = [bytes(msgspec.json.decode(letter.body, type=_Line).request) for letter in letters]
        lines = b"".join(map(line, keys, requests))
        fields: dict[str, Any] = {
            "id": id_,
            "lane": letters[0].lane,
            "tenant": letters[0].tenant,
            "priority": letters[0].priority,
            "count": len(letters),
            "raw_bytes": len(lines),
            "tokens": sum(map(token_estimate, requests)),
            "full": full_limits(self.settings),
            "memory_bytes_max": self.settings.memory_bytes_max,
            "names": await self._names_of(dict(zip([letter.key for letter in letters], keys, strict=True))),
        }
        body = await self.seals.shut("segment", id_, letters[0].tenant, await codec.compress_async(lines))
        with translated(self.url):
            await self.redis.set(self.key("segment", id_), body, ex=RETRY_WINDOW_S)
        call = calls.Replay(msgspec.msgpack.encode(fields), [letter.id for letter in letters])
        with effect(Effect.PRODUCE_REPLAY):
            reply = await self.scripts.run(call)
        if reply[0] == b"full":
            raise QueueFull("the queue holds memory_bytes_max: replay fewer, or later")
        if reply[0] != b"ok":
            raise ConfigError(f"replay: {reply[0].decode()}: the dead letters have changed meanwhile; look again")
        return keys

    async def _names_of(self, new_keys: dict[str, str]) -> list[tuple[str, str, str]]:
        """For each named prompt: its name's key, what stands there, and what will."""
        found: list[tuple[str, str, str]] = []
        with translated(self.url):
            for origin in sorted({split_key(key)[0] for key in new_keys}):
                packed: bytes | None = await self.redis.get(self.key("names", origin))
                read = self.unreadable.read(f"names of segment {origin}", _names, packed) if packed else None
                names = read or []
                values: list[bytes | None] = await self.redis.mget(names) if names else []
                for name, value in zip(names, values, strict=True):
                    old, _, digest = (value or b"").decode(errors="replace").partition(" ")
                    if old in new_keys:
                        found.append((name, f"{old} {digest}", f"{new_keys[old]} {digest}"))
        return found


def _letter(entry: tuple[bytes, dict[bytes, bytes]]) -> DeadLetter:
    """Raises ValueError also for one of which there is no request, so that it cannot be replayed."""
    id_, fields = entry
    values = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    letter = msgspec.convert(values | {"id": id_.decode()}, DeadLetter, strict=False)
    Lane.parse(letter.lane)
    _key_of(letter)
    msgspec.json.decode(letter.body, type=_Line)
    return letter


def _key_of(letter: DeadLetter) -> None:
    try:
        split_key(letter.key)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _names(packed: bytes) -> list[str]:
    return msgspec.msgpack.decode(packed, type=list[str])
