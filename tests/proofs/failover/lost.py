"""Acknowledged writes that a failover loses, by durability.

One writer goes on through the failover; then what it was told is there is looked for on the new master.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from gemqueue.config import Settings
from gemqueue.errors import StoreUnavailable
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store
from tests.worlds.failing_over import Pair
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LANE = str(Lane("emulated.local", "gemini-3.8-flash", Kind.GENERATE))


class Lost(msgspec.Struct, frozen=True):
    """One run: what the writer was told, and what of it is there after the failover."""

    failover: str
    durability: str
    acknowledged: int
    acknowledged_after: int
    """Of these, after the server had been cut off or killed."""
    unknown: int
    """Writes whose fate the writer was not told: it has to ask again, which is safe."""
    lost: int
    lost_span_ms: int
    """From the first acknowledgement of what is lost to the last one."""
    stalled_ms: int
    """The longest time between two acknowledgements."""


def one_prompt(id_: str, producer: str) -> tuple[SegmentWrite, bytes]:
    """A segment of one prompt, and its body."""
    body = line(f"{id_}.0", generate_request("a prompt"))
    tokens = len(body) // 4 + 1
    write = SegmentWrite(id=id_, lane=_LANE, producer=producer, count=1, raw_bytes=len(body), tokens=tokens)
    return write, codec.compress(body)


class Writer:
    """Enqueues segments one after the other, each again until it is acknowledged, as a producer does."""

    def __init__(self, store: Store) -> None:
        self.acknowledged: dict[str, float] = {}
        """Segments, and when this was heard."""
        self.unknown = 0
        self.stalled_ms = 0
        self._store = store
        self._producer = new_producer_id()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until ``stop``."""
        last = time.monotonic()
        while not self._stop.is_set():
            await self._write(new_segment_id())
            self.stalled_ms = max(self.stalled_ms, int((time.monotonic() - last) * 1000))
            last = time.monotonic()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()

    async def more(self, count: int) -> None:
        """Return when so many more have been acknowledged."""
        enough = len(self.acknowledged) + count

        async def there() -> bool:
            return len(self.acknowledged) >= enough

        await until(there, what=f"{count} more writes")

    async def _write(self, id_: str) -> None:
        segment, body = one_prompt(id_, self._producer)
        while not self._stop.is_set():
            try:
                if (await self._store.enqueue(segment, body)).word == "ok":
                    self.acknowledged[id_] = time.monotonic()
                    return
            except StoreUnavailable:
                self.unknown += 1
                await asyncio.sleep(0.02)


async def _kill(pair: Pair) -> None:
    await asyncio.to_thread(pair.master.kill)


async def _cut(pair: Pair) -> None:
    pair.proxy.cut_peers()


FAILOVERS: dict[str, tuple[Callable[[Pair], Awaitable[None]], bool]] = {
    "kill -9": (_kill, True),
    "partition, client asks the sentinels": (_cut, True),
    "partition, client only knows the old master": (_cut, False),
}
"""What befalls the master, and whether the writer asks the sentinels."""


async def measure(failover: str, durability: str, *, before_s: float = 0.5, after_s: float = 1.5) -> Lost:
    """Fail over once under a writer, ``before_s`` after it began; mend ``after_s`` after the replica's promotion.

    Until it is mended there is one server, and so no replica: nothing is acknowledged as replicated.
    """
    befall, asks = FAILOVERS[failover]
    async with Pair() as pair:
        settings = Settings(queue="lost", redis_url=pair.url, durability=durability, replicate_s=0.3)
        store = Store(pair.url if asks else pair.proxy.url, settings)
        writer = Writer(store)
        writing = asyncio.create_task(writer.run())
        await passing(before_s)
        known = len(writer.acknowledged)
        await befall(pair)
        await pair.promoted()
        await passing(after_s)
        await pair.mend()
        await passing(before_s)
        writer.stop()
        await writing
        await store.aclose()
        return await found_lost(failover, settings, pair.replica.url, writer, known)


async def found_lost(failover: str, settings: Settings, url: str, writer: Writer, known: int) -> Lost:
    """What the server at ``url`` does not have of all that was acknowledged, the first ``known`` before it happened."""
    gone = await _missing(url, settings, list(writer.acknowledged))
    heard = [writer.acknowledged[id_] for id_ in gone]
    return Lost(
        failover=failover,
        durability=settings.durability,
        acknowledged=len(writer.acknowledged),
        acknowledged_after=len(writer.acknowledged) - known,
        unknown=writer.unknown,
        lost=len(gone),
        lost_span_ms=int(1000 * (max(heard) - min(heard))) if heard else 0,
        stalled_ms=writer.stalled_ms,
    )


async def _missing(url: str, settings: Settings, ids: list[str]) -> set[str]:
    store = Store(url, settings)
    try:
        gone: set[str] = set()
        for start in range(0, len(ids), 500):
            gone |= await store.gone(ids[start : start + 500])
        return gone
    finally:
        await store.aclose()


async def passing(seconds: float) -> None:
    """Let the writer write: the time is what is measured here, not waited for."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed
