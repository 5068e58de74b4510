"""What the soak does to the processes and what it has the emulator do: tables, and dice that a seed decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SETTINGS: dict[str, Any] = {
    "linger_s": 0.2,
    "batch_prompts_max": 300,
    "lease_s": 2.0,
    "create_timeout_s": 1.0,
    "call_timeout_s": 5.0,
    "settle_s": 4.0,
    "drain_s": 5.0,
    "backoff_first_s": 0.1,
    "backoff_max_s": 1.0,
    "quota_backoff_s": 0.3,
    "quota_cool_s": 0.3,
    "poll_first_s": 0.2,
    "poll_max_s": 0.5,
    "cancel_settle_s": 0.3,
    "belief_s": 20.0,
    "retry_first_s": 0.1,
    "retry_max_s": 1.0,
    "sweep_s": 0.2,
    "heartbeat_s": 0.5,
    "watchdog_s": 1.0,
    "submit_timeout_s": 3.0,
    "attempts_max": 100,
    "requeues_max": 100,
}
"""Short times; and so many attempts that no prompt may fail for a fault of the provider's."""

DISTURBANCES: dict[str, int] = {
    "kill_worker": 6,
    "stop_worker": 4,
    "kill_producer": 3,
    "stop_producer": 2,
    "kill_server": 3,
    "drop_arq": 2,
    "flush_scripts": 2,
    "lose_replies": 5,
    "faults": 6,
}
"""What may happen next, and how often beside the others."""

FAULTS: tuple[dict[str, Any], ...] = (
    {"on": "create", "do": "lost_before", "p": 0.2},
    {"on": "create", "do": "lost_after", "p": 0.2},
    {"on": "create", "do": "delayed", "p": 0.2, "seconds": 1.5},
    {"on": "create", "do": "429", "p": 0.3, "retry_after_s": 0.3},
    {"on": "create", "do": "503", "p": 0.2},
    {"on": "create", "do": "503", "p": 0.2, "effect": True},
    {"on": "upload_start", "do": "503", "p": 0.2},
    {"on": "upload", "do": "429", "p": 0.2, "retry_after_s": 0.2},
    {"on": "upload", "do": "lost_after", "p": 0.2},
    {"on": "get", "do": "503", "p": 0.3},
    {"on": "get", "do": "lost_before", "p": 0.2},
    {"on": "list", "do": "lag", "seconds": 1.5},
    {"on": "list", "do": "503", "p": 0.3},
    {"on": "download", "do": "503", "p": 0.2},
    {"on": "download", "do": "truncated", "p": 0.3, "at_bytes": 5000},
    {"on": "download", "do": "cut", "p": 0.3, "at_bytes": 5000},
    {"on": "delete_file", "do": "503", "p": 0.2},
    {"on": "delete_file", "do": "lost_after", "p": 0.2},
    {"on": "job", "do": "expired", "p": 0.1},
    {"on": "job", "do": "failed", "p": 0.1},
    {"on": "job", "do": "pending", "p": 0.2, "seconds": 1.0},
    {"on": "row", "do": "internal", "p": 0.03},
    {"on": "row", "do": "unavailable", "p": 0.03},
    {"on": "row", "do": "missing", "p": 0.03},
    {"on": "row", "do": "malformed", "p": 0.02},
    {"on": "row", "do": "not_utf8", "p": 0.02},
    {"on": "row", "do": "foreign", "p": 0.02},
    {"on": "row", "do": "doubled", "p": 0.02},
)
"""What the provider may do. Left out: what no client can tell from an answer (rows whose keys are swapped)."""


LIES_SETTINGS: dict[str, Any] = {"belief_s": 120.0}
"""A minute is a third of a second then: a whole belief takes longer than any lie, a second look only those of lists."""

_MOMENT_S, _WHILE_S = 0.25, 8.0
_LISTS = ("stale", "blank", "repeated", "empty_token", "unreachable", "error_page", "html")
_GETS: tuple[dict[str, Any], ...] = (
    {"kind": "stale"},
    {"kind": "back"},
    {"kind": "back", "how": "PENDING"},
    {"kind": "no_output_yet"},
    {"kind": "counters", "how": "stale"},
    {"kind": "counters", "how": "zero"},
    {"kind": "counters", "how": "more"},
    {"kind": "denied"},
    {"kind": "foreign"},
    {"kind": "html", "status": 404},
    {"kind": "html", "status": 200},
)
_DOWNLOADS: tuple[dict[str, Any], ...] = (
    {"kind": "short"},
    {"kind": "short", "how": "byte"},
    {"kind": "denied"},
    {"kind": "blank"},
    {"kind": "foreign"},
    *({"kind": "html", "status": status} for status in (200, 401, 403, 404, 500)),
)
LIES: tuple[dict[str, Any], ...] = (
    *({"route": "list", "kind": kind, "for_s": _MOMENT_S} for kind in _LISTS),
    *({"route": "get", "share": 0.4, "for_s": _WHILE_S, **lie} for lie in _GETS),
    *({"route": "download", "share": 0.6, "for_s": _WHILE_S, **lie} for lie in _DOWNLOADS),
    *({"route": "get", "kind": "failed", "how": how, "times": 1} for how in ("FAILED", "EXPIRED", "CANCELLED")),
    {"route": "create", "kind": "reply_lost", "for_s": _WHILE_S},
    {"route": "create", "kind": "html", "status": 502, "effect": True, "share": 0.6, "for_s": _WHILE_S},
    {"route": "create", "kind": "html", "status": 404, "share": 0.6, "for_s": _WHILE_S},
    {"route": "create", "kind": "foreign", "effect": True, "share": 0.6, "for_s": _WHILE_S},
    {"route": "create", "kind": "blank", "share": 0.6, "for_s": _WHILE_S},
    {"route": "upload", "kind": "reply_lost", "share": 0.6, "for_s": _WHILE_S},
    {"route": "upload", "kind": "processing", "for_s": 2.0},
    {"route": "get_file", "kind": "processing", "for_s": 2.0},
    {"route": "upload", "kind": "upload_failed", "share": 0.4, "for_s": _WHILE_S},
    {"route": "delete_file", "kind": "html", "status": 404, "for_s": _WHILE_S},
    {"route": "delete_file", "kind": "blank", "effect": False, "for_s": _WHILE_S},
    {"route": "any", "kind": "reply_lost", "share": 0.2, "for_s": _WHILE_S},
    {"route": "any", "kind": "foreign", "share": 0.2, "for_s": _MOMENT_S},
)
"""What may be told, for how long; never for longer than looks lie apart that agree. Left out: refusals of a create in
the API's own words, which are believed."""
LIES_WEIGHT = 8


def disturbances(dice: random.Random, *, lies: bool = False) -> Iterator[str]:
    """Without end: each of them once, in any order, and then by weight."""
    weights = DISTURBANCES | ({"lies": LIES_WEIGHT} if lies else {})
    yield from dice.sample(list(weights), len(weights))
    while True:
        yield dice.choices(list(weights), list(weights.values()))[0]


def some_lies(dice: random.Random) -> list[dict[str, Any]]:
    """A handful of lies that are told together, at times none."""
    return dice.sample(LIES, dice.randint(0, 8))


def some_faults(dice: random.Random) -> list[dict[str, Any]]:
    """A handful of faults that are in force together, at times none."""
    return dice.sample(FAULTS, dice.randint(0, 6))
