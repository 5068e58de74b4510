"""``gemqueue webhooks``: the hooks that are registered for the project at the provider."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from gemqueue.accounts import api_key_from_env
from gemqueue.config import DEFAULT_BASE_URL
from gemqueue_adapters.hooks import Hooks
from gemqueue_adapters.http import Http
from gemqueue_workers.screen import plain
from gemqueue_workers.settings import provider_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue_adapters.hooks import Hook


@asynccontextmanager
async def connected(settings: Settings) -> AsyncGenerator[Hooks]:
    """The provider's hooks of this project. Raises ConfigError where a key is missing."""
    http = Http(
        base_url=settings.base_url or DEFAULT_BASE_URL,
        api_key=provider_key(settings, api_key_from_env()),
        emulate=settings.emulate,
        timeout_s=settings.call_timeout_s,
    )
    hooks = Hooks(http, api_version=settings.api_version)
    try:
        yield hooks
    finally:
        await hooks.aclose()


def show_hooks(console: Console, hooks: list[Hook]) -> None:
    """Print them for a person; of secrets their last characters."""
    if not hooks:
        console.print("No webhook is registered.")
        return
    for hook in hooks:
        secrets = ", ".join(each.truncated_secret for each in hook.signing_secrets)
        rest = f"{hook.state}; {', '.join(hook.subscribed_events)}; secrets {secrets}"
        console.print(plain(f"{hook.id}  {hook.uri}"), soft_wrap=True)
        console.print(Text("  ").append(plain(rest)), soft_wrap=True)
