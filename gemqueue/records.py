"""The nouns: frozen records, of which everybody speaks. Each carries ``v``, the version of its layout."""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec import UNSET, UnsetType

from gemqueue.states import BatchState, Cause, FailureKind, Kind, SegmentState

BATCH = "batch"
"""The service class of the Batch API; every other one is interactive."""


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

    @staticmethod
    def named(text: str) -> Lane | None:
        """The lane that ``text`` names; None when it names none, or one that only a newer gemqueue knows."""
        try:
            return Lane.parse(text)
        except ValueError:
            return None


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a prompt ended without an answer.

    ``code`` is a google.rpc code or 0; ``raw`` is what the provider said of it, as JSON: the response of a prompt that
    was blocked or came to nothing, else its error; empty where it said nothing.
    """

    key: str
    kind: FailureKind
    message: str = ""
    code: int = 0
    attempts: int = 0
    name: str | None = None
    raw: bytes = b""

    @property
    def response(self) -> dict[str, object]:
        """The provider's response to a prompt that was blocked or came to nothing; empty where there is none."""
        if self.kind not in {FailureKind.BLOCKED, FailureKind.EMPTY} or not self.raw:
            return {}
        try:
            return msgspec.json.decode(self.raw, type=dict[str, object])
        except (ValueError, RecursionError):  # msgspec's errors are some of the former
            return {}

    @property
    def usage(self) -> dict[str, object]:
        """The token counts of that response (``promptTokenCount`` ...): it may have been billed; empty without one."""
        usage = self.response.get("usageMetadata")
        return cast("dict[str, object]", usage) if isinstance(usage, dict) else {}


class SegmentMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a segment without its body.

    ``raw_bytes`` is the length of its lines, ``bytes`` that of the value in Redis. ``keys`` is empty for a segment
    that a producer wrote; for a retry segment it lists, line by line, the keys of its prompts.
    """

    id: str
    state: SegmentState
    count: int
    bytes: int
    raw_bytes: int
    lane: Lane
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
    """When its prompts are wanted, ms of the store's clock; 0 for no deadline."""
    doubts: int = 0
    """Interactive calls for each of its prompts that got no reply, before it was written."""

    def key_of(self, index: int) -> str:
        """The key of line ``index``."""
        return self.keys[index] if self.keys else f"{self.id}.{index}"


class Hold(msgspec.Struct, frozen=True):
    """Why something does not move on, ``NOT_HELD`` where nothing holds it; since when in ms, 0 where unknown."""

    cause: Cause = Cause.NONE
    text: str = ""
    since_ms: int = 0


NOT_HELD = Hold()


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a step that is put back, or reopened, leaves in its batch's record. What is not given stays as it is."""

    tries: int | UnsetType = UNSET
    polls: int | UnsetType = UNSET
    short_reads: int | UnsetType = UNSET
    denied_creates: int | UnsetType = UNSET
    crashes_held: int | UnsetType = UNSET
    cancels_seen: int | UnsetType = UNSET
    cancels_met: int | UnsetType = UNSET
    open_left: int | UnsetType = UNSET
    unplaced_met: int | UnsetType = UNSET
    looked_at: int | UnsetType = UNSET
    cancel_at: int | UnsetType = UNSET
    slow_at: int | UnsetType = UNSET
    input_file: str | UnsetType = UNSET
    missed_jobs: str | UnsetType = UNSET
    operation: str | UnsetType = UNSET
    deaths: int | UnsetType = UNSET
    seen_what: str | UnsetType = UNSET
    seen_n: int | UnsetType = UNSET
    seen_first_at: int | UnsetType = UNSET
    seen_last_at: int | UnsetType = UNSET
    seen_by: str | UnsetType = UNSET
    decided: str | UnsetType = UNSET
    v: int | UnsetType = UNSET

    def fields(self) -> dict[str, str | int]:
        """What is given, by the record's names."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}

    def also(self, other: Note) -> Note:
        """Both; the other's word counts where both say something."""
        return msgspec.structs.replace(self, **other.fields())


class Onward(msgspec.Struct, frozen=True, kw_only=True):
    """A segment made of lines that leave others: their keys in order as (origin, indices), and where they go."""

    id: str
    lane: Lane
    tenant: str
    priority: int
    count: int
    raw_bytes: int
    tokens: int
    attempt: int
    keys: list[tuple[str, list[int]]]
    deadline_at: int = 0
    doubts: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's record, as a claim returns it. Times are milliseconds of the store's clock, 0 for never."""

    id: str
    v: int
    state: BatchState
    lane: Lane
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
    short_reads: int = 0
    denied_creates: int = 0
    inputs_missed: int = 0
    missed_jobs: str = ""
    """Jobs that failed for want of their input file, in place of each of which another one is created."""
    crashes: int = 0
    crashes_held: int = 0
    refusals: int = 0
    solo: int = 0
    cancels: int = 0
    """Prompts of it that were cancelled or rescued, where that was told (``cancel``, ``rescue``)."""
    cancels_met: int = 0
    """How many of those there were when its contents were last read for it, at ``looked_at``."""
    open_left: int = 0
    """How many of its prompts were open then."""
    unplaced_met: int = 0
    """What ``policy.cancels.unplaced`` was then."""
    looked_at: int = 0
    cancels_seen: int = 0
    """The queue's own counters then, as 0.2.0 compares them."""
    cancel_at: int = 0
    slow_at: int = 0
    closed_segments: int = 0
    held_reason: str = ""
    held_cause: str = ""
    """One of ``Cause``; empty beside a reason that 0.2.0 wrote. ``policy.holds.hold_of`` reads both."""
    held_since: int = 0
    held_for: str = ""
    pool: str = ""
    """The account (a pool's) of the lane that it was packed from, where that is not its own."""
    reserved: int = 0
    error: str = ""
    operation: str = ""
    event_at: int = 0
    event_job: str = ""
    deaths: int = 0
    """Creates in doubt in a row that were believed to have made no job."""
    seen_what: str = ""
    """What is being believed of the batch (``policy.beliefs``), and the details in which looks must agree."""
    seen_n: int = 0
    seen_first_at: int = 0
    seen_last_at: int = 0
    seen_by: str = ""
    """Fingerprints of other keys than ``by_key`` that have seen the job."""
    decided: str = ""
    """What a person says of what is being believed (``policy.believed.decision``)."""
    given_back: int = 0
    """Prompts that went back to the lane at its end, because its job brought nothing."""


class WebhookHealth(msgspec.Struct, frozen=True):
    """How far a lane's webhooks can be relied on: ends in a row that they told of first, and when the last one did."""

    announced: int = 0
    announced_at: int = 0


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself with each heartbeat."""

    accounts: tuple[str, ...]
    """Those whose steps it takes: its own, and the pool's."""
    host: str = ""
    pid: int = 0
    version: str = ""
    last_good_sweep_at: int = 0
    waiting_for: str = ""
    """What it cannot go on without, in a few words: the server, a refused key."""


class Known(msgspec.Struct):
    """What a process remembers of the server for one account: for as long as it lives, whatever the server forgets.

    ``seen_at`` is the last heartbeat that the server noted, by its clock; ``fence`` the highest that a claim was given.
    ``forgot`` is why nothing is bought, as the server last said it, or empty. ``was`` is the home before this one,
    where the account goes on although the server has forgotten it.
    """

    home: str = ""
    run_id: str = ""
    seen_at: int = 0
    fence: int = 0
    forgot: str = ""
    was: str = ""

    def packed(self) -> bytes:
        """As the scripts take it."""
        said = {"home": self.home, "run_id": self.run_id, "seen_at": self.seen_at, "fence": self.fence}
        return msgspec.msgpack.encode(said)

    def met(self, home: str, run_id: str, forgot: str, seen_at: int = 0) -> None:
        """What the server says of itself. A home that it has forgotten stays remembered while nothing is bought."""
        self.forgot = forgot
        if forgot and self.home:
            return
        if self.home not in {"", home}:
            self.was, self.seen_at = self.home, 0
        self.home, self.run_id = home, run_id
        self.seen_at = seen_at or self.seen_at


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as its last heartbeat left it. Times are milliseconds of the store's clock, 0 for never.

    One without a record (``beat_at`` 0) is of 0.2.0: only its roles are known, and it counts for every account.
    """

    id: str
    roles: tuple[str, ...]
    accounts: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    version: str = ""
    began_at: int = 0
    beat_at: int = 0
    last_good_sweep_at: int = 0
    waiting_for: str = ""


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in a lane, as the packer sees it after its claim."""

    lane: Lane
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
