"""Prompts whose bodies Redis has lost while their records are live: they can be asked for by nobody any more.

A body goes with its segment's last outcome, in one script. One that is gone from a live segment was lost by the server:
a log cut short, a failover, an eviction, a hand. Each prompt of it that must be bought, or bought again, ends in a
failure of kind ``lost``, and the rest of the batch goes on. Answers that were bought before still count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue_workers.stages.collector import Collector
from gemqueue_workers.stages.contents import BatchContents, lost_bodies

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit, Lease


async def without_lost(kit: Kit, lease: Lease, batch: Batch) -> BatchContents:
    """What the batch still owes and can ask for; every open prompt without a body has failed as lost."""
    contents = await BatchContents.load(kit.store, batch.id)
    lost = await lost_bodies(kit.store, [source.meta.id for source in contents.sources if source.lines])
    if not lost:
        return contents
    without = await BatchContents.load(kit.store, batch.id, only=lost)
    await Collector(kit, lease, batch, without).fail_lost()
    return await BatchContents.load(kit.store, batch.id)
