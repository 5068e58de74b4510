"""The simulated provider's own side: files, jobs, what each job bought, and when anybody can see it.

A job's life: a create looks for its input file and is refused without it; a moment later the job is there, later still
the listing shows it. It waits, reads its file (a provider may read late, and fail for want of a file that has gone),
runs, and ends as its fate has it; a provider may need the file until then. What its result file will hold is decided at
its end, row by row; from then on the ledger says which prompts were bought. ``lies`` is what looks show instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gemqueue.errors import Rejected
from gemqueue.provider import JobStatus, Search
from gemqueue.states import JobState
from tests.proofs.simulation.calls import Calls
from tests.proofs.simulation.events import Events
from tests.proofs.simulation.lies import Lies
from tests.proofs.simulation.lines import REFUSED, Line, answer_to, blocked, response_of, text_of
from tests.proofs.simulation.loop import EPOCH_MS

if TYPE_CHECKING:
    from tests.proofs.simulation.world import SimulatedWorld

COMMIT_S_MAX = 2.0
LAG_S_MAX = 6.0
_NOT_FOUND = 5


class Overlap(NamedTuple):
    """Prompts of a job that were in an earlier one, which could still answer them, or had; and when that was seen."""

    earlier: Job
    later: Job
    keys: frozenset[str]
    at: float


class Job:
    """One job, and the rows of its result file once it has ended."""

    def __init__(self, name: str, number: int, token: str, file: str, at: float) -> None:
        self.name = name
        self.number = number
        self.token = token
        self.file = file
        self.created_at = at
        self.visible_at = at
        self.state = JobState.RUNNING
        self.raw_state = "BATCH_STATE_PENDING"
        self.keys: dict[str, str] = {}
        """Key and text of every line that it read."""
        self.bought: set[str] = set()
        """The keys whose rows are good."""
        self.answered: set[str] = set()
        """Those of them that have an answer."""
        self.invalid: set[str] = set()
        """Those that it refused."""
        self.rows: list[bytes] = []
        self.rows_failed = 0
        self.output = ""
        self.gone = False
        """Nobody will ever read its results."""
        self.counts_rows = True
        self.error_code = 0
        self.short_reads = 0
        self.denials = 0
        self._past: list[tuple[float, JobStatus]] = []

    def moves(self, at: float) -> None:
        """What a look shows is about to change."""
        self._past.append((at, self.status()))

    def status_at(self, at: float) -> JobStatus:
        """What a look showed at an earlier moment."""
        return next((status for until, status in self._past if at < until), self.status())

    def running(self) -> JobStatus:
        """A look at it as if it had not ended."""
        return msgspec.structs.replace(
            self.status(), state=JobState.RUNNING, raw_state="BATCH_STATE_RUNNING", begun=True, output_file="",
            error_code=0, error_message="", rows=0, rows_ok=0, rows_failed=0,
        )  # fmt: skip

    def status(self) -> JobStatus:
        """A look at it."""
        return JobStatus(
            job=self.name,
            state=self.state,
            raw_state=self.raw_state,
            begun="RUNNING" in self.raw_state,
            display_name=self.token,
            input_file=self.file,
            created_at_ms=EPOCH_MS + int(self.created_at * 1000),
            rows=len(self.rows) if self.counts_rows else 0,
            rows_ok=len(self.rows) - self.rows_failed if self.counts_rows else 0,
            rows_failed=self.rows_failed if self.counts_rows else 0,
            output_file=self.output,
            error_code=self.error_code,
            error_message="no" if self.error_code else "",
            raw=b"{}",
        )


_decode = msgspec.json.Decoder(Line).decode


class Cloud:
    """The provider that all workers share."""

    def __init__(self, world: SimulatedWorld) -> None:
        rng = world.rng
        self.world = world
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.lag_s = rng.random() * LAG_S_MAX
        self.reads_late = rng.random() < 0.5
        self.needs_input = rng.random() < 0.3
        self.names_lines = rng.random() < 0.5
        self.slow_upload_s = rng.choice((0.3, 0.3, 5.0, 30.0))
        self.job_s_max = rng.choice((20.0, 60.0)) if world.has_deadlines else 20.0
        self.violations: list[str] = []
        self.overlaps: list[Overlap] = []
        self.lies = Lies(world, on=world.has_lies)
        self.events = Events(world)
        self.calls = Calls(world)
        self._number = 0

    def name(self, what: str, owner: str) -> str:
        """A new resource name; ``owner`` begins those of one of several accounts."""
        self._number += 1
        return f"{what}/{owner}{self._number}"

    # --- what calls do when they arrive ---

    def store_file(self, data: bytes, owner: str) -> str:
        """An uploaded file is there."""
        name = self.name("files", owner)
        self.files[name] = data
        return name

    def files_of(self, owner: str) -> list[str]:
        """Every file of the account."""
        return [name for name in self.files if owner_of(name) == owner]

    def check(self, file: str) -> bytes:
        """What a create looks at first: its file. Raises Rejected."""
        if file not in self.files:
            raise Rejected("no such file", call="create", code=404, missing=True)
        lines = list(map(_decode, self.files[file].splitlines()))
        for number, line in enumerate(lines, 1):
            if REFUSED in text_of(line.request):
                named = number if self.names_lines else None
                raise Rejected("INVALID_ARGUMENT", call="create", code=400, line=named)
        self.lies.create(owner_of(file), [line.key for line in lines])
        return self.files[file]

    def commit(self, token: str, file: str, data: bytes) -> Job:
        """The job is there."""
        world = self.world
        now = world.scheduler.now
        job = Job(self.name("batches", owner_of(file)), self._number, token, file, now)
        job.visible_at = now + self.lag_s * world.rng.random()
        job.counts_rows = world.rng.random() < 0.8
        self.jobs[job.name] = job
        self.events.created(job)
        if not self.reads_late:
            self._read(job, data)
        world.scheduler.at(now + 0.5 + 4 * world.rng.random(), self._start, job)
        return job

    def _read(self, job: Job, data: bytes) -> None:
        """The job takes its prompts in.

        None of them should be in another job that can still answer it, or has, but those that were to outrun such a
        job; the judge knows what may lead to that all the same.
        """
        lines = map(_decode, data.splitlines())
        job.keys = {line.key: text_of(line.request) for line in lines}
        for other in self.jobs.values():
            if other is not job:
                twice = set(job.keys) & (other.bought if other.state.terminal else set(other.keys))
                twice -= self.world.rescued.keys()
                if twice:
                    earlier, later = sorted((other, job), key=lambda each: each.number)
                    self.overlaps.append(Overlap(earlier, later, frozenset(twice), self.world.scheduler.now))

    def _start(self, job: Job) -> None:
        world = self.world
        if job.state.terminal:
            return
        if self.reads_late:
            if self._misses_input(job):
                return
            self._read(job, self.files[job.file])
        job.moves(world.scheduler.now)
        job.raw_state = "BATCH_STATE_RUNNING"
        fate = world.faults.draw("jobs")
        runs_s = 1 + world.rng.random() * self.job_s_max
        world.scheduler.at(world.scheduler.now + runs_s, self._end, job, fate)

    def _misses_input(self, job: Job) -> bool:
        """Whether its file has gone, and it has failed for that."""
        if job.file in self.files:
            return False
        job.moves(self.world.scheduler.now)
        job.state, job.error_code, job.raw_state = JobState.FAILED, _NOT_FOUND, "BATCH_STATE_FAILED"
        self.world.note("provider", f"{job.name} misses {job.file}", "failed")
        return True

    def _end(self, job: Job, fate: str) -> None:
        if job.state.terminal or (self.needs_input and self._misses_input(job)):
            return
        job.moves(self.world.scheduler.now)
        job.state = JobState(fate) if fate else JobState.SUCCEEDED
        job.raw_state = f"BATCH_STATE_{job.state.upper()}"
        self.world.note("provider", f"{job.name} ends", str(job.state))
        self.events.ended(job, list(self.jobs))
        if fate == "failed":
            job.error_code = 13
            return
        partial = {"": 1.0, "expired": 0.5, "cancelled": 0.5}[fate]
        if fate and self.world.rng.random() < 0.5:
            return
        self._write_rows(job, partial)
        job.output = self.name("files", owner_of(job.name))
        self.files[job.output] = b""
        job.gone = self.lies.on and not fate and self.world.faults.draw("lost") == "results"

    def _write_rows(self, job: Job, share: float) -> None:
        rng = self.world.rng
        for key, text in job.keys.items():
            if rng.random() < share:
                self._write_row(job, key, text, self.world.faults.draw("rows"))
        if self.world.faults.draw("files") == "foreign":
            job.rows.append(_row("00" + "f" * 20 + ".0", response_of(answer_to("nobody"))))
            job.rows.append(b'{"key":"007.7"')
        rng.shuffle(job.rows)

    def _write_row(self, job: Job, key: str, text: str, fate: str) -> None:
        good = _row(key, response_of(answer_to(text)))
        if fate == "missing":
            return
        if fate == "malformed":
            job.rows.append(good[: len(good) // 2])
        elif fate in {"error", "invalid"}:
            code = 13 if fate == "error" else 3
            job.rows.append(b'{"key":"%b","error":{"code":%d,"message":"no"}}' % (key.encode(), code))
            job.rows_failed += 1
            if fate == "invalid":
                job.invalid.add(key)
        else:
            job.rows.append(_row(key, blocked()) if fate == "blocked" else good)
            job.bought.add(key)
            if fate != "blocked":
                job.answered.add(key)
            if fate == "doubled":
                job.rows.append(job.rows[-1])

    def find(self, tokens: frozenset[str], since_ms: int, owner: str) -> Search:
        """What the listing shows; what is found is looked at by name."""
        listed = {status.job: status for status in self.listing(since_ms, owner)}
        found = [self._looked_at(status) for status in listed.values() if status.display_name in tokens]
        return Search(jobs=tuple(found), listed=frozenset(listed))

    def _looked_at(self, listed: JobStatus) -> JobStatus:
        try:
            return self.lies.look(self.jobs[listed.job])
        except Rejected:
            return listed

    def listing(self, since_ms: int, owner: str) -> list[JobStatus]:
        """Every job of the account that the listing shows, newest first."""
        now, theirs = self.world.scheduler.now, f"batches/{owner}"
        found = [job for job in self.jobs.values() if job.visible_at <= now and job.name.startswith(theirs)]
        shown = self.lies.listed(found[::-1], owner)
        return [status for status in shown if status.created_at_ms >= since_ms]

    def poll(self, name: str) -> JobStatus:
        """A job by its name. Raises Rejected."""
        job = self.jobs.get(name)
        denied = job is not None and job.denials < 2 and self.world.faults.draw("files") == "denied"
        if job is None or denied:
            if job is not None:
                job.denials += 1
                self.lies.tell(job.name, "gone")
            raise Rejected("no such job", call="poll", code=404, missing=True)
        return self.lies.look(job)

    def rows(self, job: Job) -> list[bytes]:
        """The result file. Raises Rejected when it has been deleted, or nobody can read it any more."""
        if job.output not in self.files or job.gone:
            raise Rejected("no such file", call="results", code=404, missing=True)
        return self.lies.rows(job)

    def cancel(self, name: str) -> None:
        """Somebody wants it to end; what it has done by then, it has done."""
        job = self.jobs.get(name)
        if job is not None and not job.state.terminal:
            self.world.scheduler.at(self.world.scheduler.now + self.world.rng.random(), self._end, job, "cancelled")


def owner_of(name: str) -> str:
    """What ``Cloud.name`` was given."""
    return name.partition("/")[2].rstrip("0123456789")


def _row(key: str, response: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"key": key, "response": response})
