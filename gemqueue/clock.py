"""The clock as a port: the wall clock in production, one shared virtual clock under ``GEMQUEUE_TEST_CLOCK``.

``GEMQUEUE_TEST_CLOCK=file:///path`` names a file that holds an offset in seconds, as a decimal number. Every process
under it, the emulator included, takes ``now`` as real time plus that offset, so a test that writes the file owns two
days. Time runs on between the jumps; a sleep ends as soon as the virtual time that it waits for has come.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from gemqueue.errors import ConfigError

TEST_CLOCK_ENV = "GEMQUEUE_TEST_CLOCK"
_TICK_S = 0.01


class Clock(Protocol):
    """What every part of gemqueue knows of time."""

    @property
    def virtual(self) -> bool:
        """Whether scripts must be told the time instead of asking the server for it."""
        ...

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards: leases and deadlines of this process count on it."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when ``seconds`` of this clock have passed."""
        ...


class SystemClock:
    """The machine's own clock."""

    virtual = False

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        await asyncio.sleep(seconds)


class FileClock:
    """Real time plus the offset that a file holds; see the module's text."""

    virtual = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_s = 0.0
        self._mtime_ns = -1

    def _offset(self) -> float:
        try:
            mtime_ns = os.stat(self._path).st_mtime_ns  # noqa: PTH116 - the fastest look, taken for every now
            if mtime_ns != self._mtime_ns:
                text = self._path.read_text()
                if text:  # else it is just being written
                    self._offset_s = float(text)
                    self._mtime_ns = mtime_ns
        except FileNotFoundError:
            self._offset_s = 0.0
        return self._offset_s

    def now_ms(self) -> int:
        """Virtual wall clock, milliseconds since 1970."""
        return int((time.time() + self._offset()) * 1000)

    def monotonic(self) -> float:
        """Monotonic time moved by the same jumps."""
        return time.monotonic() + self._offset()

    async def sleep(self, seconds: float) -> None:
        """Return when the virtual time has come, looking every 10 ms."""
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:  # noqa: ASYNC110 - the event is in a file
            await asyncio.sleep(min(left, _TICK_S))


def clock_from_env(env: dict[str, str] | None = None) -> Clock:
    """The clock that ``GEMQUEUE_TEST_CLOCK`` asks for, or the system's. Raises ConfigError on another URL than file://."""
    url = (env if env is not None else os.environ).get(TEST_CLOCK_ENV, "")
    if not url:
        return SystemClock()
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "file" or not parts.path:
        raise ConfigError(f"{TEST_CLOCK_ENV}: only file:///path is known")
    return FileClock(Path(unquote(parts.path)))
