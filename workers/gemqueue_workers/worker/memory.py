"""A worker's heap: large buffers go back to the system when they are freed.

A worker moves files of gigabytes in pieces of a megabyte. Left to itself glibc learns from the first such piece to keep
the next ones in its heap, one heap per thread, and small objects between them keep it from shrinking.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BYTES = 512 * 1024
_ARENAS = 2


def give_back_large_buffers() -> None:
    """Ask glibc for it; elsewhere nothing happens."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another libc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
            mallopt(_M_ARENA_MAX, _ARENAS)


def imported() -> None:
    """Collect from here on, but leave alone what is there; where ``main`` did not run, nothing changes."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
