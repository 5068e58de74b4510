"""The states of batches and segments, the steps that move a batch, and the kinds of outcome.

Everything that affects transitions lives here.

A batch is sealed when its prompts are chosen, becomes one provider job, and is closed when each of its prompts is
settled or has moved on into another segment. ``TRANSITIONS`` is the whole machine: state, verb, next state. Each verb
is one Lua file of the same name, so a transition that is not in this table cannot happen, and the diagram in
ARCHITECTURE.md is printed from it. ``SEGMENT_TRANSITIONS`` is the same for a segment. ``MOVES`` says of every script
which records it writes.
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


class SegmentState(StrEnum):
    """Where a segment is; nothing is known of one that is not there yet, or any more."""

    LIVE = "live"
    """It waits in a lane or is in a batch; or it has lines in other segments, whose outcomes it is to get."""
    CLOSED = "closed"
    """Each of its prompts has its outcome. A retry segment: each of its lines is settled or moved. It has a TTL."""


SEGMENT_TRANSITIONS: tuple[tuple[SegmentState | None, str, SegmentState | None], ...] = (
    (None, "enqueue", SegmentState.LIVE),
    (None, "replay", SegmentState.LIVE),  # of dead letters
    (None, "requeue", SegmentState.LIVE),  # of lines that others leave
    (None, "rescue", SegmentState.LIVE),
    (SegmentState.LIVE, "pack", SegmentState.LIVE),  # out of its lane into a batch
    (SegmentState.LIVE, "split", SegmentState.LIVE),  # into another batch
    (SegmentState.LIVE, "rebuild", SegmentState.LIVE),
    (SegmentState.LIVE, "divert", SegmentState.LIVE),  # into another lane
    (SegmentState.LIVE, "requeue", SegmentState.LIVE),  # lines of it go on
    (SegmentState.LIVE, "rescue", SegmentState.LIVE),
    (SegmentState.LIVE, "settle", SegmentState.LIVE),
    (SegmentState.LIVE, "cancel", SegmentState.LIVE),
    (SegmentState.LIVE, "close", SegmentState.LIVE),  # back into its lane, or without its body
    (SegmentState.LIVE, "settle", SegmentState.CLOSED),
    (SegmentState.LIVE, "cancel", SegmentState.CLOSED),
    (SegmentState.LIVE, "close", SegmentState.CLOSED),  # a retry segment
    (SegmentState.CLOSED, "purge_run", None),
)


class Record(StrEnum):
    """What scripts move, by the first word of its key. A lane and a run have no states, only what they hold."""

    BATCH = "batch"
    SEGMENT = "segmeta"
    LANE = "lane"
    RESCUE = "rescue"
    """Of a lane whose prompts are wanted by a time: the fence of its rescue step."""
    QUOTA = "quota"
    """An account's ledger: what its batches have reserved, and what refusals have taught."""
    RUN = "run"
    SERVER = "server"
    """The server as one account knows it."""
    WORKER = "worker"
    """A worker process, as its last heartbeat left it."""
    TENANT = "tenant"
    """What a tenant of an account may have."""
    DEAD = "dead"
    SEAL = "seal"
    """A tenant's keys, wrapped."""


_B, _S, _L, _Q = Record.BATCH, Record.SEGMENT, Record.LANE, Record.QUOTA
MOVES: dict[str, frozenset[Record]] = {
    "accept": frozenset({_B, _L, _Q, Record.SERVER}),
    "announce": frozenset({_B, _L}),
    "ask": frozenset({_L}),
    "beat": frozenset({Record.SERVER, Record.WORKER}),
    "begin": frozenset({_B}),
    "cancel": frozenset({_B, _S, Record.RUN}),
    "claim": frozenset({_B, _L, _Q, Record.RESCUE, Record.SERVER}),
    "clear_unknown": frozenset(),
    "close": frozenset({_B, _S, _L}),
    "confirm": frozenset(),
    "count_doubt": frozenset({_B}),
    "count_twice": frozenset({_B}),
    "decide": frozenset({_B}),
    "defer": frozenset({Record.RESCUE}),
    "deliver": frozenset({_S}),
    "divert": frozenset({_S, _L}),
    "end": frozenset({_B, _L, _Q, Record.SERVER}),
    "enqueue": frozenset({_S, _L, Record.RESCUE, Record.RUN}),
    "fence": frozenset({_B}),
    "forget_name": frozenset(),
    "greet": frozenset({Record.SERVER}),
    "hasten": frozenset({_B, _L, Record.RESCUE}),
    "learn_token_ratio": frozenset({_L}),
    "limit": frozenset({_B, _L, Record.TENANT}),
    "note_unknown": frozenset(),
    "open_run": frozenset({Record.RUN}),
    "pack": frozenset({_B, _S, _L}),
    "permit": frozenset(),
    "purge_dead": frozenset({Record.DEAD}),
    "purge_line": frozenset({_S}),
    "purge_run": frozenset({_S, Record.RUN}),
    "rebuild": frozenset({_B, _S, _L, _Q}),
    "reconsider": frozenset({Record.RESCUE}),
    "rehome": frozenset({Record.SERVER}),
    "release": frozenset({_B, _L, _Q, Record.SERVER}),
    "renew": frozenset({_B, _L, Record.RESCUE}),
    "reopen": frozenset({_B, _Q}),
    "replay": frozenset({_S, _L, Record.DEAD}),
    "replied": frozenset({_L}),
    "requeue": frozenset({_B, _S, _L, Record.RESCUE}),
    "rescue": frozenset({_B, _S, _L}),
    "reserve": frozenset({_B, _L, _Q, Record.SERVER}),
    "rest": frozenset({_L}),
    "restart": frozenset({_B, _L, _Q, Record.SERVER}),
    "resume": frozenset({Record.SERVER}),
    "rewrap": frozenset({Record.SEAL}),
    "settle": frozenset({_S, Record.RUN, Record.DEAD}),
    "shred": frozenset({Record.SEAL}),
    "shrink": frozenset({_B, _Q}),
    "split": frozenset({_B, _S}),
    "suspend": frozenset({_B, _Q}),
    "tally": frozenset(),
    "tick": frozenset({_B, _L, _Q, Record.RESCUE, Record.SERVER}),
    "watch": frozenset({_S}),
}
"""Which records each script may write; counters, indexes and what only expires are not listed."""

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
    """Its body is gone before it was bought, or before it could be bought again: Redis lost it, or its tenant's key
    was destroyed (``gemqueue admin shred``).

    Or the server has forgotten the queue that took it; then it may have been bought."""
    REFUSED = "refused"
    """The queue did not take it: it was full, or its server stayed away; the error says which."""
    DOUBT = "doubt"
    """Call after call at an interactive service got no reply, and no batch may have it; each may have been billed."""


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
    FORGOTTEN = "forgotten"
    """The server has forgotten the queue, or is another one: a person says how to go on."""
    REPLICA = "replica"
    """No replica of the server confirms a write."""
    SEAL = "seal"
    """It is sealed, and no worker has the key."""
    CRASHES = "crashes"
    """Workers die at its steps."""
    TENANT = "tenant"
    """Its tenant has as many jobs in flight, or prompts a minute, as it may have."""
    DOUBT = "doubt"
    """What the provider says would cost money or answers if it were wrong: it is asked again before it is believed."""
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
