"""When a lane is full enough to be packed, how large its first batches are, and when it is better not packed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue.policy import holds, pools
from gemqueue.policy.turnaround import LIFE_S, Turnaround
from gemqueue.records import BATCH, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.config import Settings
    from gemqueue.policy.holds import QuotaHold
    from gemqueue.policy.pools import Room
    from gemqueue.policy.quota import Limits
    from gemqueue.records import LaneState

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


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """Why a lane is not packed yet: a batch of its model, of this priority, stands in line and finds no room."""

    ahead: str
    priority: int
    reason: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed batches of an account that have no room reserved, in the order in which they get it.

    ``priority`` is the highest of what waits in the lane that asks.
    """

    batches: Sequence[str] = ()
    priority: int = 0


def why_parked(room: Room, line: Line, lane: LaneState, limits: Limits, bounds: Limits) -> Parked | None:
    """Whether the lane is better packed later: what is sealed is chosen, and cannot be overtaken any more.

    While there is no room, one batch of each model is sealed ahead, so that room that comes is used at once; the rest
    waits in its lane, where priority, deadline and the tenants' shares say who is next. What is more urgent than all
    of its model that stand in line is sealed as well, and goes before them. ``bounds`` are those of one batch.
    """
    model = lane.lane.model
    standing = [one for one in room.batches if one.id in line.batches and one.lane.model == model]
    if not standing:
        return None
    first = max(standing, key=lambda one: (one.priority, -line.batches.index(one.id)))
    if line.priority > first.priority:
        return None
    waits = [one.hold for one in room.batches if one.id in line.batches and _waits_for(one.held_for, model)]
    if not waits:
        tokens, raw_bytes = min(lane.tokens, bounds.tokens_max), min(lane.raw_bytes, bounds.stored_bytes_max)
        held = pools.no_room(room, model, int(tokens * lane.token_ratio), limits, raw_bytes)
        waits = [holds.why_no_room(_in_use(held))] if held is not None else []
    reason = waits[0].text or "a batch of the model waits for room" if waits else ""
    return Parked(ahead=first.id, priority=first.priority, reason=reason) if waits else None


def _in_use(held: QuotaHold) -> QuotaHold:
    """What stands in line counts, and does not use anything yet."""
    return msgspec.structs.replace(held, used=min(held.used, held.limit))


def _waits_for(held_for: str, model: str) -> bool:
    """Whether a batch in line waits for something that the model's batches need, too."""
    return bool(held_for) and ("/" not in held_for or held_for.endswith(f"/{model}"))
