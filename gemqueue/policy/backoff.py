"""How long to wait before the next attempt, and what is counted until then. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from gemqueue.errors import ProviderError, Rejected, ShortRead, Transient
from gemqueue.policy.quota import spend_pauses_s
from gemqueue.records import Note

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.records import Batch


def backoff_s(first_s: float, max_s: float, failures: int, salt: str = "") -> float:
    """Exponential, doubling from ``first_s`` to ``max_s``, spread by up to a quarter that ``salt`` decides."""
    delay_s = min(max_s, first_s * 2.0 ** min(failures, 30))
    spread = (zlib.crc32(f"{salt}:{failures}".encode()) % 1000) / 1000
    return delay_s * (1 - spread / 4)


def crash_hold_s(batch: Batch, settings: Settings) -> float | None:
    """How long to leave a batch alone at whose steps workers keep dying; None when it is to be tried.

    ``crashes`` counts claims that ran out unreleased since the batch last moved on. From ``crashes_max`` on it is held
    once for each (``crashes_held``) and then tried again, so that nothing is given up.
    """
    if batch.crashes < settings.crashes_max or batch.crashes == batch.crashes_held:
        return None
    return backoff_s(settings.quota_backoff_s, settings.backoff_max_s, batch.crashes - settings.crashes_max, batch.id)


def transient_delay_s(batch: Batch, error: Transient, settings: Settings) -> float:
    """How long to leave a batch alone after a call that did nothing: the provider's wish, else backoff by its tries."""
    if error.spend and error.call in {"create", "upload", "answer"}:
        return max(spend_pauses_s(settings)[0], error.retry_after_s or 0)
    if error.retry_after_s is not None:
        return min(max(error.retry_after_s, settings.backoff_first_s), settings.backoff_max_s)
    first_s = settings.quota_backoff_s if error.quota else settings.backoff_first_s
    return backoff_s(first_s, settings.backoff_max_s, batch.tries, batch.id)


def counted(batch: Batch, error: Exception) -> Note:
    """What is counted when a step is put back for an error.

    Any error is a try. What a server has lost of a collection is read again so often, which is counted apart.
    """
    note = Note(tries=batch.tries + 1)
    return note.also(Note(short_reads=batch.short_reads + 1)) if isinstance(error, ShortRead) else note


def denied_creates(batch: Batch, error: ProviderError) -> int:
    """How many creates of the batch have been denied (404), this one included.

    Counted apart from its tries: quotas and outages say nothing of what a 404 is about.
    """
    return batch.denied_creates + (isinstance(error, Rejected) and error.missing)


def retry_delay_s(attempt: int, settings: Settings, salt: str = "") -> float:
    """How long rows wait before their ``attempt``-th retry, counted from 0."""
    return backoff_s(settings.retry_first_s, settings.retry_max_s, attempt, salt)
