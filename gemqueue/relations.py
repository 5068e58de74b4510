"""Limits have relations, and values a form: what must hold between settings, and what to say where it does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gemqueue.errors import ConfigError
from gemqueue.inputs import DeleteFiles

if TYPE_CHECKING:
    from gemqueue.config import Settings

_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def check_settings(settings: Settings) -> None:
    """Raise ConfigError for the first relation between settings that does not hold."""
    for holds, message in _relations(settings) + _file_relations(settings):
        if not holds:
            raise ConfigError(f"Settings: {message}")


def _relations(s: Settings) -> tuple[tuple[bool, str], ...]:
    positive = (name for name in s.__struct_fields__ if name.endswith(("_s", "_ms", "_max")) and name != "linger_s")
    below = next((name for name in positive if not 0 < getattr(s, name) < math.inf), None)
    return (
        (below is None, f"{below} must be a number above 0"),
        (0 <= s.linger_s < math.inf, "linger_s must be a number, 0 or above"),
        (s.lease_s > 1.5 * s.create_timeout_s, "lease_s must be above 1.5 x create_timeout_s"),
        (
            s.settle_s > s.create_timeout_s,
            "settle_s must be above create_timeout_s, by the lag of the provider's listing",
        ),
        (s.drain_s > s.create_timeout_s, "drain_s must be above create_timeout_s: a create is never cut off"),
        (s.segment_prompts_max <= 1_000, "segment_prompts_max must be at most 1000: one script handles a segment"),
        (s.segment_bytes_max <= 1_040_000, "segment_bytes_max must be at most 1040000: the allocator's class"),
        (s.batch_bytes_max <= 2_000_000_000, "batch_bytes_max must be at most 2000000000: the Files API takes no more"),
        (s.batch_prompts_max >= 1, "batch_prompts_max must be at least 1"),
        (s.prompt_bytes_max <= s.batch_bytes_max, "prompt_bytes_max must be at most batch_bytes_max"),
        (s.prompt_bytes_max <= s.buffer_bytes_max, "prompt_bytes_max must be at most buffer_bytes_max"),
        (s.keep_delivered_s <= s.keep_outcome_s, "keep_delivered_s must be at most keep_outcome_s"),
        (
            s.keep_delivered_s >= max(1, s.submit_timeout_s),
            "keep_delivered_s must be at least submit_timeout_s: a segment that is forgotten could be submitted again",
        ),
        (s.backoff_first_s <= s.backoff_max_s, "backoff_first_s must be at most backoff_max_s"),
        (s.poll_first_s <= s.poll_max_s, "poll_first_s must be at most poll_max_s"),
        (s.retry_first_s <= s.retry_max_s, "retry_first_s must be at most retry_max_s"),
        (
            not s.webhook_url or _is_callback(s.webhook_url),
            "webhook_url must be https://host[:port]/path (http only on loopback), without user, query or fragment",
        ),
        (s.durability in {"local", "replicated"}, 'durability must be "local" or "replicated"'),
        (
            s.durability == "local" or bool(s.redis_url),
            'durability = "replicated" needs redis_url: the embedded server has no replica',
        ),
        (
            s.durability == "local" or s.replicate_s <= min(s.lease_s / 6, s.submit_timeout_s),
            "replicate_s must be at most lease_s / 6 and submit_timeout_s: a step waits for it under its lease",
        ),
        (
            _is_policy(s.slow_policy),
            'slow_policy must be "wait", "cancel" or "split", with exceptions as in "wait gemini-2.5-pro=split"',
        ),
        (s.slow_after_s < 48 * 3600, "slow_after_s must be below the 48 hours after which a job expires by itself"),
        (s.tier in {"", "1", "2", "3"}, 'tier must be "1", "2" or "3", or empty where it is not known'),
        (
            s.deadline_policy in {"batch", "flex", "standard"},
            'deadline_policy must be "batch", "flex" or "standard": the dearest way that a prompt may go',
        ),
        (s.standard_lead_s < s.flex_lead_s, "standard_lead_s must be below flex_lead_s: standard is what follows flex"),
        (s.interactive_calls_max <= 48, "interactive_calls_max must be at most 48: a process has 64 connections"),
        (
            s.schema_dialect in {"schema", "json_schema"},
            'schema_dialect must be "schema" or "json_schema": how a class goes out as a response schema',
        ),
        (s.api_version in {"v1", "v1beta"}, 'api_version must be "v1" or "v1beta"'),
        (
            _is_name(s.queue, 64) and "." not in s.queue and s.queue[0] not in "-_",
            "queue must be 1 to 64 of a-z 0-9 - _, beginning with a letter or digit",
        ),
        (not s.account or _is_name(s.account, 64), "account must be 1 to 64 of a-z 0-9 - _ ."),
        (not s.pool or (_is_name(s.pool, 64) and "." not in s.pool), "pool must be 1 to 64 of a-z 0-9 - _"),
        (not s.account.startswith("pool."), 'account must not begin with "pool.": pools are called so'),
        (
            not s.pool or s.deadline_policy == "batch",
            'deadline_policy must be "batch" with a pool: submit what may leave its batch lane without pool',
        ),
    )


def _file_relations(s: Settings) -> tuple[tuple[bool, str], ...]:
    return (
        (
            s.delete_files in set(DeleteFiles),
            'delete_files must be "ended", "running" or "never": when files are deleted',
        ),
        (
            s.stored_bytes_max <= 20_000_000_000,
            "stored_bytes_max must be at most 20000000000: the Files API stores no more for a project",
        ),
    )


def _is_callback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_plain = not any(char in url for char in "@?#\\ ") and url.isascii() and url.isprintable()
    local = parts.scheme == "http" and host in {"localhost", "127.0.0.1", "::1"}
    return bool(host) and is_plain and (parts.scheme == "https" or local)


def _is_policy(text: str) -> bool:
    words = [word.rpartition("=") for word in text.split()]
    return bool(words) and all(
        policy in {"wait", "cancel", "split"} and bool(sep) == bool(model) for model, sep, policy in words
    )


def _is_name(text: str, length_max: int) -> bool:
    return 0 < len(text) <= length_max and set(text) <= _NAME_CHARS
