"""Prompts that wait to be written: by lane, tenant and priority, in order, cut into segments; and the room they take.

Nothing here does I/O or knows the time, so the cutting is checked as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemqueue.client.tickets import Prompt, Route

LINE_BYTES = 50
"""At most what ``{"key":"<22 hex>.<index>","request":}`` and the line's end add to a request."""


class Buffer:
    """The prompts of one route that wait.

    ``since`` is when the oldest of them came, ``seen`` how many there were when its timer was started.
    """

    __slots__ = ("bytes", "due", "prompts", "route", "seen", "since", "timer")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.prompts: list[Prompt] = []
        self.bytes = 0
        self.since = 0.0
        self.seen = 0
        self.due = False
        self.timer: asyncio.TimerHandle | None = None

    def add(self, prompt: Prompt) -> None:
        """One prompt, behind the others."""
        self.prompts.append(prompt)
        self.bytes += len(prompt.request) + LINE_BYTES

    def cut(self, prompts_max: int, bytes_max: int) -> list[Prompt]:
        """Take the first prompts that fit into one segment; a prompt that is too large for any goes alone."""
        n, total = 0, 0
        if len(self.prompts) <= prompts_max and self.bytes <= bytes_max:
            n, total = len(self.prompts), self.bytes
        else:
            for prompt in self.prompts[:prompts_max]:
                line_bytes = len(prompt.request) + LINE_BYTES
                if n and total + line_bytes > bytes_max:
                    break
                n, total = n + 1, total + line_bytes
        taken, self.prompts = self.prompts[:n], self.prompts[n:]
        self.bytes -= total
        return taken


class Space:
    """A budget of bytes with a queue in front of it: first come, first served.

    A prompt over the whole budget is let in when nothing else is there.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.used_bytes = 0

    def try_take(self, n_bytes: int) -> bool:
        """Take room if there is some and nobody waits for it."""
        used_bytes = self.used_bytes
        if self._waiting or (used_bytes and used_bytes + n_bytes > self._max_bytes):
            return False
        self.used_bytes = used_bytes + n_bytes
        return True

    async def take(self, n_bytes: int) -> None:
        """Take room, waiting for it; a caller that is cancelled has taken none."""
        if self.try_take(n_bytes):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((n_bytes, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was granted in the same moment
                self.give_back(n_bytes)
            else:
                self._grant()
            raise

    def give_back(self, n_bytes: int) -> None:
        """Room is free again."""
        self.used_bytes -= n_bytes
        self._grant()

    def _fits(self, n_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + n_bytes <= self._max_bytes

    def _grant(self) -> None:
        while self._waiting:
            n_bytes, waiter = self._waiting[0]
            if not waiter.done():
                if not self._fits(n_bytes):
                    return
                self.used_bytes += n_bytes
                waiter.set_result(None)
            self._waiting.popleft()
