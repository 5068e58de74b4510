"""Prompts whose bodies Redis has lost while their records are live: they can be asked for by nobody any more.

A body goes with its segment's last outcome, in one script. One that is gone from a live segment was lost by the server:
a log cut short, a failover, an eviction, a hand. So was one that is there and is not what was written: a turned bit,
half of it, the lines of others. Each prompt of it that must be bought, or bought again, ends in a failure of kind
``lost``, and the rest of the batch goes on. Answers that were bought before still count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue_workers.stages.collector import Collector
from gemqueue_workers.stages.contents import BatchContents, lost_bodies

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit, Lease


async def without_lost(kit: Kit, lease: Lease, batch: Batch, *, read: bool) -> BatchContents:
    """What the batch still owes and can ask for; every open prompt without a body has failed as lost.

    Without ``read`` a body that is there counts as one.
    """
    contents = await BatchContents.load(kit.store, batch.id)
    lost = await lost_bodies(kit.store, [source for source in contents.sources if source.lines], read=read)
    if not lost:
        return contents
    without = await BatchContents.load(kit.store, batch.id, only=lost)
    await Collector(kit, lease, batch, without).fail_lost(lost)
    return await BatchContents.load(kit.store, batch.id)
