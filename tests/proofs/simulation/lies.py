"""What the provider says that is not so: of a job, of its lists, of a result file; for a while, and then the truth.

A lie's life: a call draws it, and every call of its kind about the same thing hears it until its time is up, mostly
within the least pause between two looks (``UNIT_S``), now and then for several. The truth is never changed by it: jobs
run, end and bill as they would. What was heard is written down here, so that the judge can say whether what was
concluded from it had the evidence that ``gemqueue/policy/beliefs.py`` demands. A reply that nobody hears is no lie.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gemqueue.errors import Rejected, Transient
from gemqueue.states import JobState
from tests.proofs.simulation.faults import Fates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.provider import JobStatus
    from tests.proofs.simulation.cloud import Job
    from tests.proofs.simulation.world import SimulatedWorld

BELIEF_S = 7200.0
UNIT_S = BELIEF_S / 360
_STALE_S_MAX = 60.0
_NOT_FOUND = 5
_INTERNAL = 13

_LOOKS = {
    "stale": 0.06, "back": 0.06, "blank": 0.03, "page": 0.03, "denied": 0.08, "failed": 0.04, "expired": 0.04,
    "cancelled": 0.04, "blames": 0.04, "no_output": 0.12, "counters": 0.12,
}  # fmt: skip
"""A look at a job by name shows an earlier moment; it runs again; nothing; another service's page; the provider does
not know it; it has ended without output though it runs, or has some; for want of its input; it succeeded, and names no
output; other numbers of rows."""
_LISTS = {"stale": 0.08, "blank": 0.08, "page": 0.04, "lacks": 0.12, "repeats": 0.08, "ended": 0.15}
"""A list shows an earlier moment; nothing; another service's page; not all jobs; some twice; running jobs as failed."""
_READINGS = {"denied": 0.1, "short": 0.15, "empty": 0.06, "garbage": 0.08, "json": 0.05, "cut": 0.08, "page": 0.05}
"""Results are not there; half of them; none; a page of text or JSON in their place; the last row is torn; an error."""
_CREATES = {"refused": 0.03}
"""A create is refused as invalid that is not."""
_UPLOADS = {"unready": 0.05}
"""A file is uploaded and never becomes usable."""
_ACCOUNTS = {"mute": 0.008}
"""Whatever the account asks for is done, and no reply comes."""
_FACTORS = (0.0, 1.0, 1.0, 1.0, 3.0)


class _Window(NamedTuple):
    kind: str
    until: float
    salt: float
    since: float


class Lies:
    """One seed's lies, and what was heard of them."""

    def __init__(self, world: SimulatedWorld, *, on: bool) -> None:
        self._world = world
        self._rng = random.Random(world.seed + 2)
        self._windows: dict[tuple[str, str], _Window] = {}
        self._heard: list[tuple[str, str, float]] = []
        self.told: dict[str, dict[str, list[float]]] = {}
        """By job, or by key where a create was refused: by what the lie may prove, when it was heard."""
        rates = {
            "looks": _LOOKS, "lists": _LISTS, "readings": _READINGS, "creates": _CREATES, "uploads": _UPLOADS,
            "accounts": _ACCOUNTS,
        }  # fmt: skip
        self._fates = {route: Fates(of, self._rng.choice(_FACTORS) if on else 0.0) for route, of in rates.items()}
        self.on = on

    # --- what was heard ---

    def begin(self) -> None:
        """A call arrives; what it is told is not heard yet."""
        self._heard.clear()

    def heard(self) -> None:
        """Its reply arrives."""
        for subject, proves, at in self._heard:
            self.told.setdefault(subject, {}).setdefault(proves, []).append(at)
        self._heard.clear()

    def tell(self, subject: str, proves: str) -> None:
        """A reply on its way says something of a job, or of a key, that is not so."""
        self._heard.append((subject, proves, self._world.scheduler.now))

    def told_at_once(self, subject: str, proves: str) -> None:
        """Something that is not so was read just now."""
        self.told.setdefault(subject, {}).setdefault(proves, []).append(self._world.scheduler.now)

    def spans(self, subject: str, before: float) -> dict[str, tuple[int, float]]:
        """By what its lies may prove: how often they were heard before a moment, and over which time."""
        found: dict[str, tuple[int, float]] = {}
        for proves, times in self.told.get(subject, {}).items():
            heard = [at for at in times if at < before]
            if heard:
                found[proves] = (len(heard), heard[-1] - heard[0])
        return found

    # --- what is told ---

    def _window(self, route: str, subject: str) -> _Window | None:
        """The lie that holds, or one that begins now."""
        world, place = self._world, (route, subject)
        now = world.scheduler.now
        known = self._windows.get(place)
        if known is not None and now < known.until:
            return known
        fates = self._fates[route]
        if not self.on or not world.faults.on or not fates.total:
            return None
        kind = fates.of(self._rng.random())
        if not kind:
            return None
        self._windows[place] = made = _Window(kind, now + self._length_s(), self._rng.random(), now)
        world.faults.counts[f"lies.{route}.{kind}"] += 1
        world.note("provider", f"lies of {subject or 'all'} for {made.until - now:.1f} s", f"{route} {kind}")
        return made

    def _length_s(self) -> float:
        r, part = self._rng.random(), self._rng.random()
        most = 0.8 if r < 0.7 else 1.5 if r < 0.9 else 3.0 if r < 0.97 else 10.0
        return 0.5 + most * UNIT_S * part

    def mute(self, owner: str) -> bool:
        """Whether no reply leaves the account's provider."""
        return self._window("accounts", owner) is not None

    def upload(self, owner: str) -> None:
        """An uploaded file. Raises Transient."""
        if self._window("uploads", owner) is not None:
            raise Transient("the file is still being processed", call="upload")

    def create(self, owner: str, keys: Sequence[str]) -> None:
        """A create with these prompts. Raises Rejected."""
        if self._window("creates", owner) is None:
            return
        for key in keys:
            self.tell(key, "refused")
        raise Rejected("INVALID_ARGUMENT", call="create", code=400)

    def look(self, job: Job) -> JobStatus:
        """What a look by name shows. Raises Rejected and Transient."""
        window = self._window("looks", job.name)
        if window is None:
            return job.status()
        if window.kind in {"blank", "page"}:
            raise Transient("the reply cannot be read", call="poll")
        if window.kind == "denied":
            self.tell(job.name, "gone")
            raise Rejected("no such job", call="poll", code=404, missing=True)
        return self._shown(job, window)

    def _shown(self, job: Job, window: _Window) -> JobStatus:
        status = job.status()
        if window.kind == "stale":
            return job.status_at(window.since - _STALE_S_MAX * window.salt)
        if window.kind == "back":
            return job.running() if job.state.terminal else status
        if window.kind == "counters":
            return self._miscounted(job, status, window.salt)
        if window.kind == "no_output":
            self.tell(job.name, "gone")
            return _ended(status, JobState.SUCCEEDED)
        if window.kind == "blames":
            self.tell(job.name, "ended")
            return _ended(status, JobState.FAILED, _NOT_FOUND, f"input file {job.file} not found")
        self.tell(job.name, "ended")
        return _ended(status, JobState(window.kind), _INTERNAL if window.kind == "failed" else 0)

    def _miscounted(self, job: Job, status: JobStatus, salt: float) -> JobStatus:
        if not status.rows:
            return status
        self.tell(job.name, "counters")
        rows = int(status.rows * salt)
        return msgspec.structs.replace(status, rows=rows, rows_ok=rows, rows_failed=0)

    def listed(self, jobs: Sequence[Job], owner: str) -> list[JobStatus]:
        """What a list of these jobs shows, newest first. Raises Transient."""
        window = self._window("lists", owner)
        if window is None:
            return [job.status() for job in jobs]
        if window.kind == "page":
            raise Transient("the page cannot be read", call="jobs")
        if window.kind == "stale":
            at = window.since - _STALE_S_MAX * window.salt
            return self._lacking([job.status_at(at) for job in jobs if job.visible_at <= at], jobs)
        if window.kind == "blank":
            return self._lacking([], jobs)
        if window.kind == "lacks":
            shown = [job.status() for job in jobs if hash((job.number, window.salt)) % 2]
            return self._lacking(shown, jobs)
        if window.kind == "repeats":
            return [job.status() for job in jobs for _ in range(1 + hash((job.number, window.salt)) % 2)]
        return [self._listed_as_ended(job) for job in jobs]

    def _lacking(self, shown: list[JobStatus], jobs: Sequence[Job]) -> list[JobStatus]:
        for name in {job.name for job in jobs} - {status.job for status in shown}:
            self.tell(name, "unlisted")
        return shown

    def _listed_as_ended(self, job: Job) -> JobStatus:
        if job.state.terminal:
            return job.status()
        self.tell(job.name, "listed as ended")
        return _ended(job.status(), JobState.FAILED, _INTERNAL)

    def rows(self, job: Job) -> list[bytes]:
        """What a reading of its results brings. Raises Rejected and Transient."""
        window = self._window("readings", job.name)
        if window is None:
            return list(job.rows)
        if window.kind == "page":
            raise Transient("503", call="results")
        if window.kind == "denied":
            self.tell(job.name, "gone")
            raise Rejected("no such file", call="results", code=404, missing=True)
        self.tell(job.name, "short")
        return _torn(job.rows, window)


def _torn(rows: Sequence[bytes], window: _Window) -> list[bytes]:
    kept = list(rows[: int(len(rows) * window.salt)])
    lines = int(1 + 20 * window.salt)
    return {
        "short": kept,
        "empty": [],
        "garbage": [b"<html><body>We will be back soon.</body></html>"] * lines,
        "json": [b'{"error":{"code":503,"message":"try again","status":"UNAVAILABLE"}}'] * lines,
        "cut": [*kept, *(row[: len(row) // 2] for row in rows[len(kept) : len(kept) + 1])],
    }[window.kind]


def _ended(status: JobStatus, state: JobState, code: int = 0, message: str = "") -> JobStatus:
    said = message or ("no" if code else "")
    return msgspec.structs.replace(
        status, state=state, raw_state=f"BATCH_STATE_{state.upper()}", output_file="", error_code=code,
        error_message=said, rows=0, rows_ok=0, rows_failed=0,
    )  # fmt: skip
