"""The connection of a command that only looks after a queue: no worker is started for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue_workers.run.connection import Link


async def with_link(emulate: bool | None, work: Callable[[Link], Awaitable[Any]], *, look: bool = False) -> Any:
    """What ``work`` makes of a connection to the queue; ``look`` promises that it changes nothing."""
    from gemqueue_workers.run.connection import connected  # noqa: PLC0415 - imports what only some commands need

    async with connected(load_settings(emulate=emulate), with_worker=False, look=look) as link:
        return await work(link)
