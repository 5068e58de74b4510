"""Purging in the store: what is left of prompts, and taking it away. Everything here may be repeated."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from gemqueue.sealing.box import generation_in, is_sealed, tenant_of
from gemqueue.store import calls, codec
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection

    from gemqueue.records import SegmentMeta

_READ_AT_ONCE: Final = 500
_HEAD_BYTES: Final = 100
_BODY: Final = -1
_TRIES: Final = 8
_ROW_KEY: Final = re.compile(rb'"key"\s*:\s*"([^"\\]*)')


class Owned(NamedTuple):
    """A tenant's segment: how many prompts, whether some are open, and which key its body is sealed with.

    ``generation`` is 0 where the body is not sealed, or is gone.
    """

    id: str
    prompts: int
    live: bool
    generation: int


class _Keyed(msgspec.Struct):
    key: str


_decode_keyed: Final = msgspec.json.Decoder(_Keyed).decode


class PurgeStore(StoreBase):
    """What is left of prompts, and taking it away."""

    async def retry_segments(self) -> list[str]:
        """The ids of all retry segments that are known; their ids begin with the batch that their lines come from."""
        pattern = self.key("segmeta", "??b*r*-*")
        with translated(self.url):
            found = [key async for key in self.redis.scan_iter(match=pattern, count=1000)]
        return [key.decode(errors="replace").rpartition(":")[2] for key in found]

    async def segments_of_tenant(self, tenant: str) -> AsyncGenerator[Owned, None]:
        """Every segment that a producer wrote for the tenant, as it is when it is found."""
        pattern = self.key("segmeta", "*")
        with translated(self.url):
            async for key in self.redis.scan_iter(match=pattern, count=1000):
                id_ = key.decode().rpartition(":")[2]
                whose, state, count, keys = await self.redis.hmget(key, "tenant", "state", "count", "keys")
                if keys is None and count is not None and (whose or b"default") == tenant.encode():
                    head: bytes = await self.redis.getrange(self.key("segment", id_), 0, _HEAD_BYTES)
                    yield Owned(id_, int(count), state == b"live", generation_in(head))

    async def blank_plain_outcomes(self, segment: str, line_of: Callable[[str], bytes]) -> int:
        """Put ``line_of(key)`` in the place of each outcome that is not sealed; how many."""
        with translated(self.url):
            blobs: list[bytes] = await self.redis.lrange(self.key("outcomes", segment), 0, -1)
        blanked = 0
        for at, blob in enumerate(blobs):
            old = b"" if is_sealed(blob) else codec.expand(blob)
            keys = [key for line in old.split(b"\n") if (key := _key_of(line)) is not None]
            new = b"\n".join(map(line_of, keys))
            if new != old:
                value = codec.compress(new)
                digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
                await self.scripts.run(calls.PurgeLine(segment, at, digest=digest, value=value))
                blanked += len(keys)
        return blanked

    async def drop_quarantine(self) -> None:
        """Forget the rows that belong to nobody."""
        with translated(self.url):
            await self.redis.unlink(self.key("quarantine"))

    async def purge_outcome_line(self, segment: str, key: str, line: bytes) -> bool:
        """Put ``line`` in the place of the outcome of ``key``; False when there is none, or it is that already."""
        with translated(self.url):
            blobs: int = await self.redis.llen(self.key("outcomes", segment))
        return any([await self._purge_line(segment, at, key, line) for at in range(blobs)])

    async def purge_body_line(self, segment: SegmentMeta, key: str, line: bytes) -> bool:
        """Put ``line`` in the place of the request of ``key`` in a segment's body; False when it is not there."""
        return await self._purge_line(segment.id, _BODY, key, line, segment.raw_bytes)

    async def _purge_line(self, segment: str, at: int, key: str, line: bytes, bytes_max: int | None = None) -> bool:
        for _ in range(_TRIES):
            with translated(self.url):
                old: bytes | None = await (
                    self.redis.get(self.key("segment", segment))
                    if at == _BODY
                    else self.redis.lindex(self.key("outcomes", segment), at)
                )
            kind = "segment" if at == _BODY else "outcomes"
            expand = partial(codec.expand, bytes_max=bytes_max)
            frame = (await self.seals.open_all(kind, [(segment, old)]))[0]
            text = None if frame is None else self.unreadable.read(f"value {at} of segment {segment}", expand, frame)
            new = None if text is None else _without(text, key, line)
            if old is None or new is None:
                return False
            digest, value = hashlib.sha1(old, usedforsecurity=False).hexdigest(), codec.compress(new)
            if tenant := tenant_of(old):
                value = await self.seals.shut(kind, segment, tenant, value)
            call = calls.PurgeLine(segment, at, digest=digest, value=value)
            if (await self.scripts.run(call))[0] == b"ok":
                return True
        return False  # others purge the same value again and again

    async def forget_name(self, account: str, segment: str, key: str) -> None:
        """Free the name that the prompt has, if it has one."""
        await self.scripts.run(calls.ForgetName(account, segment, key))

    async def purge_streams(self, ours: Callable[[str], bool], batches: Collection[str]) -> None:
        """Take rows of these keys out of the dead letters and, where they came of these batches, out of quarantine."""
        await self._purge_stream("dead", lambda fields: ours(_text(fields, b"key")))
        await self._purge_stream(
            "quarantine",
            lambda fields: _text(fields, b"batch") in batches and ours(_key_in(fields.get(b"row", b""))),
        )

    async def _purge_stream(self, name: str, ours: Callable[[dict[bytes, bytes]], bool]) -> None:
        stream, after = self.key(name), "-"
        while True:
            with translated(self.url):
                entries: list[tuple[bytes, dict[bytes, bytes]]] = await self.redis.xrange(
                    stream, after, "+", count=_READ_AT_ONCE
                )
            gone = [id_ for id_, fields in entries if ours(await self._row_opened(fields))]
            if gone and name == "dead":  # what they weigh is counted
                await self.scripts.run(calls.PurgeDead([id_.decode() for id_ in gone]))
            elif gone:
                with translated(self.url):
                    await self.redis.xdel(stream, *gone)
            if len(entries) < _READ_AT_ONCE:
                return
            after = f"({entries[-1][0].decode()}"

    async def _row_opened(self, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
        row = fields.get(b"row", b"")
        if not is_sealed(row):
            return fields
        opened = (await self.seals.open_all("row", [(fields.get(b"batch", b"").decode(), row)]))[0]
        return fields | {b"row": opened or b""}

    async def scrub_batch(self, batch: str) -> None:
        """A closed batch's record forgets the provider's last words, which may hold answers."""
        with translated(self.url):
            await self.redis.hdel(self.key("batch", batch), "operation")


def _text(fields: dict[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")


def _key_in(row: bytes) -> str:
    found = _ROW_KEY.search(row)
    return found[1].decode("utf-8", "replace") if found else ""


def _without(lines: bytes, key: str, line: bytes) -> bytes | None:
    """The lines with that of ``key`` replaced; None when it is not there, or is replaced already.

    An answer's line is spelled as the provider spelled it, so only its decoded key says whose it is.
    """
    kept = lines.split(b"\n")
    changed = [line if _key_of(each) == key else each for each in kept]
    return b"\n".join(changed) if changed != kept else None


def _key_of(line: bytes) -> str | None:
    try:
        return _decode_keyed(line).key
    except (ValueError, RecursionError):  # msgspec's errors are some of the former
        return None
