"""What is claimed of the worst days, over what was seen of one: each claim in words, and whether it holds."""

from __future__ import annotations

from typing import Any

RECOVERED_SHARE = 0.95
"""Of the limit."""
LIFE_H = 48


def quota_claims(seen: dict[str, Any]) -> dict[str, bool]:
    """Of a day of 429s. That the ledger adds up is asserted at each step, while the day runs."""
    return {
        "creates were refused": seen["refused_in_the_storm"] > 0,
        "no prompt failed, every prompt was answered": seen["failed"] == 0 and seen["answered"] == seen["prompts"],
        "no attempt was charged": seen["requeued"] == 0,
        f"the ledger was the sum of the open batches after each of {seen['steps_checked']} steps": bool(
            seen["steps_checked"]
        ),
        f"throughput came back to {RECOVERED_SHARE:.0%} of the limit": _recovered(seen),
    }


def _recovered(seen: dict[str, Any]) -> bool:
    """In the last hour; and over the last four, where the calm was long enough to learn the limit again."""
    shares: list[float] = seen["tokens_by_hour_share_of_limit"][-1:]
    if seen["calm_hours"] >= 12:
        shares.append(seen["last_hours_share_of_limit"])
    return min(shares) >= RECOVERED_SHARE


def slow_claims(seen: dict[str, Any]) -> dict[str, bool]:
    """Of a model that stalls beside one that answers in minutes."""
    policy, ended = seen["policy"], seen["jobs_that_did_not_succeed"]
    etas = seen["eta_at_age_h"]
    claims = {
        "the alarm was raised once, within the hour": seen["alarms"] == 1 and seen["alarm_after_h"] < 1,
        "there was an estimate all along, within the 48 hours": bool(etas)
        and all(0 < left <= LIFE_H - age + 0.01 for age, left in etas),
        "nothing was cancelled before hour 47": seen["cancelled_after_h"] is None or seen["cancelled_after_h"] >= 47,
        "no prompt failed, every prompt was answered": seen["failed"] == 0 and seen["answered"] == seen["prompts"],
        "each row was bought once": seen["rows_bought"] == seen["prompts"],
        "no attempt was charged": seen["attempts_charged"] == 0,
    }
    if policy == "wait":
        claims["nothing was cancelled"] = seen["cancelled_after_h"] is None
    if policy == "wait" and seen["stall_hours"] >= LIFE_H:
        later = seen["jobs_of_the_stalled_model_afterwards"]
        claims["it expired at hour 48"] = ended == ["EXPIRED"] and LIFE_H <= seen["ended_after_h"] < LIFE_H + 0.6
        claims["what it held came back free of charge"] = seen["returned_free_of_charge"] == sum(later)
        claims["it was split"] = len(later) == 2
    elif policy == "wait":
        claims["it was answered by its own job"] = ended == []
    return claims


def fair_claims(seen: dict[str, Any]) -> dict[str, bool]:
    """Of fifty tenants that flood a queue with room for two jobs; shares are of what went into all jobs of the day."""
    least, most = seen["share_of_weight_least"], seen["share_of_weight_most"]
    return {
        f"each share of {seen['jobs']} jobs is within 5 % of its weight": 0.95 <= least <= most <= 1.05,
        "an urgent prompt waited for one job at most": seen["urgent_waited_jobs_most"] <= 1.1,  # ends are polled
        "nobody was left out": seen["tenants_with_nothing"] == seen["urgent_without_a_job"] == 0,
        "room was used as it came": seen["room_used"] >= 0.9,
    }
