"""``gemqueue admin return``: a batch that its account cannot submit goes back to the pool that it came from.

Its life ends as that of a batch whose job came to nothing, but that there was no job: under a claim of its submit step,
so that nobody else can begin one, it is ended and closed, and its segments wait in the pool's lane. A death in between
is made good by the same command, or by a worker of the account, whose resolver needs no key for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue.effects import Effect, effect
from gemqueue.errors import ConfigError
from gemqueue.policy.holds import waits_for
from gemqueue.policy.pools import RETURNED, why_kept
from gemqueue.records import Batch
from gemqueue.states import BatchState, Step
from gemqueue.store.batches import JobEnd
from gemqueue_workers.stages.contents import BatchContents

if TYPE_CHECKING:
    from gemqueue.store.batches import Claim
    from gemqueue.store.store import Store


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """How many prompts of the batch went back to the pool, now or before a death; settled ones did not."""

    batch: str
    pool: str
    prompts: int


async def give_back(store: Store, id_: str) -> Returned:
    """Give a batch back to its pool; asking again changes nothing. Raises ConfigError where that cannot be."""
    batch = await store.batch(id_)
    if batch is None:
        raise ConfigError(
            f"batch {id_[:80]!r} is not known (any more): `gemqueue admin batches` lists those that are open"
        )
    prompts = (await BatchContents.load(store, id_)).open_prompts()
    if batch.job_state != RETURNED:
        await _end(store, batch)
    if batch.state is not BatchState.CLOSED:
        await _close(store, batch)
    return Returned(batch=id_, pool=batch.pool, prompts=prompts)


async def _end(store: Store, batch: Batch) -> None:
    if why := why_kept(batch):
        raise ConfigError(f"batch {batch.id} stays: {why}")
    claim, record = await _claim(store, Step.SUBMIT, batch)
    if why := why_kept(record):
        await store.release(claim, 0.0)
        raise ConfigError(f"batch {batch.id} stays: {why}")
    with effect(Effect.RETURN_END):
        await store.end(claim, JobEnd(job_state=RETURNED))


async def _close(store: Store, batch: Batch) -> None:
    try:
        claim, _ = await _claim(store, Step.RESOLVE, batch)
    except ConfigError:
        now = await store.batch(batch.id)
        if now is None or now.state is BatchState.CLOSED:
            return  # a worker's resolver was quicker
        raise
    word = "closing"
    while word == "closing":
        with effect(Effect.RETURN_CLOSE):
            word, _ = await store.close(claim, give_back=True)


async def _claim(store: Store, step: Step, batch: Batch) -> tuple[Claim, Batch]:
    """Not against the pause after a change of the server: there may be a job then that no record knows."""
    account = batch.lane.account
    await store.hasten(step, batch.id, account)
    with effect(Effect.RETURN_CLAIM):
        taken = await store.claim(step, batch.id, account)
    if taken is not None and isinstance(taken[1], Batch):
        return taken[0], taken[1]
    pauses = (await store.pauses(waits_for(batch.lane, batch.pool))).values()
    why = next((pause.text for pause in pauses if pause.text), "a worker holds it at the moment")
    raise ConfigError(f"batch {batch.id} cannot be taken: {why}; repeat the command later")
