"""The end of a burst: a lane that this process has just filled with many prompts need not linger for its last ones.

A lane waits ``linger_s`` for company before a batch that is not full is sealed. Behind a burst of ten thousand prompts
and more, when nothing has followed for a moment, no company is to be expected, and the store is told so. It is a hint:
losing it costs ``linger_s``. One is given per ``PROMPTS_MIN`` prompts at the most, so it makes few more batches; a
burst that only stumbled has a few hints left for its real end, for as long as it is warm.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gemqueue.errors import GemqueueError
from gemqueue.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROMPTS_MIN = 10_000
PAUSE_S = 0.1
_HINTS_MAX = 3
_WARM_S = 5.0


class _Burst:
    __slots__ = ("last", "prompts", "timer")

    def __init__(self) -> None:
        self.prompts = 0
        self.last = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Bursts:
    """Watches what is acknowledged, and calls ``hasten`` with a lane whose burst has ended."""

    def __init__(self, hasten: Callable[[str], Awaitable[object]]) -> None:
        self._hasten = hasten
        self._bursts: dict[str, _Burst] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def acknowledged(self, lane: str, prompts: int) -> None:
        """A segment of ``prompts`` has been registered in ``lane``."""
        now = asyncio.get_running_loop().time()
        burst = self._bursts.get(lane)
        if burst is None or now > burst.last + _WARM_S:
            burst = self._bursts[lane] = _Burst()
        burst.prompts += prompts
        burst.last = now
        if burst.timer is None and burst.prompts >= PROMPTS_MIN:
            self._check_in(PAUSE_S, lane)

    async def close(self) -> None:
        """Give no more hints."""
        for burst in self._bursts.values():
            if burst.timer is not None:
                burst.timer.cancel()
        await end_tasks(list(self._tasks))

    def _check_in(self, pause_s: float, lane: str) -> None:
        self._bursts[lane].timer = asyncio.get_running_loop().call_later(pause_s, self._check, lane)

    def _check(self, lane: str) -> None:
        burst = self._bursts[lane]
        left_s = burst.last + PAUSE_S - asyncio.get_running_loop().time()
        if left_s > 0:
            self._check_in(left_s, lane)
            return
        burst.prompts = min(burst.prompts, _HINTS_MAX * PROMPTS_MIN) - PROMPTS_MIN
        burst.timer = None
        task = asyncio.create_task(self._tell(lane), name="gemqueue-hasten")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, lane: str) -> None:
        try:
            await self._hasten(lane)
        except GemqueueError:
            return  # it lingers
