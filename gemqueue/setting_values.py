"""What values settings may have, where a type does not say it."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from gemqueue.errors import ConfigError
from gemqueue.urls import host_of, safe_url

_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class DeleteFiles(StrEnum):
    """When files are deleted at the provider."""

    ENDED = "ended"
    """When the job has ended: no assumption is needed."""
    RUNNING = "running"
    """An input file as soon as its job runs: makes room, and assumes that the job does not need it any more."""
    NEVER = "never"
    """They go by themselves, 48 h after they were made."""


def provider_host(base_url: str) -> str:
    """The host that names the account, or an empty string. Raises ConfigError where it cannot be read."""
    try:
        return host_of(base_url)
    except ValueError:
        raise ConfigError(
            f"base_url / GEMQUEUE_BASE_URL ({safe_url(base_url)}) cannot be read: write it as "
            "https://host[:port][/prefix], with an IPv6 address in brackets"
        ) from None


def is_callback(url: str) -> bool:
    """Whether the provider can call it: https (http on loopback), with a host, without user, query or fragment."""
    try:
        parts = urlsplit(url)
        host, _ = host_of(url), parts.port
    except ValueError:
        return False
    is_plain = not any(char in url for char in "@?#\\ ") and url.isascii() and url.isprintable()
    local = parts.scheme == "http" and host in {"localhost", "127.0.0.1", "::1"}
    return bool(host) and is_plain and (parts.scheme == "https" or local)


def is_policy(text: str) -> bool:
    """Whether it says what to do about slow jobs: a word, and ``model=word`` where that differs."""
    words = [word.rpartition("=") for word in text.split()]
    return bool(words) and all(
        policy in {"wait", "cancel", "split"} and bool(sep) == bool(model) for model, sep, policy in words
    )


def is_name(text: str, length_max: int) -> bool:
    """Whether Redis keys can carry it: a-z 0-9 - _ . and not longer than that."""
    return 0 < len(text) <= length_max and set(text) <= _NAME_CHARS
