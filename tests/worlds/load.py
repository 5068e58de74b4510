"""Prompts that go on coming while something happens to the server, and how long none was taken."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.worlds.processes import Processes

_PROMPTS = 10
_PAUSE_S = 0.02


class Load:
    """``acknowledged`` are the times at which prompts were taken."""

    def __init__(self) -> None:
        self.acknowledged: list[float] = []

    @property
    def prompts(self) -> int:
        """How many were taken."""
        return len(self.acknowledged) * _PROMPTS

    @property
    def stalled_s(self) -> float:
        """The longest time in which none was."""
        pairs = zip(self.acknowledged, self.acknowledged[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0.0)


@asynccontextmanager
async def under_load(world: Processes, *, after_s: float = 1.0) -> AsyncGenerator[Load]:
    """Submit all the time, from ``after_s`` before the body begins to ``after_s`` behind its end."""
    load, ending = Load(), asyncio.Event()

    async def submit() -> None:
        while not ending.is_set():
            n = load.prompts
            await world.submit([f"prompt {n + i}" for i in range(_PROMPTS)])
            load.acknowledged.append(time.monotonic())
            await asyncio.sleep(_PAUSE_S)

    task = asyncio.create_task(submit())
    await asyncio.sleep(after_s)
    yield load
    await asyncio.sleep(after_s)
    ending.set()
    await task
