"""Ids, and what they say by themselves.

A prompt's key is ``<segment id>.<index>``: ASCII, unguessable, unique for ever. A segment id begins with its shard (two
hex digits), so a key says by itself where its outcome lies. A retry segment's id ends in the fence of the requeue that
made it, so the same requeue makes the same id.
"""

from __future__ import annotations

import secrets

from gemqueue.errors import ConfigError

SHARD = "00"
_ID_BYTES = 10


def new_segment_id() -> str:
    """A segment id of 22 characters, unguessable."""
    return SHARD + secrets.token_hex(_ID_BYTES)


def new_batch_id() -> str:
    """A batch id of 23 characters; it starts with its shard and a ``b``."""
    return f"{SHARD}b{secrets.token_hex(_ID_BYTES)}"


def new_producer_id() -> str:
    """A producer id, never reused."""
    return f"{SHARD}p{secrets.token_hex(8)}"


def new_store_id() -> str:
    """The id of a queue in one server, which is drawn when the queue has its first run there."""
    return secrets.token_hex(8)


def retry_segment_id(batch: str, fence: int, number: int) -> str:
    """The id of the ``number``-th retry segment that the requeue under ``fence`` makes from ``batch``."""
    return f"{batch}r{fence}-{number}"


def rescue_segment_id(batch: str, fence: int, number: int) -> str:
    """The id of the ``number``-th segment that the rescue step under ``fence`` takes out of ``batch``."""
    return f"{batch}x{fence}-{number}"


def split_key(key: str) -> tuple[str, int]:
    """Segment id and index of a key. Raises ConfigError when it is not a key of gemqueue's."""
    segment, dot, index = key.rpartition(".")
    if not dot or not segment or not index.isascii() or not index.isdigit() or not segment.isascii() or len(key) > 128:
        raise ConfigError(f"{key[:80]!r} is not a key: a key is what future.key says, like 00c0ffee.17")
    return segment, int(index)
