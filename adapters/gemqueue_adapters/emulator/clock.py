"""The virtual clock: real time plus an offset that tests push forward.

The offset lives in a file, as a decimal number of seconds, so that it survives a restart and, when the file is
named by GEMQUEUE_TEST_CLOCK, so that other processes share it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

CACHE_S = 0.01


class Clock:
    """Now, in virtual time. A file that is missing or empty means an offset of zero."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1.0
        self._seen: tuple[int, int] | None = None
        self._offset_s = 0.0

    @property
    def offset_s(self) -> float:
        """Seconds that virtual time is ahead of real time; at most 10 ms old."""
        now = time.monotonic()
        if now - self._read_at >= CACHE_S:
            self._read_at = now
            self._read()
        return self._offset_s

    def now_ms(self) -> int:
        """Virtual milliseconds since the epoch."""
        return int((time.time() + self.offset_s) * 1000)

    def advance(self, seconds: float) -> None:
        """Push the clock forward; written by rename, so that no reader sees half a number."""
        self._read()
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        draft.write_text(repr(self._offset_s + seconds))
        draft.replace(self._path)
        self._read()

    def _read(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if seen != self._seen:
                self._offset_s = float(self._path.read_text().strip() or 0)
                self._seen = seen
        except FileNotFoundError:
            self._offset_s, self._seen = 0.0, None


def clock_path(data: Path) -> Path:
    """Where the offset lives: the file of GEMQUEUE_TEST_CLOCK (a file:// address), else one in the data folder."""
    url = os.environ.get("GEMQUEUE_TEST_CLOCK", "")
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else data / "clock"
