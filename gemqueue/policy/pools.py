"""A pool of accounts: lanes that belong to none of them, and are packed by the one that has room. Pure.

The life of a pool's prompt: its producer names the pool, so its lane carries the pool's id in an account's place. The
workers of each account look at the pool's due lanes beside their own. One whose account has room for one more job packs
the lane into a batch of its own account, and from then on the batch is like any other of that account: nobody else
submits, tracks or resolves it. What comes to nothing, or must be asked again, goes back to the pool's lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue.policy import holds
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Ledger, Limits, Resource
from gemqueue.records import NOT_HELD, Hold
from gemqueue.states import BatchState, Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.records import Batch, Lane


RETURNED = "returned"
"""Job state of a batch that a person gave back to its pool: there was no job (lua/close.lua)."""


class OpenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool's rule needs of a batch that is not closed."""

    id: str
    lane: Lane
    state: BatchState
    hold: Hold = NOT_HELD
    held_for: str = ""
    """The resource that it waits for: ``jobs``, ``model_jobs/<model>``, ``tokens/<model>``, or empty."""
    tokens: int = 0
    raw_bytes: int = 0
    input_file: str = ""
    priority: int = 0
    """The highest of its segments."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """An account as one look saw it: its open batches, its ledger, when (ms)."""

    account: str
    batches: Sequence[OpenBatch]
    ledger: Ledger
    now_ms: int


def lane_of(lane: Lane, account: str) -> Lane:
    """The lane of this account that batches of a pool's lane go to."""
    return msgspec.structs.replace(lane, account=account)


def belongs(lane: str, pool: str) -> bool:
    """Whether a lane is one of the pool's."""
    return bool(pool) and lane.startswith(f"{pool}/")


def why_kept(batch: Batch) -> str:
    """Why a batch cannot be given back to its pool; empty where no job was ever begun for it, so that none can be."""
    if not batch.pool:
        return "it did not come from a pool"
    if batch.state is not BatchState.SEALED:
        return f"it is {batch.state}, and its account alone can go on with it"
    if batch.intent_token or batch.past_tokens:
        return "a job was begun for it, and its account alone can say what became of that"
    return ""


def why_left(room: Room, model: str, tokens: int, limits: Limits, raw_bytes: int = 0) -> str:
    """Why the account leaves a pool's lane to others; empty when it may pack a batch of about so many tokens and bytes.

    Something of its own that is held comes first, above all a refused key: it must not swallow what others can do.
    Until the provider has taken a job of the account's open batches, one at a time is enough. What waits for another
    model's tokens is no hindrance: the provider has seen the key, and that model's room says nothing of this one's.
    """
    elsewhere = {one.id for one in room.batches if "/" in one.held_for and not one.held_for.endswith(f"/{model}")}
    sealed = [one for one in room.batches if one.state in {BatchState.SEALED, BatchState.SUBMITTING}]
    before_job = [one for one in sealed if one.id not in elsewhere]
    with_job = [one for one in room.batches if one.state is BatchState.SUBMITTED]
    for one in room.batches:
        if one.hold.cause is Cause.ACCOUNT or (one.hold.text and one in before_job):
            return f"{room.account}: {one.hold.text}"
    if before_job and not with_job:
        return f"{room.account}: its first job is on its way"
    held = no_room(room, model, tokens, limits, raw_bytes)
    return f"{room.account}: {holds.why_no_room(held).text}" if held is not None else ""


def no_room(room: Room, model: str, tokens: int, limits: Limits, raw_bytes: int) -> QuotaHold | None:
    """What one more batch of about so many tokens and bytes would stand in line for; None where there is room for it.

    What is sealed counts as if it had its room already.
    """
    sealed = [one for one in room.batches if one.state in {BatchState.SEALED, BatchState.SUBMITTING}]
    stored = [one for one in room.batches if one in sealed or (one.state is BatchState.SUBMITTED and one.input_file)]
    return _no_room(room, sealed, model, tokens, limits) or _no_storage(stored, raw_bytes, limits)


def _no_storage(stored: Sequence[OpenBatch], raw_bytes: int, limits: Limits) -> QuotaHold | None:
    used = sum(one.raw_bytes for one in stored)
    if used and used + raw_bytes > limits.stored_bytes_max:
        return QuotaHold(Resource.STORED_BYTES, used, limits.stored_bytes_max, 0.0, refused=False)
    return None


def _no_room(room: Room, sealed: Sequence[OpenBatch], model: str, tokens: int, limits: Limits) -> QuotaHold | None:
    """As ``reserve`` judges (lua/reserve.lua), with what is sealed and has not reserved yet counted too."""
    spend = room.ledger.corrections.get(Resource.SPEND)
    if spend is not None and spend.held_until > room.now_ms:
        return QuotaHold(Resource.SPEND, 0, 0, 0.0, True, spend.why)
    used = _used(room, sealed, model)
    wanted = {
        Resource.JOBS: (1, limits.jobs_max),
        Resource.MODEL_JOBS: (1, limits.model_jobs_max),
        Resource.TOKENS: (tokens, limits.tokens_max),
    }
    for resource, (amount, limit) in wanted.items():
        key = str(resource) if resource is Resource.JOBS else f"{resource}/{model}"
        lesson = room.ledger.corrections.get(key)
        most = limit if lesson is None else min(limit, int(lesson.ceiling))
        refused = lesson is not None and lesson.held_until > room.now_ms
        if refused or (used[resource] and used[resource] + amount > most):
            return QuotaHold(resource, used[resource], most, 0.0, refused)
    return None


def _used(room: Room, sealed: Sequence[OpenBatch], model: str) -> dict[Resource, int]:
    """What is taken of each resource: by reservations, and by what is sealed and has none yet."""
    counted = [one for one in room.ledger.reservations if not one.until or one.until > room.now_ms]
    ids = {one.batch for one in counted}
    waiting = [one for one in sealed if one.id not in ids]
    tokens = [one.tokens for one in counted if one.model == model]
    tokens += [one.tokens for one in waiting if one.lane.model == model]
    return {
        Resource.JOBS: len(counted) + len(waiting),
        Resource.MODEL_JOBS: len(tokens),
        Resource.TOKENS: sum(tokens),
    }
