"""``gemqueue serve``: store, keys and receiver put together, and the server around them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from gemqueue.clock import clock_from_env
from gemqueue.config import DEFAULT_BASE_URL, data_dir
from gemqueue.embedded.server import acquire
from gemqueue.errors import ConfigError
from gemqueue.extras import missing
from gemqueue.store.store import Store
from gemqueue_adapters.jwks import KeySource
from gemqueue_workers.serve.app import WEBHOOK_PATH, build
from gemqueue_workers.serve.guard import is_loopback
from gemqueue_workers.serve.receiver import Receiver
from gemqueue_workers.serve.server import listen, serve_app, url_of
from gemqueue_workers.serve.signing_secrets import SigningSecrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from gemqueue.clock import Clock
    from gemqueue.config import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.serve")

_OPEN: Final = (
    "page and metrics can be read by all who reach this address, and ask for no login: add --webhook-only, or put a "
    "proxy with one in front"
)


async def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    webhook_only: bool,
    ready_file: Path | None,
    hosts: tuple[str, ...] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, on the URL's store or the embedded one. Raises ConfigError, StoreUnavailable."""
    clock, secrets = clock_from_env(), SigningSecrets()
    keys = _keys(settings, clock)
    with listen(host, port) as listener:
        async with _stored(settings) as reachable:
            store = Store(reachable.redis_url, reachable, clock, role="serve")
            receiver = Receiver(store=store, settings=reachable, clock=clock, secrets=secrets, keys=keys)
            receiver.tally.start()
            url = url_of(listener)
            log.info("serve.started", url=url, webhook=url + WEBHOOK_PATH, secrets=len(secrets.known))
            if not (webhook_only or is_loopback(host)):
                log.warning("serve.open", warning=_OPEN)
            try:
                app = build(store, reachable, receiver, webhook_only=webhook_only)
                await serve_app(app, reachable, listener, ready_file, (host, *hosts))
            finally:
                await receiver.tally.stop()
                await store.aclose()
                if keys is not None:
                    await keys.aclose()
                log.info("serve.stopped")


@asynccontextmanager
async def _stored(settings: Settings) -> AsyncGenerator[Settings]:
    """The settings with a URL: that of the embedded server, where none is set."""
    if settings.redis_url:
        yield settings
        return
    server = await acquire(data_dir(settings))
    try:
        yield msgspec.structs.replace(settings, redis_url=server.url)
    finally:
        await server.release()


def _keys(settings: Settings, clock: Clock) -> KeySource | None:
    if said := missing("webhooks", "webhook_url is set, and verifying its events (Ed25519)"):
        if settings.webhook_url:
            raise ConfigError(said)
        return None
    if settings.emulate and not settings.base_url:
        return None
    base_url = settings.base_url or DEFAULT_BASE_URL
    return KeySource(base_url=base_url, url=settings.webhook_jwks_url, emulate=settings.emulate, clock=clock)
