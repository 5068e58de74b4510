"""What each script is told: one struct a script, with its arguments in the order in which the script reads them.

The header of ``lua/<script>.lua`` has the same names in the same order and says what they mean; ``tests/test_lua.py``
holds the two to each other. A last field that is a list is for things of which there are several: each of its items
stands for one argument or, as a tuple, for one group of them.
"""

from __future__ import annotations

from gemqueue.store.groups import Compared, Field, Landing, Listed, Move, Raise, Review, Wrapped  # noqa: TC001 - types
from gemqueue.store.scripts import Call


class Accept(Call, frozen=True, gc=False):
    batch: str
    fence: int
    job: str
    how: str
    delay_ms: int
    input_file: str
    created_at_ms: int
    by_key: str


class Announce(Call, frozen=True, gc=False):
    event: str
    job: str
    token: str
    named: str
    heard_s: int
    early_s: int


class Ask(Call, frozen=True, gc=False):
    batch: str
    fence: int
    prompt: str
    calls: int
    again: int
    limits: bytes


class Beat(Call, frozen=True, gc=False):
    account: str
    worker: str
    roles: str
    ttl_ms: int
    accounts: str
    host: str
    pid: int
    version: str
    swept_at: int
    waiting_for: str
    known: bytes


class Begin(Call, frozen=True, gc=False):
    batch: str
    fence: int
    lease_ms: int
    token: str
    file: str
    by_key: str


class Cancel(Call, frozen=True, gc=False):
    segment: str
    index: int
    bits: bytes
    blob: bytes
    keep_s: int


class Claim(Call, frozen=True, gc=False):
    member: str
    account: str
    lease_ms: int
    take_held: str
    known: bytes


class ClearUnknown(Call, frozen=True, gc=False):
    account: str
    compared: list[Compared]


class Close(Call, frozen=True, gc=False):
    batch: str
    fence: int
    terms: bytes


class Confirm(Call, frozen=True, gc=False):
    batch: str


class CountDoubt(Call, frozen=True, gc=False):
    batch: str
    fence: int
    crashes: int
    calls: int


class CountTwice(Call, frozen=True, gc=False):
    batch: str
    job: str
    prompts: int


class Decide(Call, frozen=True, gc=False):
    member: str
    account: str
    fence: int
    decided: str


class Defer(Call, frozen=True, gc=False):
    lane: str
    fence: int
    not_within_ms: int
    looks: list[Review]


class Deliver(Call, frozen=True, gc=False):
    keep_s: int
    room_bytes: int
    segments: list[str]


class Divert(Call, frozen=True, gc=False):
    lane: str
    fence: int
    segment: str
    to: str
    full: bytes


class End(Call, frozen=True, gc=False):
    batch: str
    fence: int
    ending: bytes


class Enqueue(Call, frozen=True, gc=False):
    segment: bytes
    entry: bytes


class Fence(Call, frozen=True, gc=False):
    batch: str
    fence: int
    delay_ms: int
    by_key: str


class ForgetName(Call, frozen=True, gc=False):
    account: str
    segment: str
    prompt: str


class Greet(Call, frozen=True, gc=False):
    account: str
    home: str
    lossless: int
    known: bytes


class Hasten(Call, frozen=True, gc=False):
    member: str
    account: str


class LearnTokenRatio(Call, frozen=True, gc=False):
    lane: str
    ratio: float


class Limit(Call, frozen=True, gc=False):
    account: str
    tenant: str
    weight: str
    jobs_max: str
    per_min_max: str
    keep_outcome_s: str


class NoteUnknown(Call, frozen=True, gc=False):
    account: str
    again_ms: int
    keep_s: int
    jobs: list[Listed]


class OpenRun(Call, frozen=True, gc=False):
    account: str
    name: str
    settings: str
    producer: str
    keep_s: int
    command: str
    config_mode: str
    store: str
    entries: list[bytes]


class Pack(Call, frozen=True, gc=False):
    lane: str
    fence: int
    batch: str
    limits: bytes


class Permit(Call, frozen=True, gc=False):
    account: str
    service: str
    per_min: int


class PurgeDead(Call, frozen=True, gc=False):
    letters: list[str]


class PurgeLine(Call, frozen=True, gc=False):
    segment: str
    place: int
    digest: str
    value: bytes


class PurgeRun(Call, frozen=True, gc=False):
    account: str
    name: str
    segments: list[str]


class Rebuild(Call, frozen=True, gc=False):
    batch: str
    account: str
    job: bytes
    segments: list[str]


class Reconsider(Call, frozen=True, gc=False):
    lane: str
    segments: list[str]


class Rehome(Call, frozen=True, gc=False):
    account: str
    home: str


class Release(Call, frozen=True, gc=False):
    member: str
    account: str
    fence: int
    delay_ms: int
    fields: list[Field]


class Renew(Call, frozen=True, gc=False):
    member: str
    account: str
    fence: int
    lease_ms: int


class Reopen(Call, frozen=True, gc=False):
    batch: str
    fence: int
    delay_ms: int
    held_reason: str
    token: str
    fields: list[Field]


class Replay(Call, frozen=True, gc=False):
    segment: bytes
    letters: list[str]


class Replied(Call, frozen=True, gc=False):
    batch: str
    fence: int
    prompt: str
    how: str
    calls: int
    limits: bytes


class Requeue(Call, frozen=True, gc=False):
    batch: str
    fence: int
    retry: bytes
    body: bytes
    keys: bytes
    moves: list[Move]


class Rescue(Call, frozen=True, gc=False):
    lane: str
    fence: int
    retry: bytes
    body: bytes
    keys: bytes
    segment: str
    bits: bytes
    batch: str


class Reserve(Call, frozen=True, gc=False):
    batch: str
    fence: int
    limits: bytes


class Rest(Call, frozen=True, gc=False):
    lane: str
    fence: int
    full: bytes
    not_within_ms: int
    parked: bytes


class Restart(Call, frozen=True, gc=False):
    batch: str
    fence: int
    job: str
    delay_ms: int
    held_reason: str
    proven: int


class Resume(Call, frozen=True, gc=False):
    account: str
    noticed: str
    reason: str
    lossless: int


class Rewrap(Call, frozen=True, gc=False):
    tenant: str
    by: str
    keys: list[Wrapped]


class Settle(Call, frozen=True, gc=False):
    batch: str
    fence: int
    keep_s: int
    dead_bytes_max: int
    dead: bytes
    landings: list[Landing]


class Shred(Call, frozen=True, gc=False):
    tenant: str
    by: str


class Shrink(Call, frozen=True, gc=False):
    batch: str
    fence: int
    refusal: bytes


class Split(Call, frozen=True, gc=False):
    batch: str
    fence: int
    new_batch: str
    segments: int
    refusals: int


class Suspend(Call, frozen=True, gc=False):
    batch: str
    fence: int
    refusal: bytes


class Tally(Call, frozen=True, gc=False):
    numbers: list[Raise]


class Tick(Call, frozen=True, gc=False):
    account: str


class Watch(Call, frozen=True, gc=False):
    segment: str
    producer: str
