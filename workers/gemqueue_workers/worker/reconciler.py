"""The provider's jobs are compared with the records, and what belongs together is brought together.

A comparison's life: every job of the account is listed, back to where the records are surely whole. Those with a name
of ours are held against the batch that they name (``policy.reconciling``). With leave to, a batch that waits for its
job adopts it, and a batch whose record is lost gets it back from the keys of the job's results. Each is one fenced
transition, so a comparison may be cut off anywhere, run twice, and run beside the stages; what it did is done, and
what it did not is seen again. It never cancels or deletes anything unless a person asks for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ConfigError, Rejected, StoreError, Transient, UnreadableRecord
from gemqueue.ids import split_key
from gemqueue.language.gemini.rows import row_verdict
from gemqueue.policy import job_names
from gemqueue.policy.pools import lane_of
from gemqueue.policy.reconciling import OPEN_QUESTIONS, Standing, is_stray, standing
from gemqueue.records import LaneState
from gemqueue.states import BatchState, JobState, SegmentState, Step
from gemqueue.store.operations import Rebuild

if TYPE_CHECKING:
    from gemqueue.policy.job_names import Token
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch, SegmentMeta
    from gemqueue_workers.stages.loop import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.reconcile")

Keys = dict[str, set[int]]
"""Indices by origin."""
BUSY = "a worker holds its batch: look again later"
_FILE_GRACE_MS = 3600 * 1000


class Finding(msgspec.Struct, kw_only=True):
    """A job of ours, and what became of it; ``done`` says what was done about it, or is empty."""

    job: str
    state: str
    batch: str
    token: str
    rows: int
    standing: Standing
    done: str = ""


class Survey(msgspec.Struct, kw_only=True):
    """What a comparison found.

    ``foreign`` jobs carry no name of ours, or that of another home: ``homes`` counts those.
    """

    findings: list[Finding] = []
    foreign: int = 0
    homes: dict[str, int] = {}
    missing: list[str] = []
    """Batches whose job the provider does not know."""
    stray_files: list[str] = []

    def open_questions(self) -> list[Finding]:
        """The jobs whose prompts might be bought again if packing and submitting went on."""
        return [finding for finding in self.findings if finding.standing in OPEN_QUESTIONS]


class Reconciler:
    """Compares for one account; ``apply`` is the leave to adopt and to rebuild."""

    def __init__(self, kit: Kit, home: str, *, apply: bool) -> None:
        self._kit = kit
        self._home = home
        self._apply = apply

    async def survey(self, since_ms: int) -> Survey:
        """Compare every job created at ``since_ms`` or later. Raises ProviderError, StoreUnavailable."""
        found = Survey(findings=[], homes={}, missing=[], stray_files=[])
        listed: set[str] = set()
        async for page in self._kit.provider.jobs(since_ms=since_ms):
            for job in page:
                listed.add(job.job)
                token = job_names.parse(job.display_name)
                if token is not None and token.fence and token.is_of(self._home):
                    found.findings.append(await self._judge(job, token))
                    continue
                found.foreign += 1
                if token is not None and token.fence:
                    found.homes[token.home] = found.homes.get(token.home, 0) + 1
        found.missing = await self._missing(listed, since_ms)
        return found

    async def _judge(self, job: JobStatus, token: Token) -> Finding:
        finding = Finding(
            job=job.job,
            state=str(job.state),
            batch=token.batch,
            token=job.display_name,
            rows=job.rows,
            standing=Standing.KNOWN,
        )
        try:
            record = await self._kit.store.batch(token.batch)
        except UnreadableRecord as error:  # there is one: nothing is adopted, and nothing is made anew beside it
            self._kit.store.unreadable.note(error)
            finding.done = str(error)
            return finding
        finding.standing = standing(job, token, record)
        if finding.standing is Standing.WAITING and self._apply:
            await self._adopt(job, token, finding)
        elif finding.standing is Standing.LOST:
            await self._find_again(job, finding)
        elif finding.standing is Standing.TWICE and self._apply and record is not None:
            prompts = job.rows or record.prompts
            if await self._kit.store.count_twice(token.batch, job.job, prompts):
                log.error("bought.twice", batch=token.batch, token=job.display_name, job=job.job, prompts=prompts)
        return finding

    async def _adopt(self, job: JobStatus, token: Token, finding: Finding) -> None:
        """Under a claim of the batch's submit step, and only if it still waits for the job then."""
        store, provider = self._kit.store, self._kit.provider
        with effect(Effect.RECONCILE_CLAIM):
            taken = await store.claim(Step.SUBMIT, token.batch, provider.account, held=True)
        if taken is None:
            finding.done = BUSY
            return
        claim, record = taken
        if not isinstance(record, LaneState) and standing(job, token, record) is Standing.WAITING:
            with effect(Effect.RECONCILE_ADOPT):
                await store.adopt(claim, job, provider.key_print)
            finding.standing, finding.done = Standing.KNOWN, "adopted"
            log.warning("job.adopted", batch=token.batch, job=job.job, token=job.display_name)
        else:
            await store.release(claim, 0.0)

    async def _find_again(self, listed: JobStatus, finding: Finding) -> None:
        """The batch of an ended job has no record: who waits here for what the job's results hold?"""
        try:
            job = await self._kit.provider.poll(listed.job)
            keys = await self._keys_of(job)
        except Rejected as error:
            if not error.missing:
                raise
            keys = {}
            job = listed
        lane, segments = await self._holders(keys)
        if not segments:
            finding.standing = Standing.OVER if not keys else Standing.ORPHANED
            return
        if not self._apply:
            return
        rebuild = Rebuild(
            batch=finding.batch,
            lane=lane,
            job=job.job,
            token=job.display_name,
            input_file=job.input_file,
            created_at_ms=job.created_at_ms,
            by_key=self._kit.provider.key_print,
        )
        try:
            with effect(Effect.RECONCILE_REBUILD):
                taken = await self._kit.store.rebuild(self._kit.provider.account, rebuild, segments)
        except StoreError as error:
            finding.done = f"not yet: {error}"
            return
        finding.standing, finding.done = Standing.KNOWN, f"rebuilt with {taken} segments"
        log.warning("batch.rebuilt", batch=finding.batch, job=job.job, segments=taken)

    async def _keys_of(self, job: JobStatus) -> Keys:
        keys: Keys = {}
        async for lines in self._kit.provider.results(job):
            for line in lines:
                key = row_verdict(line).key
                try:
                    origin, index = split_key(key or "")
                except ConfigError:
                    continue  # whoever collects the results puts it into quarantine
                keys.setdefault(origin, set()).add(index)
        return keys

    async def _holders(self, keys: Keys) -> tuple[str, list[str]]:
        """The batch's lane, and the segments there or in the pool that hold some of the prompts and have no job."""
        by_lane: dict[str, list[str]] = {}
        account, pool = self._kit.provider.account, self._kit.pool
        for lane in await self._kit.store.lanes() if keys else ():
            if lane.lane.account not in {account, pool}:
                continue
            own = str(lane_of(lane.lane, account))
            ids = await self._kit.store.waiting_segments(lane.lane)
            for batch in await self._records():
                here = batch.lane == lane.lane or (batch.pool == pool != "" and lane_of(batch.lane, pool) == lane.lane)
                if here and batch.state in {BatchState.PACKING, BatchState.SEALED}:
                    ids += await self._kit.store.manifest(batch.id)
            for start in range(0, len(ids), 500):
                metas = await self._kit.store.segment_metas(ids[start : start + 500])
                chosen = [meta.id for meta in metas if meta is not None and _holds(meta, keys)]
                by_lane.setdefault(own, []).extend(chosen)
        best = max(by_lane, key=lambda lane: len(by_lane[lane]), default="")
        return best, list(dict.fromkeys(by_lane.get(best, [])))

    async def _records(self) -> list[Batch]:
        return await self._kit.store.open_records()

    async def _missing(self, listed: set[str], since_ms: int) -> list[str]:
        """Batches whose job is in no list, and that nobody knows by its name either."""
        found: list[str] = []
        now_ms = await self._kit.store.server_now_ms()
        for batch in await self._records():
            ours = batch.lane.account == self._kit.provider.account
            if not ours or not batch.job or batch.job in listed or batch.accepted_at < since_ms:
                continue
            try:
                job = await self._kit.provider.poll(batch.job)
            except Rejected as error:
                if not error.missing:
                    raise
                found.append(batch.id)
                continue
            older = 0 < job.created_at_ms < since_ms  # one that was found late, and not asked for
            if not older and batch.accepted_at + int(self._kit.settings.settle_s * 1000) < now_ms:
                raise Transient(f"jobs: the list lacks {batch.job}, which is there: it is not whole", call="jobs")
        return found

    async def stray_files(self) -> list[str]:
        """Input files of ours that nobody will need. Raises ProviderError, StoreUnavailable."""
        now_ms = await self._kit.store.server_now_ms()
        found: list[str] = []
        async for page in self._kit.provider.files():
            for stored in page:
                token = job_names.parse(stored.display_name)
                if token is None or not token.is_of(self._home):
                    continue
                try:
                    record = await self._kit.store.batch(token.batch)
                except UnreadableRecord as error:  # nobody can say what it needs
                    self._kit.store.unreadable.note(error)
                    continue
                if is_stray(stored, token, record, now_ms, _FILE_GRACE_MS):
                    found.append(stored.file)
        return found

    async def clean_up(self, survey: Survey) -> None:
        """Cancel the running jobs that nothing here waits for, and delete the stray files: a person asked for it."""
        for finding in survey.findings:
            unwanted = finding.standing in {Standing.TWICE, Standing.ORPHANED, Standing.RUNNING}
            if unwanted and finding.state == JobState.RUNNING:
                with effect(Effect.RECONCILE_CANCEL):
                    await self._kit.provider.cancel(finding.job)
                finding.done = "cancelled"
                log.warning("job.cancel_asked", batch=finding.batch, job=finding.job, standing=str(finding.standing))
        for file in survey.stray_files:
            with effect(Effect.RECONCILE_DELETE):
                await self._kit.provider.delete_file(file)


def _holds(meta: SegmentMeta, keys: Keys) -> bool:
    """Whether one of a segment's prompts is among the keys."""
    if meta.state is not SegmentState.LIVE:
        return False
    if not meta.keys:
        return meta.id in keys
    return any(index in keys.get(origin, ()) for origin, index in map(split_key, meta.keys))
