"""``gemqueue admin tenant``: what each tenant may have, and how many prompts of it are where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.config import load_settings
from gemqueue.policy.tenants import why_passed_over
from gemqueue.setting_values import WEIGHT_MAX, is_tenant, tenant_weights
from gemqueue_workers.exits import Exit
from gemqueue_workers.screen import held, plain

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.policy.tenants import Tenant
    from gemqueue_workers.run.connection import Link


class TenantStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant of an account or pool. ``jobs_max``, ``per_min_max`` and ``keep_outcome_s`` are 0 where it has none.

    ``held_reason`` says over which of them it is, and ``held_age_s`` since when; empty and null where it is over none.
    """

    account: str
    tenant: str
    weight: int
    jobs_max: int
    per_min_max: int
    keep_outcome_s: int = 0
    waiting: int = 0
    in_flight: int = 0
    jobs: int = 0
    accepted: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    held_cause: str = ""
    held_reason: str = ""
    held_age_s: float | None = None


def checked(name: str, **limits: int | None) -> dict[str, int | None]:
    """What is to be set. Raises Exit for a tenant that cannot be, a weight that is too high, and nothing at all."""
    if not is_tenant(name):
        raise Exit(f"{name!r} cannot be a tenant: 1 to 64 of letters, digits, - _ . @")
    if (limits["weight"] or 0) > WEIGHT_MAX:
        raise Exit(f"--weight {limits['weight']} is above {WEIGHT_MAX}: give the others less")
    if 0 < (limits["keep_outcome_s"] or 0) < (shortest_s := max(1, load_settings().submit_timeout_s)):
        raise Exit(
            f"--keep-outcome-s {limits['keep_outcome_s']} is below submit_timeout_s = {shortest_s:g}: a segment that "
            "is forgotten so soon could be submitted again"
        )
    if all(value is None for value in limits.values()):
        raise Exit("nothing to set: give --weight, --jobs-max, --per-min-max or --keep-outcome-s")
    return limits


async def set_tenant(link: Link, name: str, limits: dict[str, int | None]) -> TenantStatus:
    """Set it; what the tenant may have now."""
    rule = await link.store.limit(link.account, name, **limits)
    weight = rule.weight or tenant_weights(link.store.settings.tenant_weights).get(name, 1)
    return TenantStatus(
        account=link.account,
        tenant=name,
        weight=weight,
        jobs_max=rule.jobs_max,
        per_min_max=rule.per_min_max,
        keep_outcome_s=rule.keep_outcome_s,
    )


async def tenants(link: Link) -> list[TenantStatus]:
    """Every tenant of the account, by name."""
    now_ms = await link.store.server_now_ms()
    weights = tenant_weights(link.store.settings.tenant_weights)
    return [_status(one, weights, now_ms) for one in await link.store.tenants(link.account)]


def _status(one: Tenant, weights: dict[str, int], now_ms: int) -> TenantStatus:
    why = why_passed_over(one.over[0]) if one.over else None
    fields = {name: getattr(one, name) for name in TenantStatus.__struct_fields__ if hasattr(one, name)}
    return TenantStatus(
        **fields,
        weight=one.rule.weight or weights.get(one.tenant, 1),
        jobs_max=one.rule.jobs_max,
        per_min_max=one.rule.per_min_max,
        keep_outcome_s=one.rule.keep_outcome_s,
        held_cause=why.cause if why is not None else "",
        held_reason=why.text if why is not None else "",
        held_age_s=max(0, now_ms - why.since_ms) / 1000 if why is not None else None,
    )


def said(one: TenantStatus) -> str:
    """What a tenant may have, in words."""
    jobs = f"{one.jobs_max:,} jobs in flight" if one.jobs_max else "any number of jobs in flight"
    rate = f"{one.per_min_max:,} prompts a minute" if one.per_min_max else "any number of prompts a minute"
    kept = f", outcomes kept for {one.keep_outcome_s:,} s" if one.keep_outcome_s else ""
    return f"Tenant {one.tenant} of {one.account}: weight {one.weight}, {jobs}, {rate}{kept}"


def show_tenants(console: Console, found: list[TenantStatus]) -> None:
    """For a person."""
    if not found:
        console.print("No prompts yet, and no limits. Set some: gemqueue admin tenant set NAME --jobs-max 2")
        return
    table = Table("tenant", title="Tenants", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("weight", "jobs", "per min", "waiting", "in flight", "answered", "failed"):
        table.add_column(column, justify="right")
    if any(one.held_reason for one in found):
        table.add_column("held", style="yellow")
    for one in found:
        jobs = f"{one.jobs:,} of {one.jobs_max:,}" if one.jobs_max else f"{one.jobs:,}"
        rate = f"{one.per_min_max:,}" if one.per_min_max else ""
        counts = (f"{n:,}" for n in (one.waiting, one.in_flight, one.answered, one.failed))
        cells = [plain(one.tenant), Text(str(one.weight)), Text(jobs), Text(rate), *(Text(n) for n in counts)]
        table.add_row(*[*cells, plain(held(one.held_reason, one.held_age_s))][: len(table.columns)])
    console.print(table)
