"""Purging in the store: what is left of prompts, and taking it away. Everything here may be repeated."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.store import calls, codec
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gemqueue.records import SegmentMeta

_READ_AT_ONCE: Final = 500
_BODY: Final = -1
_TRIES: Final = 8
_ROW_KEY: Final = re.compile(rb'"key"\s*:\s*"([^"\\]*)')


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
            expand = partial(codec.expand, bytes_max=bytes_max)
            text = None if old is None else self.unreadable.read(f"value {at} of segment {segment}", expand, old)
            new = None if text is None else _without(text, key, line)
            if old is None or new is None:
                return False
            digest = hashlib.sha1(old, usedforsecurity=False).hexdigest()
            call = calls.PurgeLine(segment, at, digest=digest, value=codec.compress(new))
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
                gone = [id_ for id_, fields in entries if ours(fields)]
            if gone and name == "dead":  # what they weigh is counted
                await self.scripts.run(calls.PurgeDead([id_.decode() for id_ in gone]))
            elif gone:
                with translated(self.url):
                    await self.redis.xdel(stream, *gone)
            if len(entries) < _READ_AT_ONCE:
                return
            after = f"({entries[-1][0].decode()}"

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
