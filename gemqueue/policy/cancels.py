"""When a running job's batch is read again, to see whether anybody still waits for one of its prompts. Pure.

To read a batch costs a call for each of its segments, so it is not done for each prompt that somebody cancels: the
batch counts those of its own, and is read when they may have been the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.config import Settings
    from gemqueue.records import Batch

UNPLACED_S: Final = 600.0
"""How often a batch is read because something was cancelled of which nobody knows which batch it was in."""


def unplaced(counts: Mapping[str, int]) -> int:
    """Prompts that were cancelled or rescued without their batch being told: by an older process, or after a retry."""
    return counts.get("cancelled", 0) + counts.get("rescued", 0) - counts.get("cancels_placed", 0)


def ask_again(batch: Batch, now_ms: int, settings: Settings) -> bool:
    """Whether to ask once more that a job is cancelled which still runs: what was said the first time may be wrong."""
    return batch.cancel_at > 0 and now_ms - batch.cancel_at >= settings.cancel_settle_s * 1000


def may_be_unwanted(batch: Batch, counts: Mapping[str, int], now_ms: int) -> bool:
    """Whether to read the batch: as many were cancelled since the last time as were open then, or nobody knows."""
    fresh = batch.cancels - batch.cancels_met
    if fresh > 0 and fresh >= batch.open_left:
        return True
    return unplaced(counts) != batch.unplaced_met and now_ms - batch.looked_at >= UNPLACED_S * 1000
