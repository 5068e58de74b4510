"""What a batch still owes: its segments, and which of their lines are neither settled nor moved.

The snapshot is taken from the bitmaps at one moment. The submitter uploads exactly these lines, the resolver expects
exactly these answers; a prompt that is cancelled in between is simply no longer expected.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gemqueue.ids import split_key
from gemqueue.states import SegmentState
from gemqueue.store import bitmap, codec
from gemqueue.store.base import segment_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from gemqueue.records import SegmentMeta
    from gemqueue.store.store import Store

_BODY_BYTES_MAX = 2_500_000
_BODIES_MAX = 64
_PROMPTS_MAX = 10**9
_INLINE_BYTES_MAX = 16_384
_GONE = "Redis has lost its body (a torn log, a failover, an eviction)"


class BodyLostError(ValueError):
    """The body of a live segment is gone, or is not what the segment's record says; ``why`` is a sentence's begin."""

    def __init__(self, segment: str, why: str) -> None:
        super().__init__(f"segment {segment}: {why}")
        self.segment = segment
        self.why = why


class _Line(msgspec.Struct, gc=False):
    key: str
    request: msgspec.Raw


_decode_lines = msgspec.json.Decoder(_Line).decode_lines


class Source(msgspec.Struct, frozen=True):
    """A segment of the batch and the lines of it that are still open; ``whole`` when that is all of them.

    ``moved`` marks the lines that went on into other segments.
    """

    meta: SegmentMeta
    lines: Sequence[int]
    whole: bool
    moved: bytes = b""


class BatchContents:
    """The open lines of a batch, segment by segment in manifest order."""

    def __init__(
        self, store: Store, sources: list[Source], closed: dict[str, int] | None = None, unreadable: str = ""
    ) -> None:
        self._store = store
        self.sources = sources
        self.closed = closed or {}
        """Segments of the batch whose every prompt has its outcome, and how many those are (at most)."""
        self.unreadable = unreadable
        """A segment whose record cannot be read, if there is one: what is known is without it."""

    @classmethod
    async def load(cls, store: Store, batch: str, only: Iterable[str] | None = None) -> BatchContents:
        """Take the snapshot of a batch, or of those of its segments that ``only`` names."""
        ids = list(only) if only is not None else await store.manifest(batch)
        sources: list[Source] = []
        closed: dict[str, int] = {}
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            found = await store.segment_metas(part)
            closed |= {
                id_: _closed_count(m)
                for id_, m in zip(part, found, strict=True)
                if not m or m.state is SegmentState.CLOSED
            }
            metas = [m for m in found if m is not None]
            live = [m for m in metas if m.state is SegmentState.LIVE and m.batch == batch]
            origins = {split_key(key)[0] for m in live for key in m.keys} | {m.id for m in live if not m.keys}
            settled, moved = await store.bitmaps(sorted(origins), [m.id for m in live])
            gone = await store.gone(origins - {m.id for m in live})  # after the bitmaps, which may go in between
            sources += [_source(m, settled, moved[m.id], gone) for m in live]
        unreadable = next((id_ for id_ in closed if segment_record(id_) in store.unreadable.found), "")
        return cls(store, sources, closed, unreadable)

    def open_prompts(self) -> int:
        """How many lines are open."""
        return sum(len(source.lines) for source in self.sources)

    async def bodies(self, sources: Sequence[Source]) -> AsyncIterator[tuple[Source, list[bytes]]]:
        """The open lines of each source, with their line ends; bodies are read a few megabytes at a time.

        Raises BodyLostError.
        """
        async for source, blob in _blobs(self._store, sources):
            yield source, await asyncio.to_thread(_open_lines, source, blob)

    async def upload_bytes(self) -> int:
        """How many bytes the open lines are. Only bodies with closed lines must be read for that.

        Raises BodyLostError.
        """
        size = sum(source.meta.raw_bytes for source in self.sources if source.whole)
        partial = [source for source in self.sources if not source.whole and source.lines]
        async for _, lines in self.bodies(partial):
            size += sum(map(len, lines))
        return size

    async def upload_chunks(self) -> AsyncIterator[bytes]:
        """The open lines as they go into the input file, in chunks of about a segment. Raises BodyLostError."""
        async for source, blob in _blobs(self._store, [source for source in self.sources if source.lines]):
            if not source.whole:
                yield b"".join(await asyncio.to_thread(_open_lines, source, blob))
            elif source.meta.raw_bytes <= _INLINE_BYTES_MAX:
                yield _whole(source, blob)
            else:
                yield await asyncio.to_thread(_whole, source, blob)

    def at_line(self, number: int) -> tuple[Source, int] | None:
        """The segment and line that stand at the 1-based line ``number`` of the uploaded file."""
        for source in self.sources:
            if number <= len(source.lines):
                return (source, source.lines[number - 1]) if number >= 1 else None
            number -= len(source.lines)
        return None


def _closed_count(meta: SegmentMeta | None) -> int:
    """Of one whose outcomes have expired nobody knows it any more."""
    return meta.count if meta is not None else _PROMPTS_MAX


async def lost_bodies(store: Store, sources: Sequence[Source], *, read: bool = True) -> dict[str, str]:
    """Why, by id, those of the sources that are live have no body that can be asked for.

    Each is read for that; without ``read`` they are only seen to be there, which costs nothing.
    """
    lost = dict.fromkeys(await store.bodiless([source.meta.id for source in sources]), _GONE)
    if read:
        async for source, blob in _blobs(store, [source for source in sources if source.meta.id not in lost]):
            try:
                await asyncio.to_thread(_whole if source.whole else _open_lines, source, blob)
            except BodyLostError as error:
                lost[error.segment] = error.why
    metas = await store.segment_metas([*lost]) if lost else []  # anew: one that ended in between is live no more
    return {meta.id: lost[meta.id] for meta in metas if meta is not None and meta.state is SegmentState.LIVE}


async def _blobs(store: Store, sources: Sequence[Source]) -> AsyncIterator[tuple[Source, bytes | None]]:
    """Each source with its body as it lies in Redis, a few megabytes at a time."""
    for group in _groups(sources):
        blobs = await store.bodies([source.meta.id for source in group])
        for source, blob in zip(group, blobs, strict=True):
            yield source, blob


def body_of(meta: SegmentMeta, blob: bytes | None) -> bytes:
    """A segment's lines, each with its prompt's own key. Raises BodyLostError where they are anything else."""
    if blob is None:
        raise BodyLostError(meta.id, _GONE)
    try:
        text = codec.expand(blob, meta.raw_bytes)
        if _is_as_written(meta, text):
            return text
        text.decode()
        keys = [line.key for line in _decode_lines(text)]
    except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former
        raise BodyLostError(meta.id, f"its body in Redis cannot be read ({error})") from error
    if len(keys) != meta.count:
        raise BodyLostError(meta.id, f"its body in Redis has {len(keys)} lines instead of {meta.count}")
    if keys != [*map(meta.key_of, range(meta.count))]:
        raise BodyLostError(meta.id, "its body in Redis is that of other prompts")
    return text


def _is_as_written(meta: SegmentMeta, text: bytes) -> bool:
    """Whether it is as long as a producer wrote it, and begins and ends with the right prompts: all else is in between.

    The frame's checksum says that nothing in it has changed since; to decode every line would cost a twentieth of all
    that a prompt costs.
    """
    first, last = b'{"key":"%b.0",' % meta.id.encode(), b'{"key":"%b.%d",' % (meta.id.encode(), meta.count - 1)
    if meta.keys or len(text) != meta.raw_bytes or not text.startswith(first) or not text.endswith(b"}\n"):
        return False
    text.decode()
    return text.startswith(last, text.rfind(b"\n", 0, -1) + 1)


def _source(meta: SegmentMeta, settled: dict[str, bytes], moved: bytes, gone: set[str]) -> Source:
    if not meta.keys and not settled[meta.id] and not moved:
        return Source(meta, range(meta.count), whole=True)
    if meta.keys:
        keys = enumerate(split_key(key) for key in meta.keys)
        lines = [
            n
            for n, (origin, i) in keys
            if origin not in gone and not bitmap.has_bit(settled[origin], i) and not bitmap.has_bit(moved, n)
        ]
    else:
        done = settled[meta.id]
        lines = [n for n in range(meta.count) if not bitmap.has_bit(done, n) and not bitmap.has_bit(moved, n)]
    return Source(meta, lines, len(lines) == meta.count, moved)


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
    groups: list[list[Source]] = []
    size = _BODY_BYTES_MAX
    for source in sources:
        if size + source.meta.raw_bytes > _BODY_BYTES_MAX or len(groups[-1]) >= _BODIES_MAX:
            groups.append([])
            size = 0
        groups[-1].append(source)
        size += source.meta.raw_bytes
    return groups


def _open_lines(source: Source, blob: bytes | None) -> list[bytes]:
    lines = [line + b"\n" for line in body_of(source.meta, blob).split(b"\n") if line]
    if len(lines) != source.meta.count:
        raise BodyLostError(source.meta.id, f"its body in Redis has {len(lines)} lines instead of {source.meta.count}")
    return lines if source.whole else [lines[n] for n in source.lines]


def _whole(source: Source, blob: bytes | None) -> bytes:
    """The body of which every line is open: it is as long as was promised for the upload."""
    text = body_of(source.meta, blob)
    if len(text) != source.meta.raw_bytes:
        why = f"its body in Redis has {len(text)} bytes instead of {source.meta.raw_bytes}"
        raise BodyLostError(source.meta.id, why)
    return text
