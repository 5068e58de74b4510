"""What a seed is about beside the faults that every seed may have, and the settings that go with it.

Not every seed has every scene: each costs time, and some exclude each other. A pool has no deadline policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.config import Settings
from tests.proofs.simulation.lies import BELIEF_S

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

DEADLINES = "deadlines"
"""Prompts are wanted by a time, and a policy looks after that."""
POOL = "pool"
"""Two accounts share a queue, and one's key may be refused."""
FAILOVER = "failover"
"""The replica that confirmed takes the server's place, and has nothing that came after."""
TENANTS = "tenants"
"""Prompts are of two tenants that have limits, which somebody changes, and there is room for few jobs."""
_MIXED = {"dead": 0.15, "replicated": 0.2, TENANTS: 0.25}
"""Scenes that any other may have beside it, and how often.

In the first many rows fail for good, and are submitted again; in the second a replica is waited for, and is late; in
the third tenants are over their limits.
"""
SETTINGS: dict[str, Any] = {
    "queue": "sim", "emulate": True, "redis_url": "redis://simulated",
    "lease_s": 10.0, "create_timeout_s": 3.0, "call_timeout_s": 3.0, "settle_s": 12.0, "drain_s": 5.0,
    "linger_s": 1.0, "backoff_first_s": 0.5, "backoff_max_s": 8.0, "quota_backoff_s": 3.0,
    "poll_first_s": 2.0, "poll_max_s": 8.0, "cancel_settle_s": 3.0, "attempts_max": 3, "retry_first_s": 1.0,
    "retry_max_s": 4.0, "sweep_s": 4.0, "heartbeat_s": 30.0, "watchdog_s": 10.0, "submit_timeout_s": 10.0,
    "refusals_max": 24, "keep_delivered_s": 400_000.0, "belief_s": BELIEF_S,
}  # fmt: skip


def choose(rng: random.Random) -> list[str]:
    """A seed's scenes."""
    r = rng.random()
    found = [DEADLINES] if r < 0.35 else [POOL] if r < 0.55 else []
    found += [name for name, share in _MIXED.items() if rng.random() < share]
    # A replay is not confirmed: after a failover its letter may be dead again, and be submitted once more.
    fails_over = "replicated" in found and "dead" not in found and rng.random() < 0.6
    return [*found, FAILOVER] if fails_over else found


def settings_of(scenes: Sequence[str], rng: random.Random) -> Settings:
    """The settings of a seed."""
    changed: dict[str, Any] = {
        "batch_prompts_max": rng.choice((2, 4, 8)),
        "segment_prompts_max": rng.choice((1, 3, 1000)),
        "requeues_max": rng.choice((1, 3)),
        "delete_jobs": rng.random() < 0.3,
        "flush_ms": rng.choice((1.0, 50.0)),
        "delete_files": rng.choice(("ended", "ended", "running", "never")),
        "stored_bytes_max": rng.choice((1, 2_000, 16_000_000_000)),
    }
    if rng.random() < 0.5:
        changed["watchdog_s"] = 1e6  # a future that only the watchdog would settle hangs, and is found
    of_scenes: dict[str, dict[str, Any]] = {
        DEADLINES: _deadlines(rng) if DEADLINES in scenes else {},
        POOL: {"pool": "shared", "open_jobs_max": rng.choice((1, 2, 100))},
        "dead": {"attempts_max": 1, "requeues_max": 0},
        "replicated": {"durability": "replicated", "replicate_s": 0.5},
        FAILOVER: {"watchdog_s": 10.0},
        TENANTS: {"open_jobs_max": rng.choice((1, 2))},
    }
    for scene in scenes:
        changed |= of_scenes[scene]
    return Settings(**(SETTINGS | changed))


def _deadlines(rng: random.Random) -> dict[str, Any]:
    return {
        "deadline_policy": rng.choice(("flex", "standard")),
        "deadline_margin_s": 2.0,
        "flex_lead_s": 15.0,
        "standard_lead_s": 5.0,
        "interactive_timeout_s": 4.0,
        "interactive_calls_max": rng.choice((1, 3)),
        "interactive_prompts_max": rng.choice((2, 200)),
        "interactive_per_min_max": rng.choice((60, 600)),
    }
