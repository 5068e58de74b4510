"""What a run of ``gemqueue prove`` has seen and begun: one file, replaced whole before and after each effect."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import msgspec

from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

TOKEN: str = "gemqueue-prove"  # noqa: S105 - what display names begin with, no secret


class Step(StrEnum):
    """How far a trial's job has come."""

    INTENDED = "intended"
    """A create may have been sent, and nobody knows what came of it."""
    CREATED = "created"
    ENDED = "ended"
    """It has ended; its rows, if it has any, are not read yet."""
    READ = "read"
    GONE = "gone"
    """Read, and deleted at the provider."""
    REFUSED = "refused"
    """The create was refused: nothing was bought."""
    LATER = "later"
    """The create did nothing this time, and may be tried again."""
    DEAD = "dead"
    """Its create was fenced, and its job is not in the list."""


class Tally(msgspec.Struct, omit_defaults=True):
    """What the rows of a job's results came to; of the rows themselves nothing is kept."""

    expected: int = 0
    answered: int = 0
    failed: int = 0
    missing: int = 0
    doubled: int = 0
    foreign: int = 0
    misplaced: int = 0
    fit: int = 0
    misfit: int = 0
    own: int = 0
    swapped: int = 0
    models: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


class Job(msgspec.Struct, omit_defaults=True):
    """One trial's job, from the intent on."""

    slot: str
    token: str
    file: str
    rows: int
    estimate_usd: float
    step: Step
    job: str = ""
    refusal: str = ""
    code: int = 0
    killed: bool = False
    """Its process was killed after the create's reply had come, and before anything was noted."""
    found_s: float | None = None
    """How long it took to find it again by its token alone."""
    looks: int = 0
    fenced_ms: int = 0
    created_ms: int = 0
    listed_s: float | None = None
    """When, after the create's reply, a look at the list first showed it."""
    hidden_s: float = 0.0
    """When the last look was made that did not show it. Time in which nobody looked says nothing."""
    gone_from: str = ""
    """Its state when the deletion of its input began, and, in ``gone_to``, right after it."""
    gone_to: str = ""
    end: str = ""
    error: str = ""
    took_s: float = 0.0
    mute_ms: int = 0
    """When it was first seen to have succeeded without a word on its results."""
    named_s: float | None = None
    """How long after its end it was seen to name its results."""
    counted: int = 0
    """How many rows the provider says that it answered or failed."""
    tally: Tally | None = None

    @property
    def open(self) -> bool:
        """Whether it is under way at the provider, or read in part."""
        return self.step in (Step.CREATED, Step.ENDED)

    @property
    def untried(self) -> bool:
        """Whether its create is still to be made, or to be made again: one that killed itself is its own answer."""
        return self.step in (Step.INTENDED, Step.LATER) or (self.step is Step.DEAD and not self.killed)

    @property
    def committed_usd(self) -> float:
        """What it has cost, or at most will: the estimate as long as its usage is not known."""
        if self.step in (Step.REFUSED, Step.LATER):
            return 0.0
        return self.tally.usd if self.tally is not None and self.tally.input_tokens else self.estimate_usd


class State(msgspec.Struct, omit_defaults=True):
    """The whole run. ``bound`` says what it belongs to: service, key, model and options."""

    run: str
    bound: dict[str, Any]
    began_ms: int
    jobs: dict[str, Job] = {}
    dead: list[Job] = []
    """Jobs that were begun anew, and such as the list showed although no record knew them."""
    seen: dict[str, Any] = {}
    """What the looks saw, by their name."""
    strays: int = 0
    """Jobs of this run that no record knew."""
    over_budget: list[str] = []
    done: bool = False

    @property
    def spent_usd(self) -> float:
        """By the usage that the answers report."""
        return sum(job.tally.usd for job in self.every() if job.tally is not None)

    @property
    def committed_usd(self) -> float:
        """What was spent, and what is under way or in doubt by its estimate."""
        return sum(job.committed_usd for job in self.every())

    def every(self) -> list[Job]:
        """All jobs that were ever begun."""
        return [*self.jobs.values(), *self.dead]

    def token(self, slot: str) -> str:
        """A new display name for a file and its job."""
        return f"{self.prefix}-{slot}-{secrets.token_hex(4)}"

    @property
    def prefix(self) -> str:
        """What the display names of this run begin with."""
        return f"{TOKEN}-{self.run}"


class Journal:
    """The state, and the file that holds it; one process at a time. Without a path it is kept in memory alone."""

    def __init__(self, state: State, path: Path | None = None, lock: int | None = None) -> None:
        self.state = state
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path, bound: dict[str, Any], *, begin: bool = True) -> Self:
        """Take the file up, or ``begin`` it.

        Raises ConfigError where it is of another run, is broken, is in use, cannot be written, or is not there and
        may not be begun.
        """
        if not (begin or path.exists()):
            raise ConfigError(f"{path}: there is no run; name the one that is meant with -o")
        with writing(path):
            lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigError(
                f"{path}: another gemqueue prove works with it; wait for it, or give another -o"
            ) from None
        try:
            return cls(_read(path, bound), path, lock)
        except BaseException:
            os.close(lock)
            raise

    def save(self) -> None:
        """Write the state, whole or not at all; it is on the disk when this returns."""
        if self._path is not None:
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(self.state), indent=1))

    def forget(self) -> None:
        """Delete the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".lock").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def new_state(bound: dict[str, Any]) -> State:
    """A run that has seen nothing yet."""
    return State(run=secrets.token_hex(4), bound=bound, began_ms=now_ms())


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file by one that is wholly written and synced. Raises ConfigError where it cannot be written."""
    spare = path.with_name(path.name + ".new")
    with writing(path):
        try:
            with os.fdopen(os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            spare.replace(path)
        finally:
            spare.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or a power cut brings the old one back
        finally:
            os.close(folder)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """What goes wrong with a file is the user's to mend: a folder that is not there, a disk that is full."""
    try:
        yield
    except OSError as error:
        said = f"{path} cannot be written ({error.strerror or error})"
        raise ConfigError(f"{said}: mend that, and the same command goes on; or give another name with -o") from None


def _read(path: Path, bound: dict[str, Any]) -> State:
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return new_state(bound)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give another name with -o") from None
    others = [name for name, value in bound.items() if state.bound.get(name) != value]
    if others:
        said = f"{path} is of a run with another {', '.join(others)}"
        raise ConfigError(f"{said}: give what it was begun with, end it with --clean, or give another name with -o")
    return state
