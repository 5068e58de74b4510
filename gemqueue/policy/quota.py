"""Quotas as a resource: which limit holds, which one a refusal is about. Pure.

What is in use lies in the store's ledger (``lua/_quota.lua``): each batch reserves one open job of its account and its
estimated tokens of its model before it is uploaded, and gives them back when its job has ended. A refused create
shrinks the ceiling of the resource to blame, accepted ones let it grow back.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gemqueue.config import Settings
    from gemqueue.records import Batch

_JOBS_SUSPECT_SHARE = 0.5
_DIVIDE_AFTER = 4
_DIVISIONS_MAX = 6
_COUNTED_MIN = 10


class Resource(StrEnum):
    """What a create takes of an account."""

    JOBS = "jobs"
    """Open jobs of the account."""
    MODEL_JOBS = "model_jobs"
    """Open jobs of a model: our own limit, so that one that stalls leaves room for the others."""
    TOKENS = "tokens"
    """Enqueued tokens of a model."""
    SPEND = "spend"
    """Money: a spend cap, credits, billing. It has no amount here; the provider refuses, or does not."""
    STORED_BYTES = "stored_bytes"
    """Bytes of input files that the account stores for open jobs."""


class Reservation(msgspec.Struct, frozen=True):
    """A batch's entry in the ledger; ``until`` (ms) is 0 while it counts as open, else when its cool-off ends."""

    batch: str
    model: str
    tokens: int
    until: int


class Correction(msgspec.Struct, frozen=True):
    """What refusals have taught of one resource; ``since`` counts what was accepted after the last one.

    ``base`` is the ceiling as the last refusal left it, ``proven`` what has been in use before. Of ``spend`` there are
    ``refusals``, ``held_until`` (ms), ``probe`` and ``why``, the provider's words.
    """

    ceiling: float
    max: float
    base: float = 0
    proven: float = 0
    refusals: int = 0
    since: float = 0
    shrunk_at: float = 0
    held_until: float = 0
    probe: str = ""
    why: str = ""


class Ledger(msgspec.Struct, frozen=True):
    """An account's reservations, and the corrections in force by resource (``jobs``, ``tokens/<model>``)."""

    reservations: tuple[Reservation, ...]
    corrections: dict[str, Correction]

    @property
    def jobs(self) -> int:
        """Open jobs, those that cool off included."""
        return len(self.reservations)

    def tokens(self, model: str) -> int:
        """Enqueued tokens of a model, those that cool off included."""
        return sum(one.tokens for one in self.reservations if one.model == model)

    def room(self, model: str, limits: Limits) -> tuple[int, int]:
        """How many jobs and how many tokens of the model would be let in now; never below 0."""
        if Resource.SPEND in self.corrections:
            return 0, 0
        jobs_max, tokens_max = float(limits.jobs_max), float(limits.tokens_max)
        if (jobs := self.corrections.get(Resource.JOBS)) is not None:
            jobs_max = min(jobs_max, jobs.ceiling)
        if (tokens := self.corrections.get(f"{Resource.TOKENS}/{model}")) is not None:
            tokens_max = min(tokens_max, tokens.ceiling)
        of_model = sum(one.model == model for one in self.reservations)
        left = min(int(jobs_max) - self.jobs, limits.model_jobs_max - of_model)
        return max(0, left), max(0, int(tokens_max) - self.tokens(model))


class Limits(msgspec.Struct, frozen=True):
    """The configured limits of an account and a model."""

    jobs_max: int
    tokens_max: int
    model_jobs_max: int = 1_000_000
    stored_bytes_max: int = 10**15


def limits(settings: Settings, model: str, tiers: Mapping[str, tuple[int, ...]]) -> Limits:
    """What is configured: the tier's enqueued tokens where tier and model are known, never above the settings'."""
    known = tiers.get(model, ()) if settings.tier else ()
    tier = int(settings.tier or 0)
    tokens_max = min(settings.enqueued_tokens_max, known[tier - 1]) if len(known) >= tier > 0 else None
    tokens_max = settings.enqueued_tokens_max if tokens_max is None else tokens_max
    return Limits(settings.open_jobs_max, tokens_max, settings.model_jobs_max, settings.stored_bytes_max)


def spend_pauses_s(settings: Settings) -> tuple[float, float]:
    """The first pause after a refusal for want of money, and the longest: an hour and four by the shipped settings.

    They are 12 and 48 times ``backoff_max_s``, the longest pause of what mends itself: this is mended by a person, or
    by the next month, and each try uploads a whole file for nothing.
    """
    return 12 * settings.backoff_max_s, 48 * settings.backoff_max_s


def batch_tokens_max(settings: Settings, limit: Limits, token_ratio: float) -> int:
    """Estimated tokens of one batch: it must fit the whole limit, by what the provider really counts."""
    return max(1, int(min(settings.batch_tokens_max, limit.tokens_max) / token_ratio))


def blamed(named: str, ledger: Ledger, model: str, limit: Limits) -> Resource:
    """The resource that a refused create is about: ``named`` by the provider, which seldom does, or the likeliest."""
    if named:
        return Resource(named)
    jobs, tokens = ledger.jobs / limit.jobs_max, ledger.tokens(model) / limit.tokens_max
    return Resource.JOBS if jobs >= _JOBS_SUSPECT_SHARE and jobs > tokens else Resource.TOKENS


def must_divide(batch: Batch, refusals: int, *, alone: bool) -> bool:
    """Whether a batch that was refused again and again with nothing else enqueued may be over the whole limit."""
    due = refusals > 0 and refusals % _DIVIDE_AFTER == 0
    return alone and due and batch.prompts > 1 and batch.refusals < _DIVISIONS_MAX


def token_ratio(batch: Batch, counted: Iterable[int]) -> float | None:
    """Tokens that the provider counted for each that was estimated; None where too few prompts were counted."""
    known = [n for n in counted if n > 0]
    if len(known) < _COUNTED_MIN or not batch.tokens:
        return None
    return sum(known) / len(known) * batch.prompts / batch.tokens
