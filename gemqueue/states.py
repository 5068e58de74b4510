"""The states of a batch, the steps that move it, and the kinds of outcome.

Everything that affects transitions lives here.

A batch is sealed when its prompts are chosen, becomes one provider job, and is closed when each of its prompts is
settled or has moved on into another segment. ``TRANSITIONS`` is the whole machine: state, verb, next state. Each verb
is one Lua file of the same name, so a transition that is not in this table cannot happen, and the diagram in
ARCHITECTURE.md is printed from it.
"""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """Where a batch is. While its prompts are packed, the batch says the rest."""

    PACKING = "packing"
    """Segments are being moved in, a slice at a time; ``pack`` seals it."""
    SEALED = "sealed"
    """Its prompts are chosen; the submitter uploads them and moves it out with ``begin``."""
    SUBMITTING = "submitting"
    """A create may be in flight. ``accept`` moves it on; in doubt ``fence``, then ``accept`` (adopt) or ``reopen``."""
    SUBMITTED = "submitted"
    """A provider job exists; the tracker moves it out with ``end`` when the job is terminal, or with ``restart``."""
    ENDED = "ended"
    """The job is terminal; the resolver settles and requeues its prompts and moves it out with ``close``."""
    CLOSING = "closing"
    """Being checked and cleaned a slice at a time; ``close`` ends it."""
    CLOSED = "closed"
    """Every prompt is settled or moved. The record has a TTL."""


class Step(StrEnum):
    """A thing to do, as it stands in the due index before the id it is for."""

    PACK = "pack"
    SUBMIT = "submit"
    TRACK = "track"
    RESOLVE = "resolve"
    RESCUE = "rescue"


LANE_STEPS = frozenset({Step.PACK, Step.RESCUE})
"""Steps for a lane; the others are for a batch."""

TRANSITIONS: tuple[tuple[BatchState, str, BatchState], ...] = (
    (BatchState.PACKING, "pack", BatchState.PACKING),
    (BatchState.PACKING, "pack", BatchState.SEALED),
    (BatchState.PACKING, "rebuild", BatchState.PACKING),
    (BatchState.PACKING, "rebuild", BatchState.SUBMITTED),
    (BatchState.SEALED, "split", BatchState.SEALED),
    (BatchState.SEALED, "requeue", BatchState.SEALED),
    (BatchState.SEALED, "settle", BatchState.SEALED),  # what has no body any more
    (BatchState.SEALED, "begin", BatchState.SUBMITTING),
    (BatchState.SEALED, "end", BatchState.ENDED),
    (BatchState.SUBMITTING, "fence", BatchState.SUBMITTING),
    (BatchState.SUBMITTING, "accept", BatchState.SUBMITTED),
    (BatchState.SEALED, "accept", BatchState.SUBMITTED),  # to adopt a job that the server has forgotten
    (BatchState.SUBMITTING, "reopen", BatchState.SEALED),
    (BatchState.SUBMITTED, "end", BatchState.ENDED),
    (BatchState.SUBMITTED, "restart", BatchState.SEALED),  # its job missed its input file
    (BatchState.ENDED, "settle", BatchState.ENDED),
    (BatchState.ENDED, "requeue", BatchState.ENDED),
    (BatchState.ENDED, "close", BatchState.CLOSING),
    (BatchState.CLOSING, "settle", BatchState.CLOSING),
    (BatchState.CLOSING, "requeue", BatchState.CLOSING),
    (BatchState.CLOSING, "close", BatchState.CLOSING),
    (BatchState.CLOSING, "close", BatchState.CLOSED),
)

STEP_OF: dict[BatchState, Step | None] = {
    BatchState.PACKING: None,  # the lane's pack step drives it
    BatchState.SEALED: Step.SUBMIT,
    BatchState.SUBMITTING: Step.SUBMIT,
    BatchState.SUBMITTED: Step.TRACK,
    BatchState.ENDED: Step.RESOLVE,
    BatchState.CLOSING: Step.RESOLVE,
    BatchState.CLOSED: None,
}


class Kind(StrEnum):
    """What is asked of the model; a lane has one."""

    GENERATE = "generate"
    EMBED = "embed"


class FailureKind(StrEnum):
    """Why a prompt ended without an answer."""

    BLOCKED = "blocked"
    """The provider withheld it (safety, recitation, prohibited content ...); repeating it unchanged is pointless."""
    EMPTY = "empty"
    """A response row without any content; the same request would be bought again, so it is not retried."""
    INVALID = "invalid"
    """The provider calls the request wrong; it never becomes right."""
    PROVIDER = "provider"
    """The provider failed on the row, again after every retry."""
    MISSING = "missing"
    """The job ended without a row for it, again after every retry."""
    EXPIRED = "expired"
    """Its jobs expired or failed as a whole, again after every requeue."""
    CANCELLED = "cancelled"
    """Somebody cancelled it."""
    LOST = "lost"
    """Redis lost its body before it was bought, or before it could be bought again; what it was is gone."""
    REFUSED = "refused"
    """The queue did not take it: it was full, or its server stayed away; the error says which."""


class Cause(StrEnum):
    """Why something is held: what code asks. The words beside it are for people."""

    NONE = ""
    ACCOUNT = "account"
    """The key of its account was refused."""
    QUOTA = "quota"
    """No room: open jobs, enqueued tokens, stored bytes, requests a minute."""
    SPEND = "spend"
    """The provider refuses for want of money."""
    PROVIDER = "provider"
    """A call to the provider failed for another reason, or it does not know the job."""
    INPUT = "input"
    """Its job failed because the input file was gone."""
    SERVER = "server"
    """The server was restarted or changed: the provider's jobs are compared first."""
    REPLICA = "replica"
    """No replica of the server confirms a write."""
    CRASHES = "crashes"
    """Workers die at its steps."""
    DEFECT = "defect"
    """A step of ours failed: a setting, or a fault of gemqueue."""


class JobState(StrEnum):
    """The provider's job as the port reports it; unknown spellings count as running (protocol section 10)."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self is not JobState.RUNNING
