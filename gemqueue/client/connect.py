"""Finding the server: settings from wherever they come, an account, and a Redis that answers, or one of one's own."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from gemqueue.accounts import api_key_from_env, lane_account
from gemqueue.client.names import warn_of_key
from gemqueue.config import Settings, as_given, load_settings
from gemqueue.errors import StoreUnavailable
from gemqueue.extras import need
from gemqueue.language.checks import check_queue_name
from gemqueue.store.producer import ProducerStore
from gemqueue.urls import safe_url

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from gemqueue.embedded.local import Local

log = logging.getLogger("gemqueue")

_CONNECT_S_MAX = 8.0


class Reached(NamedTuple):
    """A server that answers, whose lanes are written to, and the embedded default where it is that one's."""

    store: ProducerStore
    account: str
    local: Local | None


async def reach(settings: Settings | None, given: dict[str, Any], undo: AsyncExitStack) -> Reached:
    """Reach the server that ``settings``, else file and environment, and over them the ``given`` ones name.

    What is opened is closed by ``undo``. Raises ConfigError; StoreUnavailable when no server answers within seconds.
    """
    wrapper = None if isinstance(given.get("seal_wrapper", ""), str) else given.pop("seal_wrapper")
    settings = _load(settings, given)
    check_queue_name(settings.queue)
    if settings.seal:
        need("seal", "seal = true")
    account = lane_account(settings, api_key_from_env())
    local = None
    if not settings.redis_url:
        from gemqueue.embedded.local import Local  # noqa: PLC0415 - who has a URL need not wait for its imports

        local = await Local.acquire(settings)
        undo.push_async_callback(local.release)
    store = ProducerStore(local.url if local is not None else settings.redis_url, settings, role="producer")
    undo.push_async_callback(store.aclose)
    await _answering(store)
    store.seals.given = wrapper
    await store.seals.begin()
    warn_of_key(account, await store.key_warning(account))
    if local is not None:
        await local.ensure_worker(store)
    return Reached(store, account, local)


def _load(settings: Settings | None, given: dict[str, Any]) -> Settings:
    if settings is None:
        return load_settings(**given)
    given = {name: value for name, value in given.items() if value is not None}
    return load_settings(env={}, **(as_given(settings) | given))


async def _answering(store: ProducerStore) -> None:
    try:
        async with asyncio.timeout(_CONNECT_S_MAX):
            await store.ping()
            warnings = await store.durability_warnings()
    except TimeoutError:
        raise StoreUnavailable(
            f"Redis at {safe_url(store.url)} takes the connection and says nothing; "
            "check redis_url / GEMQUEUE_REDIS_URL and that it is a Redis"
        ) from None
    for warning in warnings:
        log.warning(warning)
