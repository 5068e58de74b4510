"""A store under a virtual clock and short ways to any state, for tests of the transitions themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.config import Settings
from gemqueue.ids import new_batch_id, new_segment_id
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store import bitmap, codec
from gemqueue.store.batches import Claim, JobEnd, RetrySegment
from gemqueue.store.groups import Landing
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from gemqueue.errors import StoreError
    from gemqueue.store.producer import Enqueued

ACCOUNT = "emulated.local"
LANE = str(Lane(ACCOUNT, "m", Kind.GENERATE))
PRODUCER = "00p1"


def body(count: int, size: int = 10) -> bytes:
    """The compressed body of a segment."""
    return codec.compress(b"\n".join([b"x" * size] * count))


def landing(segment: str, indices: Sequence[int], text: bytes = b"blob", failed: int = 0, lost: int = 0) -> Landing:
    """Outcomes of a segment's prompts."""
    return Landing(segment, bitmap.of(indices, max(indices) + 1), len(indices), text, failed, lost)


def retry(id_: str, origin: str, indices: Sequence[int], **changed: Any) -> RetrySegment:
    """A retry segment of an origin's prompts, moved out of the origin's own lines."""
    moves = [(origin, bitmap.of(indices, max(indices) + 1))]
    plain: dict[str, Any] = {
        "id": id_, "lane": Lane.parse(LANE), "tenant": "default", "priority": 0, "count": len(indices), "raw_bytes": 10,
        "tokens": 1, "attempt": 1, "requeues": 0, "delay_ms": 0, "keys": [(origin, list(indices))], "moves": moves,
    }  # fmt: skip
    return RetrySegment(**(plain | changed))


class HandClock:
    """Time that stands still until it is moved, so that a run can be repeated to the millisecond."""

    virtual = True

    def __init__(self) -> None:
        self._now_ms = 1_800_000_000_000

    def now_ms(self) -> int:
        """What the scripts are told."""
        return self._now_ms

    def monotonic(self) -> float:
        """The same, in seconds."""
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self._now_ms += round(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        """A sleeper moves it on."""
        self.advance(seconds)


class Bench:
    """One queue. ``store`` is all of it; the rest are short ways."""

    def __init__(self, url: str, queue: str, **settings: Any) -> None:
        self.clock = HandClock()
        chosen: dict[str, Any] = {"linger_s": 0.001} | settings
        self.settings = Settings(queue=queue, emulate=True, **chosen)
        self.store = Store(url, self.settings, self.clock)

    def advance(self, seconds: float) -> None:
        """Move the virtual time on."""
        self.clock.advance(seconds)

    async def write(self, id_: str, count: int = 3, **changed: Any) -> Enqueued:
        """Enqueue a segment of this id."""
        plain: dict[str, Any] = {
            "id": id_,
            "lane": LANE,
            "producer": PRODUCER,
            "count": count,
            "raw_bytes": 10 * count,
            "tokens": count,
        }
        return await self.store.enqueue(SegmentWrite(**(plain | changed)), body(count))

    async def enqueue(self, count: int = 3, **changed: Any) -> str:
        """A new segment; its id."""
        id_ = new_segment_id()
        assert (await self.write(id_, count, **changed)).word == "ok"
        return id_

    async def claim(self, step: Step, id_: str = LANE) -> Claim:
        """Claim a step that is due now, or within a minute."""
        taken = await self.store.claim(step, id_, ACCOUNT)
        if taken is None:
            self.advance(60)
            taken = await self.store.claim(step, id_, ACCOUNT)
        assert taken is not None, f"{step} {id_} is not due"
        return taken[0]

    async def pack_one(self, claim: Claim, batch: str = "") -> str:
        """Fill and seal one batch; its id, empty when there was nothing."""
        batch = batch or new_batch_id()
        word = "packing"
        while word == "packing":
            word, _, _ = await self.store.pack(claim, batch, {})
        return batch if word == "sealed" else ""

    async def sealed(self) -> str:
        """A batch of what is pending."""
        claim = await self.claim(Step.PACK)
        batch = await self.pack_one(claim)
        await self.store.rest(claim)
        return batch

    async def submitting(self) -> Claim:
        """A batch with an intent."""
        claim = await self.claim(Step.SUBMIT, await self.sealed())
        return await self.store.begin(claim, f"token-{claim.fence}", "files/f")

    async def submitted(self) -> str:
        """A batch with a job."""
        claim = await self.submitting()
        await self.store.accept(claim, f"batches/{claim.id}", "created", 0)
        return claim.id

    async def ended(self, job_state: str = "succeeded") -> Claim:
        """A batch whose job has ended, claimed by a resolver."""
        claim = await self.claim(Step.TRACK, await self.submitted())
        await self.store.end(claim, JobEnd(job_state=job_state))
        return await self.claim(Step.RESOLVE, claim.id)

    async def close(self, claim: Claim, *, give_back: bool = False) -> tuple[str, list[str]]:
        """Close slices until it is closed or something is open."""
        word, open_ = "closing", list[str]()
        while word == "closing":
            word, open_ = await self.store.close(claim, give_back=give_back)
        return word, open_

    async def closed(self, segments: Sequence[str], count: int = 3) -> None:
        """Answer everything that is pending, which is these segments."""
        claim = await self.ended()
        for segment in segments:
            await self.store.settle(claim, [landing(segment, range(count))])
        assert await self.close(claim) == ("closed", [])

    async def state(self, batch: str) -> str:
        """Where a batch is."""
        record = await self.store.batch(batch)
        return str(record.state) if record else ""

    async def due(self) -> list[str]:
        """Every step of the due index."""
        return [member.decode() for member in await self.store.redis.zrange(self.store.key("due", ACCOUNT), 0, -1)]

    async def ttl(self, what: str, *parts: str) -> int:
        """Seconds; -1 for none, -2 for no such key."""
        return int(await self.store.redis.ttl(self.store.key(what, *parts)))

    async def live_bytes(self) -> int:
        """The gauge that the memory limit is held against."""
        return (await self.store.counts()).get("live_bytes", 0)

    async def dump(self) -> dict[str, object]:
        """Everything that the queue has in the server: two dumps are equal when nothing was written in between."""
        readers = {b"string": "GET {}", b"hash": "HGETALL {}", b"set": "SMEMBERS {}", b"stream": "XRANGE {} - +"}
        readers |= {b"list": "LRANGE {} 0 -1", b"zset": "ZRANGE {} 0 -1 WITHSCORES"}
        names = sorted(name.decode() for name in await self.store.redis.keys(f"{self.store.prefix}:*"))
        pipe = self.store.redis.pipeline()
        for name in names:
            pipe.type(name)
        kinds = await pipe.execute()
        for name, kind in zip(names, kinds, strict=True):
            pipe.execute_command(*readers[kind].format(name).split())
        return dict(zip(names, await pipe.execute(), strict=True))


@asynccontextmanager
async def bench(url: str, queue: str, **settings: Any) -> AsyncGenerator[Bench]:
    """A bench for as long as the block lasts."""
    made = Bench(url, queue, **settings)
    try:
        yield made
    finally:
        await made.store.aclose()


async def refused(call: Callable[[], Awaitable[object]], error: type[StoreError], made: Bench) -> None:
    """The call raises this error, and nothing was written."""
    before = await made.dump()
    with pytest.raises(error):
        await call()
    assert await made.dump() == before


def open_keys(id_: str, meta: dict[bytes, bytes], dump: dict[str, Any]) -> list[str]:
    """The prompts of a segment that are neither settled nor moved."""
    origins: list[tuple[str, list[int]]] = msgspec.msgpack.decode(meta[b"keys"]) if b"keys" in meta else []
    keys = [(origin, index) for origin, indices in origins for index in indices]
    keys = keys or [(id_, n) for n in range(int(meta[b"count"]))]
    moved = dump.get(f"moved:{id_}", b"")
    return [
        f"{origin}.{index}"
        for n, (origin, index) in enumerate(keys)
        if not bitmap.has_bit(moved, n) and not bitmap.has_bit(dump.get(f"settled:{origin}", b""), index)
    ]
