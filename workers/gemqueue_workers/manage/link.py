"""The connection of a command that only looks after a queue: no worker is started for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.config import data_dir, load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from gemqueue.config import Settings
    from gemqueue.records import Worker
    from gemqueue.store.store import Store
    from gemqueue_workers.run.connection import Link


async def with_link(emulate: bool | None, work: Callable[[Link], Awaitable[Any]], *, look: bool = False) -> Any:
    """What ``work`` makes of a connection to the queue; ``look`` promises that it changes nothing."""
    from gemqueue_workers.run.connection import connected  # noqa: PLC0415 - imports what only some commands need

    async with connected(load_settings(emulate=emulate), with_worker=False, look=look) as link:
        return await work(link)


@asynccontextmanager
async def looked_at(settings: Settings) -> AsyncGenerator[Store | None]:
    """The queue's store; without a URL that of the embedded server, None where its data folder was never used.

    Raises StoreUnavailable.
    """
    from gemqueue.embedded.server import acquire  # noqa: PLC0415 - as above
    from gemqueue.store.store import Store  # noqa: PLC0415

    folder = data_dir(settings)
    if not settings.redis_url and (not folder.is_dir() or not any(folder.iterdir())):
        yield None
        return
    server = None if settings.redis_url else await acquire(folder, look=True)
    url = server.url if server else settings.redis_url
    store = Store(url, msgspec.structs.replace(settings, redis_url=url))
    try:
        yield store
    finally:
        await store.aclose()
        if server is not None:
            await server.release()


async def read_workers(settings: Settings) -> tuple[list[Worker], int]:
    """The workers whose heartbeat is fresh, and the server's time in ms. Raises StoreUnavailable."""
    async with looked_at(settings) as store:
        return ([], 0) if store is None else (await store.workers(), await store.server_now_ms())
