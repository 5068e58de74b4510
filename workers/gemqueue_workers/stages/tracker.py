"""The tracker: a provider job is polled until it has ended.

A job's life as seen from here: it is polled by name, around the time when jobs of its model usually end; a webhook or
a person only hastens the next poll. One that failed because its input file was gone is replaced (``inputs.py``). When
nobody waits for any of its prompts any more, the provider is asked to cancel it, and it is still followed to its end,
because it may bring results. A job that takes longer than nearly all of its model raises an alarm; that is all, unless
a policy says that it is to be cancelled before it expires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError, Rejected
from gemqueue.policy import beliefs, cancels, inputs, slow, tracking
from gemqueue.policy.beliefs import Belief
from gemqueue.policy.resolving import shown_by_end
from gemqueue.policy.tracking import TrackStep
from gemqueue.policy.turnaround import sample
from gemqueue.records import NOT_HELD, Batch, Note
from gemqueue.states import JobState, Step
from gemqueue.store.batches import JobEnd
from gemqueue_workers.stages import believing
from gemqueue_workers.stages.api_key import check_key
from gemqueue_workers.stages.contents import BatchContents
from gemqueue_workers.stages.inputs import delete_while_running, restarted
from gemqueue_workers.stages.shared_polls import SharedPolls

if TYPE_CHECKING:
    from gemqueue.policy.turnaround import Turnaround
    from gemqueue.provider import JobStatus
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.track")


class Tracker:
    """Handles ``track <batch>``."""

    step = Step.TRACK
    record = Batch
    claim_effect = Effect.TRACK_CLAIM
    release_effect = Effect.TRACK_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._polls = SharedPolls(kit)

    async def handle(self, lease: Lease, record: Batch) -> Step | None:
        """Poll once; end the batch, which may be resolved at once then, or put the step back for the next poll."""
        settings = self._kit.settings
        now_ms = lease.now_ms
        try:
            status = await self._poll(record)
        except ProviderError as error:
            if now_ms < beliefs.last_end_ms(record) or (isinstance(error, Rejected) and error.auth):
                raise
            unread = f"{Belief.JOB_UNKNOWN} unread"
            return await self._outlived(lease, record, now_ms, unread, beliefs.last_end_ms(record))
        if status is None:
            log.error("job.missing", batch=record.id, job=record.job)
            return await self._outlived(lease, record, now_ms, Belief.JOB_UNKNOWN, beliefs.job_end_ms(record))
        if inputs.begins_anew(record, status):
            await self._restart(lease, record, status, now_ms)
            return None
        known = await self._turnaround(record)
        after = tracking.after_poll(record, status, settings, known, tracking.job_age_s(record, now_ms))
        if after.step is TrackStep.LATER and now_ms >= beliefs.last_end_ms(record):
            return await self._outlived(
                lease, record, now_ms, f"{Belief.JOB_UNKNOWN} running", beliefs.last_end_ms(record)
            )
        if after.step is TrackStep.END:
            await self._end(lease, record, after, status, now_ms)
            return Step.RESOLVE if after.delay_s <= 0 else None
        note = Note(polls=record.polls + 1, tries=0).also(await self._while_running(record, status))
        delay_s = await self._delay_s(record, after.delay_s, now_ms)
        note = note.also(await self._if_slow(record, known, now_ms))
        with effect(Effect.TRACK_RELEASE):
            await self._kit.store.release(lease.claim, delay_s, note, hold=NOT_HELD)
        return None

    async def _outlived(self, lease: Lease, batch: Batch, now_ms: int, what: str, end_ms: int) -> Step | None:
        """404 from the batch's own account is an alarm, no failure, until the job's life is over (pains.md 3)."""
        taken = believing.look(self._kit, batch, what, now_ms, end_ms)
        if not taken.verdict.concluded:
            polled = Note(polls=batch.polls + 1)
            await believing.wait(self._kit, lease, batch, taken, name=Effect.TRACK_RELEASE, also=polled)
            return None
        unknown = what == Belief.JOB_UNKNOWN  # the results of one that says that it runs are looked for once more
        contents = await BatchContents.load(self._kit.store, batch.id)
        await believing.concluded(self._kit, batch, taken, contents.open_prompts() if unknown else 0)
        error = "the job's life is over, and nobody knows it" if unknown else "the job never ends"
        with effect(Effect.TRACK_END):
            await self._kit.store.end(lease.claim, JobEnd(job_state=JobState.EXPIRED, error=error))
        return Step.RESOLVE

    async def _restart(self, lease: Lease, batch: Batch, status: JobStatus, now_ms: int) -> None:
        """A job that failed because its input was gone is replaced when a second look says the same."""
        taken = believing.look(self._kit, batch, Belief.FILE_GONE, now_ms)
        if not taken.verdict.concluded:
            await believing.wait(self._kit, lease, batch, taken, name=Effect.TRACK_RELEASE)
            return
        contents = await BatchContents.load(self._kit.store, batch.id)
        await believing.concluded(self._kit, batch, taken, contents.open_prompts())
        await restarted(self._kit, lease, batch, status)

    async def _delay_s(self, batch: Batch, delay_s: float, now_ms: int) -> float:
        health = await self._kit.store.webhook_health(batch.lane)
        return tracking.announced_delay_s(batch, delay_s, health, now_ms, self._kit.settings)

    async def _poll(self, batch: Batch) -> JobStatus | None:
        try:
            return await self._polls.poll(batch)
        except Rejected as error:
            if not error.missing:
                raise
        await check_key(self._kit, batch, "poll")
        return None

    async def _turnaround(self, batch: Batch) -> Turnaround | None:
        lane = batch.lane
        return await self._kit.store.turnaround(lane.account, lane.model, batch.prompts)

    async def _end(self, lease: Lease, batch: Batch, after: tracking.AfterPoll, status: JobStatus, now_ms: int) -> None:
        took_s = tracking.turnaround_s(batch, status, now_ms)
        end = JobEnd(
            job_state=after.job_state,
            output_file=status.output_file,
            rows=status.rows,
            error=status.error_message,
            operation=status.raw.decode(errors="replace"),
            seen_what=shown_by_end(status),
            delay_ms=int(after.delay_s * 1000),
            sample=sample(batch.prompts, took_s) if took_s is not None else None,
            halve=slow.halves(batch, self._kit.settings),
        )
        with effect(Effect.TRACK_END):
            await self._kit.store.end(lease.claim, end)
        log.info(
            "job.ended", batch=batch.id, job=batch.job, state=str(after.job_state), error=self._kit.said(end.error)
        )

    async def _while_running(self, batch: Batch, status: JobStatus) -> Note:
        note = await delete_while_running(self._kit, batch, status)
        note = note.also(Note(operation=status.raw.decode(errors="replace")))
        if batch.seen_n:
            note = note.also(beliefs.NOTHING_SEEN.note())
        if self._kit.provider.key_print not in {batch.by_key, *batch.seen_by.split()}:
            note = note.also(Note(seen_by=f"{batch.seen_by} {self._kit.provider.key_print}".strip()))
        return note.also(await self._cancel_if_unwanted(batch))

    async def _if_slow(self, batch: Batch, known: Turnaround | None, now_ms: int) -> Note:
        """Raise the alarm once; near the provider's 48 hours, act as the policy says."""
        note = Note()
        age_s = tracking.job_age_s(batch, now_ms)
        if not batch.slow_at and age_s > slow.slow_from_s(known):
            note = note.also(Note(slow_at=now_ms))
            await self._kit.store.add_count("slow", 1)
            log.warning("job.slow", batch=batch.id, job=batch.job, lane=str(batch.lane), age_s=round(age_s))
        policy = slow.policy_of(self._kit.settings, batch.lane.model)
        if slow.must_cancel(batch, age_s, self._kit.settings, policy):
            note = note.also(await self._cancel(batch, now_ms))
            log.warning("job.given_up", batch=batch.id, job=batch.job, policy=str(policy), age_s=round(age_s))
        return note

    async def _cancel_if_unwanted(self, batch: Batch) -> Note:
        counts, now_ms = await self._kit.store.counts(), await self._kit.store.server_now_ms()
        if cancels.ask_again(batch, now_ms, self._kit.settings):
            return await self._cancel(batch, now_ms)
        if batch.cancel_at or not cancels.may_be_unwanted(batch, counts, now_ms):
            return Note()
        contents = await BatchContents.load(self._kit.store, batch.id)
        note = Note(
            cancels_seen=counts.get("cancelled", 0) + counts.get("rescued", 0),
            cancels_met=batch.cancels,
            open_left=contents.open_prompts(),
            unplaced_met=cancels.unplaced(counts),
            looked_at=now_ms,
        )
        if contents.open_prompts():
            return note
        return note.also(await self._cancel(batch, now_ms))

    async def _cancel(self, batch: Batch, now_ms: int) -> Note:
        with effect(Effect.TRACK_CANCEL):
            await self._kit.provider.cancel(batch.job)
        log.info("job.cancel_asked", batch=batch.id, job=batch.job)
        return Note(cancel_at=now_ms)
