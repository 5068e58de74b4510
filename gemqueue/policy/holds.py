"""Why something does not move on, and how that is said. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import ProviderError, Rejected, Transient
from gemqueue.policy.quota import Resource
from gemqueue.records import NOT_HELD, Hold
from gemqueue.states import BatchState, Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.records import Batch, Lane

_WORDS = {
    Resource.JOBS: "open jobs",
    Resource.MODEL_JOBS: "open jobs of the model",
    Resource.TOKENS: "enqueued tokens",
    Resource.STORED_BYTES: "bytes of stored input files (stored_bytes_max)",
}

_PREFIXES_OF_0_2 = {
    "account (": Cause.ACCOUNT,
    "quota (": Cause.QUOTA,
    **{f"{words}:": Cause.QUOTA for words in _WORDS.values()},
    "spend": Cause.SPEND,
    "provider (": Cause.PROVIDER,
    "input:": Cause.INPUT,
    "reconciling after": Cause.SERVER,
    "replica:": Cause.REPLICA,
    "crashes:": Cause.CRASHES,
    "the provider does not know the job": Cause.PROVIDER,
}
_ERROR_OF_0_2 = re.compile(r"[A-Z]\w*: ")
"""It began the reason of every other error with its class."""


def cause_of(cause: str, reason: str) -> Cause:
    """The cause that a record holds beside its reason.

    A worker of 0.2.0 writes the reason alone, and leaves the cause that stood there: its words count then. Goes in
    0.4, when no such worker is left.
    """
    if not reason:
        return Cause.NONE
    known = cause if cause in set(Cause) else ""
    said = next((of for prefix, of in _PREFIXES_OF_0_2.items() if reason.startswith(prefix)), None)
    if said is None and _ERROR_OF_0_2.match(reason):
        said = Cause.DEFECT
    return said or Cause(known or Cause.DEFECT)


def hold_of(cause: str, reason: str, since_ms: int) -> Hold:
    """What a record says of its hold."""
    return Hold(cause_of(cause, reason), reason, since_ms) if reason else NOT_HELD


def why_held(state: str, own: Hold, *pauses: Hold) -> Hold:
    """A batch's own hold; else, before its create, the first pause of those that it waits for."""
    if own.text or state not in {BatchState.PACKING, BatchState.SEALED}:
        return own
    return next((pause for pause in pauses if pause.text), own)


def waits_for(lane: Lane, pool: str = "") -> list[str]:
    """The accounts whose pause after a change of the server holds a batch: its lane's, and the pool's it came from."""
    return [lane.account, *([pool] if pool else [])]


def batch_held(batch: Batch, pauses: Mapping[str, Hold]) -> Hold:
    """Why the batch does not move on, as ``why_held`` says it; ``pauses`` of the accounts that it waits for."""
    own = hold_of(batch.held_cause, batch.held_reason, batch.held_since)
    return why_held(batch.state, own, *(pauses[account] for account in waits_for(batch.lane, batch.pool)))


def why_call_failed(error: ProviderError) -> Hold:
    """Why a batch waits after a call that failed, with words that say whose limit or fault it is."""
    cause = Cause.PROVIDER
    if isinstance(error, Transient) and error.quota:
        cause = Cause.QUOTA
    elif isinstance(error, Transient) and error.spend:
        cause = Cause.SPEND
    elif isinstance(error, Rejected) and error.auth:
        cause = Cause.ACCOUNT
    return Hold(cause, f"{cause} ({error.call}): {error}")


_WORDS_OF_OTHERS = frozenset({Cause.PROVIDER, Cause.DEFECT})
_WORDS_OF_OURS = ("ConfigError: ", "SealError: ")


def withheld(hold: Hold) -> Hold:
    """The hold as the record of a sealed queue has it: without words of others, which may quote a prompt."""
    if hold.cause not in _WORDS_OF_OTHERS or hold.text.startswith(_WORDS_OF_OURS):
        return hold
    head = hold.text.partition(": ")[0]
    return msgspec.structs.replace(hold, text=f"{head}: what it said is not kept in Redis (seal = true)")


class QuotaHold(msgspec.Struct, frozen=True):
    """No room: which resource, how much of it is in use and allowed, when to try again, and whether it was refused.

    ``why`` is what the provider said, of ``spend``.
    """

    resource: Resource
    used: int
    limit: int
    wait_s: float
    refused: bool
    why: str = ""


def why_no_room(held: QuotaHold) -> Hold:
    """Why a batch waits that finds no room."""
    if held.resource is Resource.SPEND:
        return Hold(
            Cause.SPEND, f"spend: the provider refuses for lack of money, and is asked again after a pause: {held.why}"
        )
    what = _WORDS[held.resource]
    if held.refused:
        text = f"{what}: the provider refused more (429), {held.used:,} in use, ceiling now {held.limit:,}"
        return Hold(Cause.QUOTA, text)
    return Hold(Cause.QUOTA, f"{what}: {held.used:,} of {held.limit:,} in use")
