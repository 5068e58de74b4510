"""Whose lanes prompts go to: the account, named or made of an API key, or the pool; and the secrets, from variables."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gemqueue.config import DEFAULT_BASE_URL
from gemqueue.errors import ConfigError
from gemqueue.setting_values import provider_host
from gemqueue.variables import API_KEY_ENVS, WEBHOOK_SECRETS_ENV, secret_from_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.config import Settings


def webhook_secrets_from_env(env: Mapping[str, str] | None = None) -> list[str]:
    """The signing secrets of registered webhooks, from ``GEMQUEUE_WEBHOOK_SECRETS``, apart by blanks or commas.

    Several live at a time while one is rotated. Like the API key they are no setting: they are in no settings file and
    no log; ``GEMQUEUE_WEBHOOK_SECRETS_FILE`` names a file of their own. Raises ConfigError where that cannot be read.
    """
    return secret_from_env(WEBHOOK_SECRETS_ENV, env).replace(",", " ").split()


def api_key_from_env(env: Mapping[str, str] | None = None) -> str:
    """``GOOGLE_API_KEY``, else ``GEMINI_API_KEY`` (the SDK's order), else an empty string.

    Each may be given as a file (``GOOGLE_API_KEY_FILE``). Raises ConfigError where that cannot be read.
    """
    return next((key for name in API_KEY_ENVS if (key := secret_from_env(name, env))), "")


def account_id(settings: Settings, api_key: str) -> str:
    """The account that lanes are bound to: the provider's host and the configured name, else a fingerprint of the key.

    An emulated account is another account than any real one, whatever the address, so that an emulator's answers and
    real prompts never meet. Raises ConfigError when there is neither a name nor a key, or no host can be read.
    """
    if settings.emulate:
        return f"emulated.{settings.account or 'local'}"
    host = provider_host(settings.base_url or DEFAULT_BASE_URL)
    if settings.account:
        return f"{host}.{settings.account}"
    if not api_key:
        raise ConfigError(
            "No API key: set GOOGLE_API_KEY or GEMINI_API_KEY (or `account`, in a process that only submits), "
            "or ask for the emulator with --emulate, GEMQUEUE_EMULATE=1 or Queue.connect(emulate=True)"
        )
    return f"{host}.{hashlib.sha256(api_key.encode()).hexdigest()[:12]}"


def pool_id(settings: Settings) -> str:
    """What the pool's lanes carry in an account's place; empty without a pool. An emulated pool is another one."""
    if not settings.pool:
        return ""
    return f"{'emulated.' if settings.emulate else ''}pool.{settings.pool}"


def lane_account(settings: Settings, api_key: str) -> str:
    """Whose lanes prompts go to: the pool's, which needs no key, else the account's. Raises as ``account_id`` does."""
    return pool_id(settings) or account_id(settings, api_key)


def made_of_key(settings: Settings, account: str) -> bool:
    """Whether this account of the settings is a real one that is named by nothing but its API key."""
    return not (settings.emulate or settings.account) and account != pool_id(settings)
