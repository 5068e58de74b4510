"""The turnaround history as it lies in Redis; ``end`` writes it, because only a transition knows each job once."""

from __future__ import annotations

import msgspec

from gemqueue.policy import turnaround
from gemqueue.policy.turnaround import Histogram, Turnaround
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated


class TurnaroundStore(StoreBase):
    """Reads how long an account's jobs of a model have taken."""

    async def turnaround(self, account: str, model: str, prompts: int) -> Turnaround | None:
        """What is known of jobs of about ``prompts`` prompts; None as long as none has ended.

        A pool has no jobs of its own: of it, what is known of its accounts'.
        """
        now_ms = self.clock.now_ms()
        found = await self._histograms(account, model) or await self._of_members(account, model, now_ms)
        return turnaround.known(found, prompts, now_ms)

    async def turnarounds(self, account: str, model: str) -> dict[str, Turnaround]:
        """What is known of each size of job, by its number of prompts (``10-99``); empty as long as none has ended."""
        return turnaround.by_size(await self._histograms(account, model), self.clock.now_ms())

    async def _of_members(self, pool: str, model: str, now_ms: int) -> dict[int, Histogram]:
        with translated(self.url):
            members: list[bytes] = await self.redis.zrange(self.key("pool", pool), 0, -1)
        return turnaround.together([await self._histograms(one.decode(), model) for one in members], now_ms)

    async def _histograms(self, account: str, model: str) -> dict[int, Histogram]:
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("turnaround", account, model))
        found: dict[int, Histogram] = {}
        for size, packed in raw.items():
            what = f"turnaround {account} {model} {size.decode(errors='replace')}"
            read = self.unreadable.read(what, _histogram, (size, packed))
            if read is not None:
                found[read[0]] = read[1]
        return found


def _histogram(entry: tuple[bytes, bytes]) -> tuple[int, Histogram]:
    size, packed = entry
    return int(size), msgspec.msgpack.decode(packed, type=Histogram, strict=False)
