"""The turnaround history as it lies in Redis; ``end`` writes it, because only a transition knows each job once."""

from __future__ import annotations

import msgspec

from gemqueue import turnaround
from gemqueue.scripts import translated
from gemqueue.store_base import StoreBase
from gemqueue.turnaround import Histogram, Turnaround


class TurnaroundStore(StoreBase):
    """Reads how long an account's jobs of a model have taken."""

    async def turnaround(self, account: str, model: str, prompts: int) -> Turnaround | None:
        """What is known of jobs of about ``prompts`` prompts; None as long as none has ended."""
        return turnaround.known(await self._histograms(account, model), prompts, self.clock.now_ms())

    async def turnarounds(self, account: str, model: str) -> dict[str, Turnaround]:
        """What is known of each size of job, by its number of prompts (``10-99``); empty as long as none has ended."""
        return turnaround.by_size(await self._histograms(account, model), self.clock.now_ms())

    async def _histograms(self, account: str, model: str) -> dict[int, Histogram]:
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("turnaround", account, model))
        return {int(size): msgspec.msgpack.decode(packed, type=Histogram, strict=False) for size, packed in raw.items()}
