"""Lines of a batch's segments go on into retry segments: the same bytes, under the same keys, with one more attempt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gemqueue.ids import split_key
from gemqueue.store import bitmap, codec
from gemqueue.store.batches import RetrySegment
from gemqueue_workers.stages.contents import BatchContents, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.records import Batch, Lane
    from gemqueue_workers.stages.loop import Kit, Lease

Part = tuple[Source, "Sequence[int]"]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What a retry segment carries besides its lines; ``lane`` where that is not its segments'.

    Its deadline is that of its lines unless ``forgets_deadline``.
    """

    attempt: int
    requeues: int
    delay_ms: int
    new_batch: str = ""
    refusals: int = 0
    lane: Lane | None = None
    forgets_deadline: bool = False
    doubts: int = 0


class RetryWriter:
    """Makes retry segments out of parts of a batch's segments."""

    def __init__(self, kit: Kit, lease: Lease, batch: Batch) -> None:
        self._kit = kit
        self._lease = lease
        self._batch = batch

    async def lines(self, parts: Sequence[Part]) -> list[bytes]:
        """The bytes of the parts' lines, in order, with their line ends."""
        contents = BatchContents(self._kit.store, [])
        chosen = [Source(source.meta, lines, whole=len(lines) == source.meta.count) for source, lines in parts]
        found: list[bytes] = []
        async for _, lines in contents.bodies(chosen):
            found += lines
        return found

    async def move(self, id_: str, parts: Sequence[Part], why: Why) -> None:
        """Move the parts' lines into the retry segment ``id_``; asking again under the same fence changes nothing."""
        lines = await self.lines(parts)
        body = b"".join(lines)
        blob = await asyncio.to_thread(codec.compress, body)
        meta = parts[0][0].meta
        retry = RetrySegment(
            id=id_,
            lane=why.lane or meta.lane,
            tenant=meta.tenant,
            priority=meta.priority,
            count=len(lines),
            raw_bytes=len(body),
            tokens=len(body) // 4 + 1,
            attempt=why.attempt,
            requeues=why.requeues,
            delay_ms=why.delay_ms,
            keys=keys_of_parts(parts),
            moves=[(source.meta.id, bitmap.of(numbers, source.meta.count)) for source, numbers in parts],
            new_batch=why.new_batch,
            refusals=why.refusals,
            deadline_at=0 if why.forgets_deadline else meta.deadline_at,
            doubts=why.doubts,
        )
        await self._kit.store.requeue(self._lease.claim, retry, blob)


def keys_of_parts(parts: Sequence[Part]) -> list[tuple[str, list[int]]]:
    """The keys of the parts' lines, in order, as a retry segment has them."""
    keys: list[tuple[str, list[int]]] = []
    for source, numbers in parts:
        for number in numbers:
            origin, index = split_key(source.meta.key_of(number))
            if keys and keys[-1][0] == origin:
                keys[-1][1].append(index)
            else:
                keys.append((origin, [index]))
    return keys
