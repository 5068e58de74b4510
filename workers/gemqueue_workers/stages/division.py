"""A refused batch is divided until the line that the provider refuses stands alone (design section 6.5).

A named line goes at once into a batch of its own. Where none is named, the batch is halved: by segments while it has
several, then by lines. The parts are sealed batches, so the wrong line is found in a number of creates that grows
with the logarithm of the batch, and the others are answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.effects import Effect, effect
from gemqueue.ids import new_batch_id
from gemqueue_workers.stages.retries import Part, RetryWriter, Why

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue_workers.stages.contents import BatchContents
    from gemqueue_workers.stages.loop import Kit, Lease

_SLICE = 500


async def divide(kit: Kit, lease: Lease, batch: Batch, contents: BatchContents, line: int | None) -> None:
    """Divide a sealed batch, then put what is left of it back, due now."""
    named = contents.at_line(line) if line is not None else None
    open_sources = [source for source in contents.sources if source.lines]
    if named is not None:  # one line fewer: that needs no bound
        await _isolate(kit, lease, batch, (named[0], [named[1]]), batch.refusals)
    elif len(contents.sources) > 1:
        await _halve(kit, lease, batch, len(contents.sources))
    else:
        source = open_sources[0]
        half = list(source.lines[: max(1, len(source.lines) // 2)])
        await _isolate(kit, lease, batch, (source, half), batch.refusals + 1)
    with effect(Effect.SUBMIT_RELEASE):
        await kit.store.release(lease.claim, 0.0)


async def _halve(kit: Kit, lease: Lease, batch: Batch, segments: int) -> None:
    left = segments // 2
    while left > 0:
        with effect(Effect.SUBMIT_SPLIT):
            await kit.store.split(lease.claim, new_batch_id(), min(left, _SLICE), batch.refusals + 1)
        left -= _SLICE


async def _isolate(kit: Kit, lease: Lease, batch: Batch, part: Part, refusals: int) -> None:
    meta = part[0].meta
    why = Why(
        attempt=meta.attempt,
        requeues=meta.requeues,
        delay_ms=0,
        new_batch=new_batch_id(),
        refusals=refusals,
    )
    with effect(Effect.SUBMIT_SPLIT):
        await RetryWriter(kit, lease, batch).move(lease.next_retry_id(), [part], why)
