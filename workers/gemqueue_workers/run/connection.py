"""A run's connection: the store of the URL, or the embedded server with its worker beside it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from gemqueue.accounts import api_key_from_env, lane_account
from gemqueue.embedded.local import Local
from gemqueue.errors import StoreUnavailable
from gemqueue.policy.workers import why_unserved
from gemqueue.store.runs import RunStore
from gemqueue.urls import safe_url
from gemqueue_workers.screen import left_out, stripped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue.config import Settings

_CONNECT_S_MAX = 8.0


class Link:
    """The open connection of one command; ``account`` is whose prompts it may see."""

    def __init__(self, store: RunStore, account: str, local: Local | None) -> None:
        self.store = store
        self.account = account
        self._local = local

    async def provider_settings(self) -> Settings:
        """The settings that reach the provider: those of the embedded emulator, where that is who answers here."""
        settings = self.store.settings
        if self._local is None or not settings.emulate or settings.base_url:
            return settings
        return msgspec.structs.replace(settings, base_url=await self._local.ensure_emulator())

    async def revive(self) -> None:
        """The server went away: start it again where it is ours to start."""
        if self._local is not None:
            await self._local.revive()

    async def ensure_worker(self) -> str:
        """Have a worker running where it is ours to start one; why nobody works for the account, or empty."""
        if self._local is not None:
            await self._local.ensure_worker(self.store)
        return why_unserved(await self.store.workers(), self.account, self.store.settings)


@asynccontextmanager
async def connected(settings: Settings, *, with_worker: bool, look: bool = False) -> AsyncGenerator[Link]:
    """Connect, with a worker of one's own only where no URL is set. Raises ConfigError, StoreUnavailable.

    With ``look``, an embedded server is left as it was found. Malformed records that were met are named at the end.
    """
    account = lane_account(settings, api_key_from_env())
    local = None if settings.redis_url else await Local.acquire(settings, look=look)
    store = RunStore(local.url if local else settings.redis_url, settings)
    try:
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                await store.ping()
        except TimeoutError:
            raise StoreUnavailable(f"Redis at {safe_url(store.url)} takes the connection and says nothing") from None
        if local is not None and with_worker:
            await local.ensure_worker(store)
        yield Link(store, account, local)
    finally:
        for said in left_out(store.unreadable.found):
            click.echo(f"gemqueue: {stripped(said)}", err=True)
        await store.aclose()
        if local is not None:
            await local.release()
