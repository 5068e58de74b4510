"""Why something does not move on, and how that is said. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import ProviderError, Rejected, Transient
from gemqueue.policy.quota import Resource
from gemqueue.states import BatchState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.records import Batch, Lane

_ACCOUNT = "account"
_WORDS = {
    Resource.JOBS: "open jobs",
    Resource.MODEL_JOBS: "open jobs of the model",
    Resource.TOKENS: "enqueued tokens",
    Resource.STORED_BYTES: "bytes of stored input files (stored_bytes_max)",
}

Hold = tuple[str, int]
"""Why something does not move on, empty where nothing holds it, and since when in ms, 0 where that is not known."""


def why_held(state: str, own: Hold, *pauses: Hold) -> Hold:
    """A batch's own reason; else, before its create, that of the first pause of those that it waits for."""
    if own[0] or state not in {BatchState.PACKING, BatchState.SEALED}:
        return own
    return next((pause for pause in pauses if pause[0]), own)


def waits_for(lane: Lane, pool: str = "") -> list[str]:
    """The accounts whose pause after a change of the server holds a batch: its lane's, and the pool's it came from."""
    return [lane.account, *([pool] if pool else [])]


def batch_held(batch: Batch, pauses: Mapping[str, Hold]) -> Hold:
    """Why the batch does not move on, as ``why_held`` says it; ``pauses`` of the accounts that it waits for."""
    own = (batch.held_reason, batch.held_since)
    return why_held(batch.state, own, *(pauses[account] for account in waits_for(batch.lane, batch.pool)))


def why_call_failed(error: ProviderError) -> str:
    """Why a batch waits, in words that say whose limit or fault it is."""
    whose = "provider"
    if isinstance(error, Transient) and error.quota:
        whose = "quota"
    elif isinstance(error, Transient) and error.spend:
        whose = "spend"
    elif isinstance(error, Rejected) and error.auth:
        whose = _ACCOUNT
    return f"{whose} ({error.call}): {error}"


def says_refused_key(reason: str) -> bool:
    """Whether a batch's held reason is that its account's key was refused."""
    return reason.startswith(f"{_ACCOUNT} (")


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


def why_no_room(held: QuotaHold) -> str:
    """Why a batch waits, in words."""
    if held.resource is Resource.SPEND:
        return f"spend: the provider refuses for want of money, and is asked again after a pause: {held.why}"
    what = _WORDS[held.resource]
    if held.refused:
        return f"{what}: the provider refused more (429), {held.used:,} in use, ceiling now {held.limit:,}"
    return f"{what}: {held.used:,} of {held.limit:,} in use"
