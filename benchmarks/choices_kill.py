"""A choice is killed at an exact moment, started again, and the emulator's ledger says what was bought."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from harness import Pipeline, Process, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from choices import Command

KILLED_PROMPTS = 1_000
JOB_S = 30.0
"""Long enough that nothing ends before the kill; from then on the emulator's clock is pushed."""
MOMENT_S_MAX = 240.0
HELD = {"on": "create", "do": "slow", "bytes_per_s": 1, "nth": [1]}
"""The job is made at once, and its answer takes minutes."""


def made(pipeline: Pipeline, _count: int) -> bool:
    """The first job is made, and its maker is still reading the answer."""
    return "create" in points(pipeline)


def in_flight(pipeline: Pipeline, count: int) -> bool:
    """All rows are in jobs, and a look at one of them was answered after the last create: that is known to be over."""
    seen, jobs = points(pipeline), pipeline.control("ledger")["jobs"]
    if any(job["state"] == "SUCCEEDED" for job in jobs):
        raise RuntimeError(f"a job ended before the kill: {jobs}")
    looked_at = "get" in " ".join(seen).rpartition("create")[2].split()
    return sum(job["rows"] for job in jobs) == count and looked_at


Moment = tuple[list[dict[str, Any]], "Callable[[Pipeline, int], bool]"]
MOMENTS: dict[str, Moment] = {"at create": ([HELD], made), "in flight": ([], in_flight)}


def points(pipeline: Pipeline) -> list[str]:
    """What has been asked of the emulator with success, in order."""
    return [entry["point"] for entry in pipeline.control("requests") if entry["status"] == 200]


def killed(command: Command, moment: str) -> dict[str, Any]:
    """Kill the command and all of its own at the moment, start them again; what was bought and what has come."""
    faults, reached = MOMENTS[moment]
    own = list(command.choice.faults)
    with Pipeline(job_s=JOB_S, work=command.ours) as pipeline:
        command.prepare(pipeline)
        pipeline.control("faults", own + faults)
        caller = command.start(pipeline)
        until(lambda: reached(pipeline, command.count), moment, MOMENT_S_MAX)
        kill(pipeline, caller)
        pipeline.control("faults", own)
        started = time.monotonic()
        if command.ours:
            revive(pipeline)
        caller = command.start(pipeline)
        with Hurry(pipeline):
            caller.end(None)
            seconds = time.monotonic() - started
            until(lambda: all_ended(pipeline), "the last job ends", MOMENT_S_MAX)
        if caller.exit_code:
            raise RuntimeError(command.log(pipeline))
        ledger = pipeline.control("ledger")
        landed = command.landed(pipeline)
    found = {"prompts": command.count, "seconds": seconds, "jobs": len(ledger["jobs"])}
    return found | {"rows_bought": ledger["rows_bought"], **landed}


def kill(pipeline: Pipeline, caller: Process) -> None:
    """Kill the command, and gemqueue's worker and server with it, all before any of them is waited for."""
    own = [caller, *((pipeline.worker, pipeline.server) if pipeline.work else ())]
    for process in own:
        os.kill(process.pid, signal.SIGKILL)
    for process in own:
        process.end(None)


def revive(pipeline: Pipeline) -> None:
    """Start the server again on what it wrote, and a worker."""
    pipeline.start_server()
    pipeline.start_worker()


def all_ended(pipeline: Pipeline) -> bool:
    """No job is waiting or running."""
    return all(job["state"] not in {"PENDING", "RUNNING"} for job in pipeline.control("ledger")["jobs"])


class Hurry:
    """Push the emulator's clock on by a job's length every second, so that each job ends soon after it is made."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(1.0):
            self._pipeline.control("clock", {"advance_s": JOB_S})
