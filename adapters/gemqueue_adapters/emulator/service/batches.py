"""The batches of all projects: created, run in the background, looked at, ended (protocol sections 4 to 7).

A job's life: `create` checks the whole input, hard-links it (so that deleting the input file does not hurt a job that
was accepted) and writes the record; then the job runs at once, in one background thread, in the order of creation.
Nobody sees the results before the clock says that the job has ended. A job that is cancelled before has bought
nothing. After a restart, jobs without results run again, to the same results.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.rows import Kind, RowError, Scan, check_head, check_line, scan
from gemqueue_adapters.emulator.service.jobs import EXPIRY_MS, Fate, Hook, Job, Ran, Status, due_ms, hurt, status
from gemqueue_adapters.emulator.service.models import check_model, check_quota
from gemqueue_adapters.emulator.service.openai_rows import from_native
from gemqueue_adapters.emulator.service.runner import Aborted, Plan, Runner, Tally
from gemqueue_adapters.emulator.wire import NOT_FOUND, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.faults import Fault, Faults
    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.service.store import Store

log = logging.getLogger("gemqueue.emulator")
ID_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789"
ID = re.compile(r"[a-z0-9]{36}")
RUN_WAIT_S = 1.0
"""How long a look at a job that is due waits for results that are being written at this moment."""


class Asked(msgspec.Struct, frozen=True):
    """What a create asks for; `source` holds the rows, as a file of lines."""

    kind: Kind
    model: str
    display_name: str | None
    priority: int
    input_file: str | None
    shuffled: bool
    hook: Hook | None = None
    openai: dict[str, Any] | None = None


class Batches:
    """The jobs, in memory and on disk."""

    def __init__(self, options: Options, store: Store, clock: Clock, faults: Faults) -> None:
        self.store = store
        self._options = options
        self._clock = clock
        self._faults = faults
        self._jobs: dict[str, Job] = {}
        self._of_project: dict[str, list[Job]] = defaultdict(list)
        self._runs: dict[str, tuple[asyncio.Task[None], Event]] = {}
        self._thread = ThreadPoolExecutor(1, "emulator-run")
        self._seen: Counter[str] = Counter()
        self._inputs: set[str] = set()
        self._number = 0
        self._ending: dict[str, Job] = {}
        self.untold = asyncio.Event()
        """Set while there are jobs of whose end nobody has been told."""

    def load(self) -> None:
        """Take up what is on disk; jobs that were not run to the end are run again."""
        for job in sorted((job for _, job in self.store.load(Job)), key=lambda job: job.number):
            self._keep(job)
            if job.ran is not None:
                self._seen.update(job.ran.tally.seen)
                self._inputs.add(job.id)
            elif job.cancelled_ms is None or job.fate.half:
                self._start(job)

    async def close(self) -> None:
        """Stop all runs."""
        for task, stop in list(self._runs.values()):
            stop.set()
            await task
        self._thread.shutdown()

    async def reset(self) -> None:
        """Forget all jobs."""
        for task, stop in list(self._runs.values()):
            stop.set()
            await task
        for each in (self._jobs, self._of_project, self._seen, self._inputs, self._ending):
            each.clear()
        self.store.clear()

    async def create(self, project: str, asked: Asked, source: Path) -> Job:
        """Accept a job whose rows are in `source`, or refuse all of it.

        A file that is deleted while the create is under way does not stop it: a create fails only if the file is
        gone when it begins.

        Raises:
            ApiError: 400 for a bad row, 404 for an unknown model, 429 beyond the quota.
        """
        check_model(asked.kind, asked.model)
        job_id = "".join(secrets.choice(ID_CHARS) for _ in range(36))
        link = self.store.path(job_id, "input")
        os.link(source, link)
        try:
            found = await asyncio.to_thread(self._scan, asked, link)
            tokens = link.stat().st_size // 4
            self._check_quota(project, asked.model, tokens)
        except BaseException:
            link.unlink(missing_ok=True)
            raise
        self._number += 1
        job = Job(
            id=job_id,
            number=self._number,
            project=project,
            kind=asked.kind,
            model=asked.model,
            display_name=asked.display_name,
            priority=asked.priority,
            input_file=asked.input_file,
            rows=found.rows,
            shuffled=asked.shuffled,
            tokens=tokens,
            blocks=found.blocks,
            create_ms=self._clock.now_ms(),
            job_ms=int(self._options.job_s * 1000),
            fate=fate(self._faults.at_job()),
            hook=asked.hook,
            openai=asked.openai,
        )
        self.store.put(job.id, job)
        self._keep(job)
        self._start(job)
        return job

    def get(self, project: str, job_id: str) -> Job:
        """The job of this project.

        Raises:
            ApiError: 404, also for another project's job; 400 for an id that is none.
        """
        if not ID.fullmatch(job_id):
            raise ApiError(400, "Could not parse the batch name")
        job = self._jobs.get(job_id)
        if job is None or job.deleted or job.project != project:
            raise ApiError(404, NOT_FOUND)
        return job

    def newest_first(self, project: str, below: int | None, lag_s: float = 0) -> Iterator[Job]:
        """The jobs of a project, from number `below` down; those of the last `lag_s` seconds do not show yet."""
        latest_ms = self._clock.now_ms() - lag_s * 1000
        for job in reversed(self._of_project[project]):
            if not job.deleted and (below is None or job.number < below) and (not lag_s or job.create_ms <= latest_ms):
                yield job

    def every(self) -> Iterable[Job]:
        """All jobs ever created, deleted ones too, oldest first."""
        return self._jobs.values()

    def status(self, job: Job) -> Status:
        """The state of a job by the clock."""
        return status(job, self._clock.now_ms())

    def ended(self) -> list[tuple[Job, Status]]:
        """The jobs that have ended since the last call; those whose news come early are among them too soon."""
        now_ms = self._clock.now_ms()
        found: list[tuple[Job, Status]] = []
        for job in list(self._ending.values()):
            at = status(job, now_ms + job.fate.early_ms)
            if job.deleted or at.end_ms is not None:
                del self._ending[job.id]
                if not job.deleted:
                    found.append((job, at))
        if not self._ending:
            self.untold.clear()
        return found

    def told(self, job: Job) -> None:
        """Note that webhooks have been told of the end of a job; before that, a restart tells them again."""
        job.told = True
        self.store.put(job.id, job)

    async def settled(self, jobs: Iterable[Job]) -> None:
        """Wait for the results of jobs that are due by the clock, but not for long."""
        now_ms = self._clock.now_ms()
        jobs = list(jobs)
        for job in jobs:
            if job.id in self._inputs and self.status(job).end_ms is not None:
                self._inputs.discard(job.id)
                self.store.drop(job.id, "input")
        due = [self._runs[job.id][0] for job in jobs if job.id in self._runs and due_ms(job) <= now_ms]
        if due:
            await asyncio.wait(due, timeout=RUN_WAIT_S)

    def cancel(self, job: Job, *, half: bool) -> None:
        """Cancel a job that has not ended; with `half` it ends SUCCEEDED, the later half of its rows with code 1."""
        if self.status(job).end_ms is not None:
            return
        job.cancelled_ms = self._clock.now_ms()
        if job.ran is not None:
            self._seen.subtract(job.ran.tally.seen)
            job.ran = None
        job.fate.half = half or job.fate.half
        self.store.put(job.id, job)
        if job.id in self._runs:
            self._runs[job.id][1].set()
        if job.fate.half:
            self._start(job)
        elif job.id not in self._runs:
            self.store.drop(job.id, "out", "rows", "input")

    def input_deleted(self, project: str, file_id: str) -> None:
        """An input file was deleted: the jobs over it that need it have failed."""
        now_ms = self._clock.now_ms()
        for job in self._of_project[project]:
            if job.input_file == f"files/{file_id}" and hurt(job, now_ms):
                self.update(job, {"input_gone_ms": now_ms})

    def update(self, job: Job, changed: dict[str, Any]) -> None:
        """Set these fields of a job."""
        for field, value in changed.items():
            setattr(job, field, value)
        self.store.put(job.id, job)

    def delete(self, job: Job) -> None:
        """Take a job out of sight. It goes on running, and its results go with it."""
        job.deleted = True
        self.store.put(job.id, job)
        if job.ran is not None:
            self.store.drop(job.id, "out")

    def results(self, project: str, job_id: str) -> Path | None:
        """The result file of a job that has succeeded, for 48 h from its end; None if there is none."""
        job = self._jobs.get(job_id)
        if job is None or job.deleted or job.project != project or job.inline_output:
            return None
        at = self.status(job)
        if at.state != "SUCCEEDED" or at.end_ms is None or at.end_ms + EXPIRY_MS <= self._clock.now_ms():
            return None
        return self.store.path(job_id, "out")

    def inlined(self, job: Job) -> msgspec.Raw | None:
        """The results of an inline job, as a JSON list; None as long as there are none."""
        if not job.inline_output or self.status(job).state != "SUCCEEDED":
            return None
        lines = self.store.path(job.id, "out").read_bytes().splitlines()
        return msgspec.Raw(b"[%b]" % b",".join(lines))

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._of_project[job.project].append(job)
        if not job.told and not job.deleted:
            self._ending[job.id] = job
            self.untold.set()
        self._number = max(self._number, job.number)

    def _scan(self, asked: Asked, link: Path) -> Scan:
        if asked.input_file is None:
            return scan(link, _unchecked, asked.kind)
        try:
            return scan(link, check_head if self._options.answers == "echo" else check_line, asked.kind)
        except RowError as error:
            raise ApiError(400, str(error)) from error

    def _check_quota(self, project: str, model: str, tokens: int) -> None:
        if self._options.tier != "none":
            running = [job for job in self.newest_first(project, None) if self.status(job).end_ms is None]
            enqueued = sum(job.tokens for job in running if job.model == model)
            check_quota(self._options.tier, model, len(running), enqueued, tokens)

    def _start(self, job: Job) -> None:
        stop = Event()
        before = self._runs[job.id][0] if job.id in self._runs else None
        self._runs[job.id] = asyncio.create_task(self._run(job, stop, before)), stop

    async def _run(self, job: Job, stop: Event, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        tally = None
        try:
            tally = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, job, stop)
        except Aborted:
            pass
        except Exception:
            log.exception("a run failed")
            job.fate.end = "FAILED"
        if self._runs[job.id][1] is stop:
            del self._runs[job.id]
        if tally is None or stop.is_set():
            self._seen.subtract([] if tally is None else tally.seen)
            self.store.drop(
                job.id, "out.tmp", "rows.tmp", *(["input"] if job.cancelled_ms and not job.fate.half else [])
            )
            return
        for suffix in ("out", "rows"):
            self.store.path(job.id, f"{suffix}.tmp").replace(self.store.path(job.id, suffix))
        job.ran = Ran(tally, self._clock.now_ms())
        self.store.put(job.id, job)
        self._inputs.add(job.id)
        await self.settled([job])
        if job.deleted:
            self.store.drop(job.id, "out")

    def _work(self, job: Job, stop: Event) -> Tally:
        if stop.is_set():
            raise Aborted
        plan = Plan(
            kind=job.kind,
            mode=self._options.answers,
            model=self._options.answering(job.model),
            seed=self._options.seed,
            number=job.number,
            rows=job.rows,
            blocks=job.blocks,
            half=job.fate.half,
            inline_input=job.input_file is None,
            inline_output=job.inline_output,
            shuffled=job.shuffled and not job.fate.ordered,
        )
        runner = Runner(plan, self._faults, self._seen, stop.is_set)
        path = self.store.path
        tally = runner.run(path(job.id, "input"), path(job.id, "out.tmp"), path(job.id, "rows.tmp"))
        if job.openai is not None and not job.inline_output:
            from_native(path(job.id, "out.tmp"), path(job.id, "openai.tmp"), job.model, job.create_ms // 1000)
            path(job.id, "openai.tmp").replace(path(job.id, "out.tmp"))
        return tally


def fate(faults: list[Fault]) -> Fate:
    """What these faults, together, do to a job."""
    made = Fate()
    for fault in faults:
        match fault.do:
            case "late_output":
                made.late_ms = int(fault.seconds * 1000)
            case "event_early":
                made.early_ms = int(fault.seconds * 1000)
            case "pending":
                made.pending_ms += int(fault.seconds * 1000)
            case "expired":
                made.end, made.code, made.message = "EXPIRED", 4, "Batch expired before it was completed."
            case "failed":
                made.end, made.code, made.message = "FAILED", fault.code, fault.message or "Internal error."
            case "cancelled":
                made.end, made.message = "CANCELLED", "Batch was cancelled."
            case _:
                setattr(made, fault.do, True)
    return made


def _unchecked(_kind: Any, _line: bytes) -> None:
    """The rows of an inline job were checked when its body was read."""
