"""The nouns: frozen records, and the ids that tie them together.

A prompt's key is ``<segment id>.<index>``: ASCII, unguessable, unique for ever. A segment id begins with its shard (two
hex digits), so a key says by itself where its outcome lies. A retry segment's id ends in the fence of the requeue that
made it, so the same requeue makes the same id. Every record carries ``v``, the version of its layout.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import ConfigError
from gemqueue.states import BatchState, FailureKind, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARD = "00"
BATCH = "batch"
"""The service class of the Batch API; every other one is interactive."""
_ID_BYTES = 10


class Lane(msgspec.Struct, frozen=True):
    """What may share a batch. Written as ``account/model/kind/service``."""

    account: str
    model: str
    kind: Kind
    service: str = BATCH

    def __str__(self) -> str:
        return f"{self.account}/{self.model}/{self.kind}/{self.service}"

    @property
    def interactive(self) -> bool:
        """Whether its prompts are asked one by one instead of in a job."""
        return self.service != BATCH

    def of(self, service: str) -> Lane:
        """The lane of another service class beside this one."""
        return msgspec.structs.replace(self, service=service)

    @staticmethod
    def parse(text: str) -> Lane:
        """The lane that ``text`` names. Raises ValueError when it names none."""
        account, model, kind, service = text.split("/")
        return Lane(account, model, Kind(kind), service)


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a prompt ended without an answer.

    ``code`` is a google.rpc code or 0; ``raw`` is the provider's row, if any.
    """

    key: str
    kind: FailureKind
    message: str = ""
    code: int = 0
    attempts: int = 0
    name: str | None = None
    raw: bytes = b""


class SegmentMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a segment without its body.

    ``raw_bytes`` is the length of its lines, ``bytes`` that of the value in Redis. ``origins`` is empty for a segment
    that a producer wrote; for a retry segment it lists, line by line, the keys of its prompts.
    """

    id: str
    state: str
    count: int
    bytes: int
    raw_bytes: int
    lane: str
    attempt: int = 0
    requeues: int = 0
    producer: str = ""
    batch: str = ""
    keys: tuple[str, ...] = ()
    tenant: str = "default"
    priority: int = 0
    tokens: int = 0
    named: bool = False
    deadline_at: int = 0
    """When its prompts are wanted, ms of the store's clock; 0 for whenever."""

    def key_of(self, index: int) -> str:
        """The key of line ``index``."""
        return self.keys[index] if self.keys else f"{self.id}.{index}"


Held = tuple[str, int]
"""Why something does not move on, empty where nothing holds it, and since when in ms, 0 where that is not known."""


def why_held(state: str, own: Held, *pauses: Held) -> Held:
    """A batch's own reason; else, before its create, that of the first pause of those that it waits for."""
    if own[0] or state not in {BatchState.PACKING, BatchState.SEALED}:
        return own
    return next((pause for pause in pauses if pause[0]), own)


def waits_for(lane: str, pool: str = "") -> list[str]:
    """The accounts whose pause after a change of the server holds a batch: its lane's, and the pool's it came from."""
    return [Lane.parse(lane).account, *([pool] if pool else [])]


class Onward(msgspec.Struct, frozen=True, kw_only=True):
    """A segment made of lines that leave others: their keys in order as (origin, indices), and where they go."""

    id: str
    lane: str
    tenant: str
    priority: int
    count: int
    raw_bytes: int
    tokens: int
    attempt: int
    keys: list[tuple[str, list[int]]]
    deadline_at: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's record, as a claim returns it. Times are milliseconds of the store's clock, 0 for never."""

    id: str
    v: int
    state: BatchState
    lane: str
    fence: int
    lease_until: int = 0
    prompts: int = 0
    segments: int = 0
    raw_bytes: int = 0
    tokens: int = 0
    created_at: int = 0
    intent_token: str = ""
    intent_file: str = ""
    intent_at: int = 0
    past_tokens: str = ""
    by_key: str = ""
    fenced_at: int = 0
    job: str = ""
    job_state: str = ""
    input_file: str = ""
    output_file: str = ""
    rows: int = 0
    accepted_at: int = 0
    ended_at: int = 0
    polls: int = 0
    tries: int = 0
    denials: int = 0
    short_reads: int = 0
    denied_creates: int = 0
    inputs_missed: int = 0
    missed_jobs: str = ""
    """Jobs that failed for want of their input file, in place of each of which another one is created."""
    crashes: int = 0
    crashes_held: int = 0
    refusals: int = 0
    solo: int = 0
    cancels_seen: int = 0
    cancel_at: int = 0
    slow_at: int = 0
    closed_segments: int = 0
    held_reason: str = ""
    held_since: int = 0
    held_for: str = ""
    pool: str = ""
    """The account (a pool's) of the lane that it was packed from, where that is not its own."""
    reserved: int = 0
    error: str = ""
    operation: str = ""
    event_at: int = 0
    event_job: str = ""


def batch_held(batch: Batch, pauses: Mapping[str, Held]) -> Held:
    """Why the batch does not move on, as ``why_held`` says it; ``pauses`` of the accounts that it waits for."""
    own = (batch.held_reason, batch.held_since)
    return why_held(batch.state, own, *(pauses[account] for account in waits_for(batch.lane, batch.pool)))


class WebhookHealth(msgspec.Struct, frozen=True):
    """How far a lane's webhooks can be relied on: ends in a row that they told of first, and when the last one did."""

    announced: int = 0
    announced_at: int = 0


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in a lane, as the packer sees it after its claim."""

    lane: str
    fence: int
    prompts: int = 0
    segments: int = 0
    raw_bytes: int = 0
    tokens: int = 0
    ceiling: int = 0
    oldest: int = 0
    batch: str = ""
    token_ratio: float = 1.0
    held_reason: str = ""


def new_segment_id() -> str:
    """A segment id of 22 characters, unguessable."""
    return SHARD + secrets.token_hex(_ID_BYTES)


def new_batch_id() -> str:
    """A batch id of 23 characters; it starts with its shard and a ``b``."""
    return f"{SHARD}b{secrets.token_hex(_ID_BYTES)}"


def new_producer_id() -> str:
    """A producer id, never reused."""
    return f"{SHARD}p{secrets.token_hex(8)}"


def retry_segment_id(batch: str, fence: int, number: int) -> str:
    """The id of the ``number``-th retry segment that the requeue under ``fence`` makes from ``batch``."""
    return f"{batch}r{fence}-{number}"


def rescue_segment_id(batch: str, fence: int, number: int) -> str:
    """The id of the ``number``-th segment that the rescue step under ``fence`` takes out of ``batch``."""
    return f"{batch}x{fence}-{number}"


def split_key(key: str) -> tuple[str, int]:
    """Segment id and index of a key. Raises ConfigError when it is not a key of gemqueue's."""
    segment, dot, index = key.rpartition(".")
    if not dot or not segment or not index.isascii() or not index.isdigit() or not segment.isascii() or len(key) > 128:
        raise ConfigError(f"{key[:80]!r} is not a key: a key is what future.key says, like 00c0ffee.17")
    return segment, int(index)
