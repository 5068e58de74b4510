"""Prompts that wait to be written: by lane, tenant and priority, in order, cut into segments; and the room they take.

Nothing here does I/O, and what time it is a buffer's loop says, so cutting and waiting are checked as they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue.client.tickets import Prompt, Route

LINE_BYTES = 50
"""At most what ``{"key":"<22 hex>.<index>","request":}`` and the line's end add to a request."""

_FILL_FLUSHES_MAX = 10
"""For how many times ``flush_s`` a buffer waits at most while a bulk call is filling it.

Rows that follow each other closely are worth waiting for: a full segment costs one round trip, ten small ones cost ten.
"""


class Limits(NamedTuple):
    """What a segment may hold, and how long its first prompt waits for company."""

    prompts_max: int
    bytes_max: int
    flush_s: float


class Buffer:
    """The prompts of one route that wait, and the timer that ends their wait.

    It is *ripe* when it holds a full segment or when its time has come. ``on_ripe`` is told so once, and then calls
    ``cut`` when it can, and ``wait_on`` where something is left.
    """

    __slots__ = (
        "_bytes_max", "_flush_s", "_loop", "_on_ripe", "_prompts_max", "_ripe", "_seen_count", "_since", "_timer",
        "bytes", "prompts", "route",
    )  # fmt: skip

    def __init__(
        self, route: Route, limits: Limits, on_ripe: Callable[[Buffer], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.route = route
        self.prompts: list[Prompt] = []
        self.bytes = 0
        self._prompts_max, self._bytes_max, self._flush_s = limits
        self._on_ripe = on_ripe
        self._loop = loop
        self._since = 0.0  # when the first of them came
        self._seen_count = 0  # how many there were when the timer was started
        self._ripe = False
        self._timer: asyncio.TimerHandle | None = None

    def add(self, prompt: Prompt) -> None:
        """One prompt, behind the others."""
        self.prompts.append(prompt)
        self.bytes += len(prompt.request) + LINE_BYTES
        if not self._ripe and (
            self._timer is None or len(self.prompts) >= self._prompts_max or self.bytes >= self._bytes_max
        ):
            self.wait_on()

    def wait_on(self) -> None:
        """Let what is here wait for company, unless it is ripe."""
        if len(self.prompts) >= self._prompts_max or self.bytes >= self._bytes_max:
            self.ripen()
        elif self._timer is None and not self._ripe:
            self._start_timer()

    def ripen(self) -> None:
        """Wait for no more company."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.prompts and not self._ripe:
            self._ripe = True
            self._on_ripe(self)

    def cut(self) -> tuple[list[Prompt], float]:
        """Take the first prompts that fit into one segment, and when the first of them came.

        A prompt that is too large for any segment goes alone.
        """
        n, total = 0, 0
        if len(self.prompts) <= self._prompts_max and self.bytes <= self._bytes_max:
            n, total = len(self.prompts), self.bytes
        else:
            for prompt in self.prompts[: self._prompts_max]:
                line_bytes = len(prompt.request) + LINE_BYTES
                if n and total + line_bytes > self._bytes_max:
                    break
                n, total = n + 1, total + line_bytes
        taken = self.prompts[:n]
        del self.prompts[:n]
        self.bytes -= total
        now = self._loop.time()
        since, self._since = self._since or now, now
        self._ripe = False
        return taken, since

    def _start_timer(self) -> None:
        self._since = self._since or self._loop.time()
        self._seen_count = len(self.prompts)
        self._timer = self._loop.call_later(self._flush_s, self._time_up)

    def _time_up(self) -> None:
        self._timer = None
        is_filling = len(self.prompts) > self._seen_count and self.prompts[-1].sink is not None
        if is_filling and self._loop.time() - self._since < _FILL_FLUSHES_MAX * self._flush_s:
            self._start_timer()
        else:
            self.ripen()


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
