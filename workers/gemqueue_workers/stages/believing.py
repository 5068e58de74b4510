"""How a stage waits for what it does not believe yet: the evidence goes into the record, and the step back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.policy import beliefs, believed
from gemqueue.policy.backoff import backoff_s
from gemqueue.policy.beliefs import Belief
from gemqueue.policy.deadlines import brings_nothing
from gemqueue.records import BATCH, Hold, Note
from gemqueue.states import Cause
from gemqueue_workers.stages.loop import held_since_first

if TYPE_CHECKING:
    from gemqueue.policy.beliefs import Evidence, Verdict
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.beliefs")

_SEGMENTS_MAX = 500


class Look(msgspec.Struct, frozen=True):
    """The evidence with the look that was just taken, and what follows from it."""

    evidence: Evidence
    verdict: Verdict


def look(kit: Kit, batch: Batch, shown: str, now_ms: int, end_ms: int = 0) -> Look:
    """Add what a look has shown to what the batch's record holds; a person's word is the last where it agrees."""
    seen, pace = beliefs.evidence_of(batch), beliefs.pace_of(shown)
    gap_s = beliefs.gap_s(seen, pace, kit.settings, end_ms)
    evidence = beliefs.looked(seen, shown, now_ms, gap_s, keeps=0 < end_ms <= now_ms)
    if believed.is_decided(batch, evidence):
        return Look(evidence, beliefs.Verdict(concluded=True))
    return Look(evidence, beliefs.judge(evidence, pace, now_ms, kit.settings, end_ms))


async def wait(kit: Kit, lease: Lease, batch: Batch, taken: Look, *, name: Effect, also: Note | None = None) -> None:
    """Put the step back until the next look is due; results that are a little late are looked for sooner."""
    settings = kit.settings
    delay_s = taken.verdict.delay_s
    if taken.evidence.n <= 1 and taken.evidence.belief is Belief.RESULTS_GONE:
        delay_s = min(delay_s, backoff_s(settings.backoff_first_s, settings.backoff_max_s, batch.tries, batch.id))
    note = taken.evidence.note().also(Note(tries=batch.tries + 1)).also(also or Note())
    hold = await held_since_first(kit, batch, Hold(Cause.DOUBT, believed.belief_words(batch, taken.evidence, settings)))
    log.warning("belief.waits", batch=batch.id, job=batch.job, what=taken.evidence.what, looks=taken.evidence.n)
    with effect(name):
        await kit.store.release(lease.claim, delay_s, note, hold=hold)
    if brings_nothing(taken.evidence):
        await _offer_other_ways(kit, batch)


async def _offer_other_ways(kit: Kit, batch: Batch) -> None:
    """What is wanted by a time need not wait for a batch that will hardly bring it: its segments are reviewed."""
    if kit.settings.deadline_policy == BATCH:
        return
    segments = await kit.store.manifest(batch.id)
    for start in range(0, len(segments), _SEGMENTS_MAX):
        await kit.store.reconsider(batch.lane, segments[start : start + _SEGMENTS_MAX])


async def contradicted(kit: Kit, lease: Lease, batch: Batch, name: Effect) -> None:
    """Take back all evidence, and put the step back for a while: the job goes on, whatever was said of its end."""
    delay_s = backoff_s(beliefs.unit_s(kit.settings), kit.settings.backoff_max_s, batch.tries, batch.id)
    note = beliefs.NOTHING_SEEN.note().also(Note(tries=batch.tries + 1))
    text = f"the job {batch.job} was seen to have ended, and goes on: its results are awaited"
    hold = await held_since_first(kit, batch, Hold(Cause.DOUBT, text))
    log.warning("belief.contradicted", batch=batch.id, job=batch.job, what=batch.seen_what, looks=batch.seen_n)
    with effect(name):
        await kit.store.release(lease.claim, delay_s, note, hold=hold)


async def concluded(kit: Kit, batch: Batch, taken: Look, prompts: int) -> None:
    """Count what is given up, which may be bought again."""
    if taken.verdict.by_age:
        await kit.store.add_count("concluded_by_age", 1)
    if prompts:
        await kit.store.add_count("bought_again", prompts)
    log.error(
        "belief.concluded",
        batch=batch.id,
        job=batch.job,
        what=taken.evidence.what,
        looks=taken.evidence.n,
        by_age=taken.verdict.by_age,
        prompts=prompts,
    )
