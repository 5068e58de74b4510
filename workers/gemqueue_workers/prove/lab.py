"""What looks and trials work with: the provider, the bare calls of each key, the journal and the limits."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from gemqueue.errors import Transient
from gemqueue_workers.prove.state import Step, now_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gemqueue.provider import JobStatus, Provider
    from gemqueue_adapters.bare import BareCalls
    from gemqueue_workers.prove.state import Job, Journal, State

T = TypeVar("T")
PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 10.0
SINCE_MS: Final = 15 * 60 * 1000  # the service's clock may differ from this one's


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may take.

    ``settle_s`` is the longest that a new job may be missing from the list, ``wait_s`` the longest that the command
    waits for jobs, ``budget_usd`` the most that it may spend.
    """

    model: str
    budget_usd: float
    settle_s: float
    wait_s: float


class Lab:
    """One run at work. ``bad`` has a key that is none, ``other`` one of another project, where one was given."""

    def __init__(
        self,
        *,
        provider: Provider,
        calls: BareCalls,
        bad: BareCalls,
        other: BareCalls | None,
        journal: Journal,
        limits: Limits,
        child_env: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.provider = provider
        self.calls = calls
        self.bad = bad
        self.other = other
        self.journal = journal
        self.limits = limits
        self.child_env = child_env
        self.say = say

    @property
    def state(self) -> State:
        """What has been seen so far."""
        return self.journal.state

    def affords(self, usd: float) -> bool:
        """Whether a create of this estimate stays inside the budget, whatever is still under way or in doubt."""
        return self.state.committed_usd + usd <= self.limits.budget_usd

    async def upload(self, lines: list[bytes], name: str) -> str:
        """Upload an input file; what a killed command leaves is found by its display name and swept."""

        async def chunks() -> AsyncIterator[bytes]:
            for line in lines:
                yield line

        size_bytes = sum(map(len, lines))
        return await patiently(lambda: self.provider.upload(chunks(), size_bytes=size_bytes, name=name))

    async def aclose(self) -> None:
        """Close all connections."""
        await self.provider.aclose()
        for calls in filter(None, (self.calls, self.bad, self.other)):
            await calls.aclose()

    async def listed(self) -> list[JobStatus]:
        """The whole list, as far back as this run goes, in the order in which it came."""
        found: list[JobStatus] = []
        async for page in self.provider.jobs(since_ms=self.state.began_ms - SINCE_MS):
            found += page
        return found

    async def read_list(self) -> None:
        """Note which jobs the list shows by now, and how it is ordered."""
        found = await patiently(self.listed)
        shown = {status.display_name for status in found}
        for job in self.state.jobs.values():
            if job.listed_s is None and job.step not in (Step.INTENDED, Step.REFUSED, Step.LATER, Step.DEAD):
                job.looks += 1
                since_s = (now_ms() - job.created_ms) / 1000
                if job.token in shown:
                    job.listed_s = since_s
                else:
                    job.hidden_s = since_s
        times = [status.created_at_ms for status in found if status.created_at_ms]
        if len(times) > self.state.seen.get("order", {}).get("jobs", 1):
            upwards = sum(later > earlier for earlier, later in pairwise(times))
            self.state.seen["order"] = {"jobs": len(times), "out_of_order": upwards}
        self.journal.save()


class Pauses:
    """Pauses that grow, until ``total_s`` are over."""

    def __init__(self, total_s: float, pause_max_s: float = PAUSE_MAX_S) -> None:
        self._end_s = asyncio.get_running_loop().time() + total_s
        self._pause_s, self._pause_max_s = PAUSE_FIRST_S, pause_max_s

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return not self.left_s

    @property
    def left_s(self) -> float:
        """How much time is left."""
        return max(0.0, self._end_s - asyncio.get_running_loop().time())

    async def rest(self) -> None:
        """Wait a little longer than the last time."""
        await asyncio.sleep(min(self._pause_s, self.left_s))
        self._pause_s = min(self._pause_s * 1.5, self._pause_max_s)


async def patiently(call: Callable[[], Awaitable[T]], total_s: float = 60.0) -> T:
    """Make a call that may be repeated until it succeeds; what still fails after ``total_s`` is raised."""
    pauses = Pauses(total_s)
    while True:
        try:
            return await call()
        except Transient:
            if pauses.over:
                raise
        await pauses.rest()


def created_now(job: Job, name: str) -> None:
    """Note that the job exists."""
    job.job, job.step = name, Step.CREATED
    job.created_ms = job.created_ms or now_ms()
