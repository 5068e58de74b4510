"""Tenants: what each may have, how much each has, and how it is said that one is over its limit. Pure.

A tenant's share, its jobs in flight and its prompts a minute are decided where a batch is packed (``lua/pack.lua``), a
segment at a time: one that is over a limit is passed over, and the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.records import Hold
from gemqueue.states import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHER = "other"
"""Those others, where counts are shown."""
OTHERS = "*"
"""The same in the store: no tenant can be called so."""
_NAMED_MAX = 3


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant of an account may have; 0 where nothing is set.

    ``weight`` is its share of what is packed, against ``tenant_weights``; ``jobs_max`` the batches that are packed,
    wait for room or have a job that has not ended, and have prompts of it; ``per_min_max`` its prompts that are packed
    within any minute, in whole segments. ``keep_outcome_s`` is how long its outcomes and names are kept.
    """

    weight: int = 0
    jobs_max: int = 0
    per_min_max: int = 0
    keep_outcome_s: int = 0


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that is passed over in a lane: ``what`` is jobs or rate. Times are the store's ms."""

    tenant: str
    what: str
    used: int
    limit: int
    until_ms: int
    since_ms: int
    prompts: int = 0
    """How many of its prompts wait there."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant of an account (or a pool): what it may have, and how many prompts of it are where.

    ``waiting`` are those that wait to be packed, ``in_flight`` those in batches that are not closed; ``accepted``,
    ``answered``, ``failed`` and ``cancelled`` count since the account's first worker of 0.3.0.
    """

    account: str
    tenant: str
    rule: Rule = Rule()
    waiting: int = 0
    in_flight: int = 0
    jobs: int = 0
    """Open batches that have prompts of it."""
    accepted: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    over: tuple[Over, ...] = ()


def over_of(tenant: str, record: str, prompts: int = 0) -> Over:
    """One that is passed over as the store has it: ``<until> <since> <what> <used> <limit>``."""
    until_ms, since_ms, what, used, limit = record.split(" ")
    return Over(
        tenant=tenant, what=what, used=int(used), limit=int(limit), until_ms=int(until_ms), since_ms=int(since_ms),
        prompts=prompts,
    )  # fmt: skip


def why_passed_over(over: Over) -> Hold:
    """Why a tenant's prompts wait that is over a limit of its own."""
    what = f"{over.used:,} of its {over.limit:,} jobs are in flight"
    if over.what == "rate":
        what = f"{over.used:,} of its {over.limit:,} prompts a minute are packed"
    return Hold(Cause.TENANT, f"tenant {over.tenant}: {what}", over.since_ms)


def why_lane_waits(overs: Sequence[Over]) -> Hold:
    """The same of a lane in which several are; the first of them say since when."""
    if len(overs) < 2:
        return why_passed_over(overs[0]) if overs else Hold()
    names = ", ".join(one.tenant for one in overs[:_NAMED_MAX])
    more = f" and {len(overs) - _NAMED_MAX} more" if len(overs) > _NAMED_MAX else ""
    text = f"tenants over their limits: {names}{more} (gemqueue admin tenant list)"
    return Hold(Cause.TENANT, text, min(one.since_ms for one in overs))


def bounded(tenants: Mapping[str, Tenant], known: set[str], account: str) -> list[Tenant]:
    """By name as many as are counted so, those with a rule always; the others summed up under ``other``, last."""
    named = [one for name, one in sorted(tenants.items()) if name in known or one.rule != Rule()]
    rest = [one for name, one in tenants.items() if name not in known and one.rule == Rule()]
    if not rest:
        return named
    counts = ("waiting", "in_flight", "accepted", "answered", "failed", "cancelled")
    sums: dict[str, Any] = {field: sum(getattr(one, field) for one in rest) for field in counts}
    return [*named, Tenant(account=account, tenant=OTHER, **sums)]
