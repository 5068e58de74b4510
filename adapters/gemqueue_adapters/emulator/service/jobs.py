"""A batch job as a record, and its state as a pure function of the record and the clock (protocol section 10)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gemqueue_adapters.emulator.rows import Block, Kind  # noqa: TC001 - msgspec reads the annotations
from gemqueue_adapters.emulator.service.runner import Tally  # noqa: TC001 - as above
from gemqueue_adapters.emulator.wire import NOT_FOUND, timestamp

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]

DAY_MS = 24 * 3600 * 1000
EXPIRY_MS = 2 * DAY_MS
PENDING_SHARE = 0.3
"""The part of a job's time that it is pending, not running."""

TYPES = {"generate": "GenerateContentBatch", "embed": "EmbedContentBatch"}
TYPE_PREFIX = "type.googleapis.com/google.ai.generativelanguage.v1main."


class Fate(msgspec.Struct, omit_defaults=True):
    """What the faults have in store for a job, decided when it is created."""

    pending_ms: int = 0
    end: Literal["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"] = "SUCCEEDED"
    code: int = 13
    message: str = "Internal error."
    half: bool = False
    inline_output: bool = False
    job_state: bool = False
    flat: bool = False
    ordered: bool = False
    """Its rows come in the order of its input."""
    dear: bool = False
    """It is billed at the full price."""
    late_ms: int = 0
    """How long after its end it names its results."""
    early_ms: int = 0
    """How long before its end the job's webhook says that it has ended."""
    needs_input_pending: bool = False
    """It fails when its input file is deleted while it is pending; else that does not hurt an accepted job."""
    needs_input_running: bool = False
    """The same while it is running."""


class Hook(msgspec.Struct, omit_defaults=True):
    """The webhooks of one job alone, which replace the registered ones (protocol section 11.5)."""

    uris: list[str]
    metadata: dict[str, Any] = {}


class Ran(msgspec.Struct):
    """What a run of the job came to, and when it was finished."""

    tally: Tally
    finished_ms: int


class Job(msgspec.Struct, omit_defaults=True):
    """One batch job, as it lies on disk."""

    id: str
    number: int
    project: str
    kind: Kind
    model: str
    display_name: str | None
    priority: int
    input_file: str | None
    rows: int
    shuffled: bool
    tokens: int
    blocks: list[Block]
    create_ms: int
    job_ms: int
    fate: Fate
    cancelled_ms: int | None = None
    input_gone_ms: int | None = None
    """When the job failed because its input file was deleted."""
    deleted: bool = False
    ran: Ran | None = None
    hook: Hook | None = None
    told: bool = False
    """Whether webhooks have been told of the end."""
    openai: dict[str, Any] | None = None
    """What an OpenAI client asked for: {"endpoint", "metadata"}; None for a native job."""

    @property
    def inline_output(self) -> bool:
        """Whether the results go into the operation, not into a file."""
        return self.input_file is None or self.fate.inline_output


class Status(msgspec.Struct, frozen=True):
    """The state of a job at a moment; `end_ms` and `error` only when it has ended."""

    state: State
    update_ms: int
    end_ms: int | None = None
    error: dict[str, Any] | None = None
    named: bool = True
    """Whether results are named, if there are any."""


def due_ms(job: Job) -> int:
    """When the job ends if its results are ready by then."""
    if job.cancelled_ms is not None:
        return job.cancelled_ms
    return job.create_ms + job.fate.pending_ms + job.job_ms


def status(job: Job, now_ms: int) -> Status:
    """The state of `job` at `now_ms`."""
    if job.input_gone_ms is not None:
        return _ended("FAILED", job.input_gone_ms, 5, NOT_FOUND)
    return _by_the_clock(job, now_ms)


def _by_the_clock(job: Job, now_ms: int) -> Status:
    due, expiry = due_ms(job), job.create_ms + EXPIRY_MS
    if job.cancelled_ms is not None and not job.fate.half:
        return _ended("CANCELLED", due, 13, "Batch was cancelled.")
    if due >= expiry and now_ms >= expiry:
        return _ended("EXPIRED", expiry, 4, "Batch expired before it was completed.")
    if now_ms < due:
        start = job.create_ms + job.fate.pending_ms + int(job.job_ms * PENDING_SHARE)
        return Status("PENDING", job.create_ms) if now_ms < start else Status("RUNNING", start)
    if job.fate.end != "SUCCEEDED":
        return _ended(job.fate.end, due, job.fate.code, job.fate.message)
    if job.ran is None:
        return Status("RUNNING", due)
    end = max(due, job.ran.finished_ms)
    return Status("SUCCEEDED", end, end, named=now_ms >= end + job.fate.late_ms)


def hurt(job: Job, now_ms: int) -> bool:
    """Whether the job fails when its input file is deleted at `now_ms`."""
    needs = {"PENDING": job.fate.needs_input_pending, "RUNNING": job.fate.needs_input_running}
    return needs.get(status(job, now_ms).state, False)


def _ended(state: State, end_ms: int, code: int, message: str) -> Status:
    return Status(state, end_ms, end_ms, {"code": code, "message": message})


def operation(job: Job, at: Status, inlined: msgspec.Raw | None = None, *, listed: bool = False) -> dict[str, Any]:
    """The operation as the service shows it (protocol sections 3 to 6); `inlined` are the results of an inline job."""
    kind = TYPE_PREFIX + TYPES[job.kind]
    name = f"batches/{job.id}"
    output: dict[str, Any] = {}
    if at.state == "SUCCEEDED" and at.named and not listed:
        output = (
            {"inlinedResponses": {"inlinedResponses": inlined or []}}
            if job.inline_output
            else {"responsesFile": f"files/batch-{job.id}"}
        )
    metadata: dict[str, Any] = {"@type": kind, "model": f"models/{job.model}"}
    if job.display_name is not None:
        metadata["displayName"] = job.display_name
    if job.input_file is not None:
        metadata["inputConfig"] = {"fileName": job.input_file}
    if output:
        metadata["output"] = output
    metadata["createTime"] = timestamp(job.create_ms, job.number)
    if at.end_ms is not None:
        metadata["endTime"] = timestamp(at.end_ms, job.number + 47)
    metadata["updateTime"] = timestamp(at.update_ms, job.number)
    if stats := _stats(job, at, listed=listed):
        metadata["batchStats"] = stats
    if job.priority:
        metadata["priority"] = str(job.priority)
    prefix = "JOB_STATE_" if job.fate.job_state else "BATCH_STATE_"
    metadata |= {"state": prefix + at.state, "name": name}
    if job.fate.flat:
        return metadata
    shown: dict[str, Any] = {"name": name, "metadata": metadata}
    if at.end_ms is not None:
        shown["done"] = True
    if at.error is not None and not listed:
        shown["error"] = at.error
    if output:
        shown["response"] = {"@type": kind + "Output", **output}
    return shown


def _stats(job: Job, at: Status, *, listed: bool) -> dict[str, str]:
    """The counters. Those of list entries are stale, as they were seen to be (protocol section 6)."""
    if job.ran is None or at.state != "SUCCEEDED" or listed:
        counts = {"requestCount": job.rows, "pendingRequestCount": job.rows}
    else:
        failed = job.ran.tally.failed
        counts = {
            "requestCount": job.rows,
            "successfulRequestCount": job.rows - failed,
            "failedRequestCount": failed,
        }
    return {name: str(count) for name, count in counts.items() if count}
