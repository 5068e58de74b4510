"""The simulated provider's own side: files, jobs, what each job bought, and when anybody can see it.

A job's life: a create looks for its input file and is refused without it; a moment later the job is there, later still
the listing shows it. It waits, reads its file (a provider may read late, and fail for want of a file that has gone),
runs, and ends as its fate has it; a provider may need the file until then. What its result file will hold is decided at
its end, row by row; from then on the ledger says which prompts were bought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import Rejected
from gemqueue.provider import JobStatus, Search
from gemqueue.states import JobState
from tests.proofs.simulation.calls import Calls
from tests.proofs.simulation.events import Events
from tests.proofs.simulation.lines import REFUSED, Line, answer_to, blocked, response_of, text_of
from tests.proofs.simulation.loop import EPOCH_MS

if TYPE_CHECKING:
    from tests.proofs.simulation.world import SimulatedWorld

COMMIT_S_MAX = 2.0
LAG_S_MAX = 6.0
_NOT_FOUND = 5


class Job:
    """One job, and the rows of its result file once it has ended."""

    def __init__(self, name: str, token: str, file: str, at: float) -> None:
        self.name = name
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
        self.rows: list[bytes] = []
        self.output = ""
        self.counts_rows = True
        self.error_code = 0
        self.short_reads = 0
        self.denials = 0

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
        for number, line in enumerate(self.files[file].splitlines(), 1):
            if REFUSED in text_of(_decode(line).request):
                named = number if self.names_lines else None
                raise Rejected("INVALID_ARGUMENT", call="create", code=400, line=named)
        return self.files[file]

    def commit(self, token: str, file: str, data: bytes) -> Job:
        """The job is there."""
        world = self.world
        now = world.scheduler.now
        job = Job(self.name("batches", owner_of(file)), token, file, now)
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

        None of them may be in another job that can still answer it, or has, but those that were to outrun such a job.
        """
        lines = map(_decode, data.splitlines())
        job.keys = {line.key: text_of(line.request) for line in lines}
        for other in self.jobs.values():
            if other is not job:
                twice = set(job.keys) & (other.bought if other.state.terminal else set(other.keys))
                twice -= self.world.rescued.keys()
                if twice:
                    self.violations.append(f"I2 bought twice: {min(twice)} in {other.name} and {job.name}")

    def _start(self, job: Job) -> None:
        world = self.world
        if job.state.terminal:
            return
        if self.reads_late:
            if self._misses_input(job):
                return
            self._read(job, self.files[job.file])
        job.raw_state = "BATCH_STATE_RUNNING"
        fate = world.faults.draw("jobs")
        runs_s = 1 + world.rng.random() * self.job_s_max
        world.scheduler.at(world.scheduler.now + runs_s, self._end, job, fate)

    def _misses_input(self, job: Job) -> bool:
        """Whether its file has gone, and it has failed for that."""
        if job.file in self.files:
            return False
        job.state, job.error_code, job.raw_state = JobState.FAILED, _NOT_FOUND, "BATCH_STATE_FAILED"
        self.world.note("provider", f"{job.name} misses {job.file}", "failed")
        return True

    def _end(self, job: Job, fate: str) -> None:
        if job.state.terminal or (self.needs_input and self._misses_input(job)):
            return
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
        else:
            job.rows.append(_row(key, blocked()) if fate == "blocked" else good)
            job.bought.add(key)
            if fate == "doubled":
                job.rows.append(job.rows[-1])

    def find(self, tokens: frozenset[str], since_ms: int, owner: str) -> Search:
        """What the listing shows."""
        listed = self.listing(since_ms, owner)
        found = tuple(status for status in listed if status.display_name in tokens)
        return Search(jobs=found, listed=frozenset(status.job for status in listed))

    def listing(self, since_ms: int, owner: str) -> list[JobStatus]:
        """Every job of the account that the listing shows, newest first."""
        now, theirs = self.world.scheduler.now, f"batches/{owner}"
        found = [job.status() for job in self.jobs.values() if job.visible_at <= now and job.name.startswith(theirs)]
        return [status for status in reversed(found) if status.created_at_ms >= since_ms]

    def poll(self, name: str) -> JobStatus:
        """A job by its name. Raises Rejected."""
        job = self.jobs.get(name)
        denied = job is not None and job.denials < 2 and self.world.faults.draw("files") == "denied"
        if job is None or denied:
            if job is not None:
                job.denials += 1
            raise Rejected("no such job", call="poll", code=404, missing=True)
        return job.status()

    def rows(self, job: Job) -> list[bytes]:
        """The result file. Raises Rejected when it has been deleted."""
        if job.output not in self.files:
            raise Rejected("no such file", call="results", code=404, missing=True)
        return list(job.rows)

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
