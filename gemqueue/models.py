"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.ids import (
    SHARD,
    new_batch_id,
    new_producer_id,
    new_segment_id,
    rescue_segment_id,
    retry_segment_id,
    split_key,
)
from gemqueue.records import BATCH, Batch, Failure, Lane, LaneState, Onward, SegmentMeta, WebhookHealth

__all__ = [
    "BATCH",
    "SHARD",
    "Batch",
    "Failure",
    "Lane",
    "LaneState",
    "Onward",
    "SegmentMeta",
    "WebhookHealth",
    "new_batch_id",
    "new_producer_id",
    "new_segment_id",
    "rescue_segment_id",
    "retry_segment_id",
    "split_key",
]

warnings.warn(
    "gemqueue.models is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
