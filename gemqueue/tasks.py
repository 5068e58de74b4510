"""End tasks, and wait until they have ended.

``asyncio.wait_for`` of Python 3.11, under every command that redis-py sends, swallows a cancellation that arrives in
the same moment as its result. So an endless loop asks ``ending()`` or ``check_ending()`` each time round, and
``end_tasks`` cancels until all have ended.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_AGAIN_S = 0.05


def ending_signals() -> tuple[signal.Signals, ...]:
    """Those on which a process lets what runs end: SIGHUP too, unless it was started to ignore that, as by nohup."""
    found = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return tuple(each for each in found if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN)


def ending() -> bool:
    """Whether the task that asks has been cancelled, even where something swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def check_ending() -> None:
    """Raise CancelledError where the task that asks has been cancelled and something swallowed that."""
    if ending():
        raise asyncio.CancelledError


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when they have ended; what they raise is dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()
