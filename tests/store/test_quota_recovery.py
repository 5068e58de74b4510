"""Small batches and fast jobs after a storm of 429s: the room that refusals took comes back within a few jobs' time."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Limits
from gemqueue.records import Hold
from gemqueue.states import Step
from tests.store.test_quota import finish, refuse, sealed, submit
from tests.worlds.bench import ACCOUNT, bench

if TYPE_CHECKING:
    from tests.worlds.bench import Bench

TOKENS = 100
AT_ONCE = 5
USUAL, STORM, CALM = 3, 3, 12
"""In jobs' times; a hold may last for 300 s after the storm."""


class Provider:
    """Room for so many small jobs, each of ``job_s``; what has ended counts no more. In a storm it refuses creates."""

    def __init__(self, made: Bench, job_s: float) -> None:
        self._made = made
        self._job_s = job_s
        self._started_ms = made.clock.now_ms()
        self._running: list[tuple[float, str]] = []
        self._waiting = 0
        self._asked = 0
        self.stormy = False

    @property
    def now_s(self) -> float:
        """Seconds since it began."""
        return (self._made.clock.now_ms() - self._started_ms) / 1000

    async def period(self, limit: Limits) -> float:
        """As long as a job takes, with more to do than there is room for: the share of the room that was used."""
        until_s, done = self.now_s + self._job_s, 0
        while self.now_s < until_s:
            await self._submit(limit)
            due = await self._made.store.redis.zrange(self._made.store.key("due", ACCOUNT), 0, -1, withscores=True)
            times = [(score - self._started_ms) / 1000 for member, score in due if member.startswith(b"submit")]
            ends = [self._running[0][0]] if self._running else []
            next_s = min([until_s, *ends, *(time_s for time_s in times if time_s > self.now_s)])
            self._made.advance(max(0.001, next_s - self.now_s))
            while self._running and self._running[0][0] <= self.now_s:
                await finish(self._made, heapq.heappop(self._running)[1])
                done += 1
        return done / AT_ONCE

    async def _submit(self, limit: Limits) -> None:
        store, again = self._made.store, True
        while again:
            again = False
            while self._waiting < AT_ONCE:
                await sealed(self._made, TOKENS)
                self._waiting += 1
            for member, _ in await store.overdue(ACCOUNT, [Step.SUBMIT]):
                taken = await store.claim(Step.SUBMIT, member.split()[1], ACCOUNT)
                assert taken is not None
                found = await store.reserve(taken[0], limit)
                if isinstance(found, QuotaHold):
                    await store.release(taken[0], found.wait_s, hold=Hold(text="quota"))
                elif self._refuses():
                    await refuse(self._made, taken[0], limit)
                else:
                    await submit(self._made, taken[0])
                    heapq.heappush(self._running, (self.now_s + self._job_s, taken[0].id))
                    self._waiting -= 1
                    again = True

    def _refuses(self) -> bool:
        self._asked += 1
        return len(self._running) >= AT_ONCE or (self.stormy and self._asked % 5 > 0)


@pytest.mark.parametrize("job_s", [60.0, 300.0])
async def test_throughput_is_back_at_the_limit(redis_url: str, queue_name: str, job_s: float) -> None:
    """No limit is configured, and jobs take no longer than the cool-off: after the storm 95 % of what there is."""
    async with bench(redis_url, queue_name) as made:
        provider = Provider(made, job_s)
        limit = Limits(jobs_max=100, tokens_max=10**12)
        shares = [await provider.period(limit) for _ in range(USUAL)]
        provider.stormy = True
        shares += [await provider.period(limit) for _ in range(STORM)]
        provider.stormy = False
        shares += [await provider.period(limit) for _ in range(CALM)]
        assert shares[1] >= 0.95, shares
        assert min(shares[USUAL + 1 : USUAL + STORM]) < 0.5, shares
        assert sum(shares[-5:]) / 5 >= 0.95, shares
