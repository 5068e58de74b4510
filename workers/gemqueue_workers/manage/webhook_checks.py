"""What ``gemqueue doctor`` says of webhooks: the settings held against each other, and whether somebody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import httpx

from gemqueue.clock import clock_from_env
from gemqueue.config import DEFAULT_BASE_URL
from gemqueue.errors import ConfigError
from gemqueue.extras import missing
from gemqueue.urls import shown_url
from gemqueue.variables import WEBHOOK_SECRETS_ENV, source_of
from gemqueue_adapters.clients import make_client
from gemqueue_adapters.jwks import KeySource
from gemqueue_adapters.webhooks import SECRETS_MAX, is_secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from gemqueue.config import Settings

WEBHOOK_PATH: Final = "/webhook"
_WAIT_S_MAX: Final = 3.0
_METHOD_NOT_ALLOWED: Final = 405


class Heard(NamedTuple):
    """ok, warning or failed, and what to do."""

    state: str
    said: str


async def listening(settings: Settings, secrets: Sequence[str]) -> AsyncGenerator[Heard]:
    """Everything that can be said of webhooks from here; one finding at least."""
    if not settings.webhook_url and not secrets and not settings.webhook_jwks_url:
        yield Heard("ok", "none: jobs are polled")
        return
    for finding in [*_of_secrets(secrets), *await _of_keys(settings)]:
        yield finding
    if not settings.webhook_url:
        yield Heard(
            "ok", "webhook_url is not set: only hooks that are registered tell of jobs (gemqueue webhooks list)"
        )
        return
    yield await _of_address(settings)


def _of_secrets(secrets: Sequence[str]) -> list[Heard]:
    bad = [str(number) for number, secret in enumerate(secrets, 1) if not is_secret(secret)]
    found: list[Heard] = []
    source = source_of(WEBHOOK_SECRETS_ENV) or WEBHOOK_SECRETS_ENV
    if bad:
        what = f"{source}: number {', '.join(bad)} is no signing secret (whsec_ and base64)"
        found.append(Heard("failed", f"{what}; gemqueue serve does not start"))
    if len(secrets) > SECRETS_MAX:
        found.append(Heard("warning", f"{source}: only the first {SECRETS_MAX} of {len(secrets)} count"))
    return found


async def _of_keys(settings: Settings) -> list[Heard]:
    """Where the keys of a job's own webhooks come from; asked for nothing here."""
    lacking = missing("webhooks", "webhook_url is set, and verifying its events where gemqueue serve runs")
    if settings.webhook_url and lacking:
        return [Heard("warning", lacking)]
    if settings.emulate and not settings.base_url:
        return []
    base_url = settings.base_url or DEFAULT_BASE_URL
    try:
        keys = KeySource(
            base_url=base_url, url=settings.webhook_jwks_url, emulate=settings.emulate, clock=clock_from_env()
        )
    except ConfigError as error:
        return [Heard("failed", f"{error}; gemqueue serve does not start")]
    await keys.aclose()
    if settings.webhook_jwks_url and httpx.URL(settings.webhook_jwks_url).host != httpx.URL(base_url).host:
        said = (
            f"the host of webhook_jwks_url ({shown_url(settings.webhook_jwks_url)}) decides which events are believed"
        )
        return [Heard("warning", f"{said}; it is not the provider's host")]
    return []


async def _of_address(settings: Settings) -> Heard:
    """Whether somebody answers at webhook_url as ``gemqueue serve`` does: it takes POST alone."""
    url, shown = httpx.URL(settings.webhook_url), shown_url(settings.webhook_url)
    if url.scheme == "http" and not settings.emulate:
        return Heard("warning", f"{shown} is on this host alone: the provider cannot reach it")
    try:
        client = make_client(timeout=_WAIT_S_MAX, trust_env=url.scheme == "https")
        async with client, client.stream("GET", url) as reply:
            status = reply.status_code
    except (httpx.HTTPError, OSError) as error:
        why = str(error) or type(error).__name__
        return Heard("warning", f"{shown} does not answer from here ({why}): is gemqueue serve running behind it?")
    if status == _METHOD_NOT_ALLOWED:
        return Heard("ok", f"{shown} answers")
    said = f"{shown} answers a GET with HTTP {status}, not with 405 as gemqueue serve does"
    return Heard("warning", f"{said}: is what comes there passed on to its {WEBHOOK_PATH}?")
