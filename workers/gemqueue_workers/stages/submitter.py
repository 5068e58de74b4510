"""The submitter: a sealed batch becomes exactly one provider job, even after a crash.

A submission's life: room for a job is reserved in the quota ledger, or the batch waits for it. The input file is
uploaded first, which buys nothing. ``begin`` writes the intent, token and file, and only then the create is sent, once.
``accept`` records the job. When the create's fate is unknown, or somebody finds a batch whose intent stands, nothing is
ever sent again: the intent's file is deleted, so that no forgotten create can succeed any more; calls in flight and the
listing's lag are waited out, counted from there; then the job is looked for by its token, and adopted, or the batch
begins again with a new file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError, StaleFence, Transient, WrongState
from gemqueue.policy import backoff, beliefs, job_names, resolving, submitting, tracking
from gemqueue.policy.beliefs import Belief
from gemqueue.policy.submitting import AfterCreate, Refusal, SubmitStep
from gemqueue.records import Batch, Hold, Note
from gemqueue.states import BatchState, Cause, JobState, Step
from gemqueue.store.batches import JobEnd
from gemqueue.store.scripts import NotReplicated
from gemqueue_workers.stages import believing, division
from gemqueue_workers.stages.api_key import check_key
from gemqueue_workers.stages.contents import BodyLostError
from gemqueue_workers.stages.lost import without_lost
from gemqueue_workers.stages.reservations import refused, reserve, suspended

if TYPE_CHECKING:
    from gemqueue.policy.beliefs import Evidence
    from gemqueue_workers.stages.contents import BatchContents
    from gemqueue_workers.stages.loop import Kit, Lease

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.submit")


class _Intent(NamedTuple):
    token: str
    file: str
    first_poll_s: float


class _Attempt(NamedTuple):
    lease: Lease
    batch: Batch
    contents: BatchContents
    intent: _Intent


class Submitter:
    """Handles ``submit <batch>``."""

    step = Step.SUBMIT
    record = Batch
    claim_effect = Effect.SUBMIT_CLAIM
    release_effect = Effect.SUBMIT_RELEASE

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._after = {
            Refusal.LATER: self._later,
            Refusal.ISOLATE: self._divide,
            Refusal.BISECT: self._divide,
            Refusal.REFUSE: self._refuse,
            Refusal.QUOTA: self._no_room,
            Refusal.SPEND: self._no_money,
            Refusal.DOUBT: self._doubt,
        }

    async def handle(self, lease: Lease, record: Batch) -> None:
        """Carry the batch to ``submitted``, or put it back with what is known."""
        if record.lane.interactive:
            with effect(Effect.SUBMIT_END):  # there is no job to submit: the resolver asks
                await self._kit.store.end(lease.claim, JobEnd(job_state=resolving.INTERACTIVE))
            return
        if submitting.is_named(record) and await self._adopt_announced(lease, record):
            return
        settings = self._kit.settings
        now_ms = lease.claim.at_ms
        step = submitting.submit_step(record, now_ms, settings)
        if step is SubmitStep.FENCE:
            await self._fence(lease, record)
        elif step is SubmitStep.WAIT:
            left_s = (submitting.look_at_ms(record, settings) - now_ms) / 1000
            with effect(Effect.SUBMIT_RELEASE):
                await self._kit.store.release(lease.claim, left_s)
        elif step is SubmitStep.FIND:
            await self._find(lease, record)
        else:
            await self._submit(lease, record)

    async def _fence(self, lease: Lease, batch: Batch) -> None:
        with effect(Effect.SUBMIT_DELETE):
            was_there = await self._kit.provider.delete_file(batch.intent_file)
        if not was_there:
            await check_key(self._kit, batch, "fence")
        with effect(Effect.SUBMIT_FENCE):
            delay_s = beliefs.doubt_pause_s(batch.deaths, self._kit.settings)
            await self._kit.store.fence(lease.claim, delay_s, self._kit.provider.key_print)
        log.warning("create.fenced", batch=batch.id, token=batch.intent_token)

    async def _find(self, lease: Lease, batch: Batch) -> None:
        """Adopt a job of the batch's; begin anew once whole listings agree that there is none."""
        settings = self._kit.settings
        since_ms = submitting.since_ms(batch, settings)
        search = await self._kit.provider.find(tokens=submitting.tokens_of(batch), since_ms=since_ms)
        found = submitting.adopted(search, batch)
        if found is not None:
            if found.display_name != batch.intent_token:
                await self._kit.store.add_count("found_after_all", 1)
                log.error("listing.was_wrong", batch=batch.id, job=found.job, token=found.display_name)
            await self._accept_adopted(lease, batch, found.job, "list")
            return
        await check_key(self._kit, batch, "find")
        must = submitting.must_be_listed(batch, await self._records(), lease.now_ms, settings)
        shown = submitting.shown_by_listing(search, must)
        if not shown:
            raise Transient(f"find: the listing lacks jobs that exist ({len(must - search.listed)})", call="find")
        taken = believing.look(self._kit, batch, shown, lease.now_ms)
        if not taken.verdict.concluded:
            await believing.wait(self._kit, lease, batch, taken, name=Effect.SUBMIT_RELEASE)
            return
        dead = beliefs.NOTHING_SEEN.note().also(Note(deaths=batch.deaths + 1))
        with effect(Effect.SUBMIT_REOPEN):
            await self._kit.store.reopen(lease.claim, batch.intent_token, dead)
        log.warning("create.proven_dead", batch=batch.id, token=batch.intent_token, deaths=batch.deaths + 1)
        await self._submit(lease, batch)

    async def _records(self) -> list[Batch]:
        return await self._kit.store.open_records()

    async def _adopt_announced(self, lease: Lease, batch: Batch) -> bool:
        """An event named the job of a create in doubt: one poll by name settles it, long before the list would."""
        try:
            found = await self._kit.provider.poll(batch.event_job)
        except ProviderError as error:
            log.warning("event.not_confirmed", batch=batch.id, job=batch.event_job, error=str(error))
            return False
        if not submitting.announced(batch, found):
            return False
        await self._accept_adopted(lease, batch, found.job, "event")
        return True

    async def _accept_adopted(self, lease: Lease, batch: Batch, job: str, by: str) -> None:
        with effect(Effect.SUBMIT_ACCEPT):
            await self._kit.store.accept(lease.claim, job, "adopted", 0.0)
        log.warning("job.adopted", batch=batch.id, job=job, token=batch.intent_token, by=by)

    async def _submit(self, lease: Lease, batch: Batch) -> None:
        """Only a body that cannot be read has all of them read: then what is lost fails, and the rest is due again."""
        try:
            await self._submit_rest(lease, batch)
        except BodyLostError as error:
            log.warning("body.unreadable", batch=batch.id, segment=error.segment, why=error.why)
            contents = await without_lost(self._kit, lease, batch, read=True)
            if any(source.meta.id == error.segment and source.lines for source in contents.sources):
                raise
            with effect(Effect.SUBMIT_RELEASE):
                await self._kit.store.release(lease.claim, 0.0)

    async def _submit_rest(self, lease: Lease, batch: Batch) -> None:
        room = await reserve(self._kit, lease, batch)
        if room == "held":
            return
        contents = await without_lost(self._kit, lease, batch, read=False)
        if not contents.open_prompts():
            with effect(Effect.SUBMIT_END):
                await self._kit.store.end(lease.claim, JobEnd(job_state=resolving.EMPTY))
            return
        if room == "large":
            await division.divide(self._kit, lease, batch, contents, None)
            return
        await self._kit.store.confirm()  # before an upload that would be for nothing
        file = await self._upload(lease, batch, contents)
        if not file:
            return
        token = job_names.job_token(lease.claim.home, batch.id, lease.claim.fence)
        first_poll_s = await self._first_poll_s(batch)  # now: nothing may come between the create and its record
        await self._begin(lease, token, file)
        if lease.left_s <= self._kit.provider.create_timeout_s:
            with effect(Effect.SUBMIT_REOPEN):  # certain: the create has not been sent
                await self._kit.store.reopen(lease.claim, token, delay_s=0.0)
            await self._drop_file(file)
            return
        await self._create(_Attempt(lease, batch, contents, _Intent(token, file, first_poll_s)))

    async def _first_poll_s(self, batch: Batch) -> float:
        lane = batch.lane
        known = await self._kit.store.turnaround(lane.account, lane.model, batch.prompts)
        return tracking.poll_delay_s(0, self._kit.settings, known)

    async def _begin(self, lease: Lease, token: str, file: str) -> None:
        try:
            with effect(Effect.SUBMIT_BEGIN):
                lease.claim = await self._kit.store.begin(lease.claim, token, file, self._kit.provider.key_print)
        except NotReplicated:
            with effect(Effect.SUBMIT_REOPEN):  # certain: the create has not been sent
                await self._kit.store.reopen(lease.claim, token)
            await self._drop_file(file)
            raise
        except (StaleFence, WrongState):  # overtaken during the upload: no create of ours will name this file
            await self._drop_file(file)
            raise

    async def _upload(self, lease: Lease, batch: Batch, contents: BatchContents) -> str:
        """The file's name; empty where it does not become usable, and the step has been put back or has ended."""
        size_bytes = await contents.upload_bytes()
        name = job_names.file_name(lease.claim.home, batch.id)
        try:
            with effect(Effect.SUBMIT_UPLOAD):
                file = await self._kit.provider.upload(contents.upload_chunks(), size_bytes=size_bytes, name=name)
        except Transient as error:
            if error.spend:
                await suspended(self._kit, lease, batch, str(error), error.retry_after_s)
            if error.resource != "file":
                raise
            await self._unusable(lease, batch, error)
            return ""
        log.info("file.uploaded", batch=batch.id, file=file, size_bytes=size_bytes)
        return file

    async def _unusable(self, lease: Lease, batch: Batch, error: Transient) -> None:
        """The file was uploaded and deleted again: a try costs as much as the file is large, so tries have an end."""
        taken = believing.look(self._kit, batch, Belief.FILE_UNUSABLE, lease.now_ms)
        if not taken.verdict.concluded:
            await believing.wait(self._kit, lease, batch, taken, name=Effect.SUBMIT_RELEASE)
            return
        await believing.concluded(self._kit, batch, taken, 0)
        with effect(Effect.SUBMIT_END):
            await self._kit.store.end(lease.claim, JobEnd(job_state=JobState.FAILED, error=str(error)))

    async def _create(self, attempt: _Attempt) -> None:
        lease, batch, contents, (token, file, first_poll_s) = attempt
        lane = batch.lane
        try:
            with effect(Effect.SUBMIT_CREATE):
                job = await self._kit.provider.create(model=lane.model, kind=lane.kind, file=file, token=token)
        except ProviderError as error:
            await self._not_created(attempt, error)
            return
        try:
            with effect(Effect.SUBMIT_ACCEPT):
                await self._kit.store.accept(lease.claim, job, "created", first_poll_s)
        except (StaleFence, WrongState):
            await self._count_if_twice(batch, token, job, contents.open_prompts())
            raise
        log.info("job.created", batch=batch.id, job=job, prompts=contents.open_prompts())

    async def _not_created(self, attempt: _Attempt, error: ProviderError) -> None:
        batch, after = attempt.batch, submitting.after_create_error(attempt.batch, error, self._kit.settings)
        said = self._kit.said(error)
        log.warning("create.failed", batch=batch.id, verdict=str(after.refusal), call=error.call, error=said)
        await self._after[after.refusal](attempt, after, error)

    async def _doubt(self, attempt: _Attempt, _after: AfterCreate, _error: ProviderError) -> None:
        current = await self._kit.store.batch(attempt.batch.id)
        if current is None or current.state is not BatchState.SUBMITTING:
            return
        if not (submitting.is_named(current) and await self._adopt_announced(attempt.lease, current)):
            await self._fence(attempt.lease, current)

    async def _later(self, attempt: _Attempt, after: AfterCreate, error: ProviderError) -> None:
        await self._reopen(attempt, after, error, after.delay_s)

    async def _no_room(self, attempt: _Attempt, after: AfterCreate, error: ProviderError) -> None:
        delay_s, divided = await refused(self._kit, attempt.lease, attempt.batch, after.resource, after.retry_after_s)
        await self._reopen(attempt, after, error, None if divided else delay_s)
        if divided:
            await division.divide(self._kit, attempt.lease, attempt.batch, attempt.contents, None)

    async def _no_money(self, attempt: _Attempt, after: AfterCreate, error: ProviderError) -> None:
        delay_s = await suspended(self._kit, attempt.lease, attempt.batch, str(error), after.retry_after_s)
        await self._reopen(attempt, after, error, delay_s)

    async def _refuse(self, attempt: _Attempt, after: AfterCreate, error: ProviderError) -> None:
        """The prompts fail when a second create, a minute later, is refused as well."""
        taken = believing.look(self._kit, attempt.batch, Belief.REFUSED, attempt.lease.now_ms)
        if not taken.verdict.concluded:
            hold = Hold(Cause.DOUBT, f"refused, and asked once more: {error}"[:1000])
            after = msgspec.structs.replace(after, hold=hold)
            await self._reopen(attempt, after, error, taken.verdict.delay_s, taken.evidence)
            return
        await self._reopen(attempt, after, error, None)
        with effect(Effect.SUBMIT_END):
            end = JobEnd(job_state=resolving.REFUSED, error=str(error))
            await self._kit.store.end(attempt.lease.claim, end)

    async def _divide(self, attempt: _Attempt, after: AfterCreate, error: ProviderError) -> None:
        await self._reopen(attempt, after, error, None)
        await division.divide(self._kit, attempt.lease, attempt.batch, attempt.contents, after.line)

    async def _reopen(
        self,
        attempt: _Attempt,
        after: AfterCreate,
        error: ProviderError,
        delay_s: float | None,
        seen: Evidence = beliefs.NOTHING_SEEN,
    ) -> None:
        """The intent is certainly dead: the step is put back, or goes on where there is no delay."""
        note = Note(denied_creates=backoff.denied_creates(attempt.batch, error), deaths=0).also(seen.note())
        with effect(Effect.SUBMIT_REOPEN):
            await self._kit.store.reopen(
                attempt.lease.claim, attempt.intent.token, note, delay_s=delay_s, hold=after.hold
            )
        await self._drop_file(attempt.intent.file)

    async def _count_if_twice(self, batch: Batch, token: str, job: str, prompts: int) -> None:
        """A create that took effect after its intent had been proven dead is the one way to buy twice; it must show."""
        current = await self._kit.store.batch(batch.id)
        dead = current is not None and job not in current.missed_jobs.split() and token in current.past_tokens.split()
        if dead:
            await self._kit.store.count_twice(batch.id, job, prompts)
            log.error("bought.twice", batch=batch.id, token=token, prompts=prompts)

    async def _drop_file(self, file: str) -> None:
        """A refused attempt's file is of no use; it would also go by itself after 48 h."""
        try:
            with effect(Effect.SUBMIT_DELETE):
                await self._kit.provider.delete_file(file)
        except ProviderError as error:
            log.warning("file.not_deleted", file=file, error=str(error))
