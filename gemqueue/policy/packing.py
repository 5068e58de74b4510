"""When a lane is full enough to be packed, and how large its first batches are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy.turnaround import LIFE_S, Turnaround
from gemqueue.records import BATCH, Lane

if TYPE_CHECKING:
    from gemqueue.config import Settings

INTERACTIVE_BYTES_MAX = 32_000_000
"""Of an interactive batch: its bodies are in memory while it is under way."""


def full_limits(settings: Settings, lane: Lane | None = None) -> dict[str, int]:
    """When a lane counts as full, as the scripts take it; interactive ones are packed at once, into small batches."""
    limits = {
        "prompts": settings.batch_prompts_max,
        "raw_bytes": settings.batch_bytes_max,
        "tokens": settings.batch_tokens_max,
        "linger_ms": int(settings.linger_s * 1000),
        "review_ms": int(1000 * max(1.0, 5 * settings.sweep_s)),
    }
    if lane is not None and lane.interactive:
        raw_bytes = min(settings.batch_bytes_max, INTERACTIVE_BYTES_MAX)
        prompts = min(settings.batch_prompts_max, settings.interactive_prompts_max)
        limits |= {"prompts": prompts, "raw_bytes": raw_bytes, "linger_ms": 0}
    return limits


def first_review_ms(settings: Settings, lane: Lane, deadline_at: int) -> int:
    """How long a segment waits for the rescue step's first review before it may be packed; 0 where nobody will."""
    if not deadline_at or settings.deadline_policy == BATCH or lane.interactive:
        return 0
    return full_limits(settings)["review_ms"]


def proven(known: Turnaround | None) -> bool:
    """Whether jobs of the model are known to end before they expire."""
    return known is not None and known.p50_s < LIFE_S * 0.9


def first_batch_prompts(known: Turnaround | None, open_batches: int, settings: Settings) -> int:
    """The most prompts of a batch: few for the first ten of a model of which no job has succeeded yet.

    They are only smaller, not one after the other: a million prompts make ten small batches, and the rest large ones.
    """
    small = not proven(known) and open_batches < settings.first_batches_max
    return min(settings.first_prompts_max, settings.batch_prompts_max) if small else settings.batch_prompts_max
