"""The fault engine: a list of declared faults, each drawn by probability with a seed or by exact occurrence.

    {"on": "create", "do": "lost_after", "nth": [1]}
    {"on": "upload", "do": "429", "p": 0.1, "retry_after_s": 2}
    {"on": "row", "do": "internal", "match": {"key": "k7"}, "times": 1}

A fault counts the occurrences of its point that match it, and fires on the `nth` ones (from 1), or with probability
`p`, or, when neither is given, on all of them; at most `times` times. Of several faults at a reply or a row the first
that fires wins, and those behind it do not count that occurrence; at a job all that fire apply.

Rows may also ask for a fault in their own text, `[[fault:internal]]`, in every job, or `[[fault:internal:2]]`, only
the first two times that their key is answered.
"""

from __future__ import annotations

import random
import re
from typing import Any

import msgspec

ROUTES = (
    "upload_start",
    "upload",
    "create",
    "get",
    "list",
    "cancel",
    "delete",
    "download",
    "get_file",
    "list_files",
    "delete_file",
    "update",
    "generate",
    "embed",
    "count_tokens",
    "models",
    "webhooks",
)
"""The points that are requests; "any" stands for all of them."""

SPOILED = ("slow", "truncated", "truncated_chunked", "cut")
"""What may happen to the body of a good reply. "slow": `bytes_per_s`, in real time. "truncated": only `at_bytes` of
it (0: half), with a length that fits; "truncated_chunked": the same without a length. "cut": the whole length is
announced, and the connection breaks after `at_bytes`."""

ERRORS = ("400", "403", "404", "408", "409", "429", "500", "502", "503", "504")

MONEY = ("spend_cap", "no_credits", "no_billing", "unpaid")
"""Refusals for want of money, each in the service's words. "spend_cap" and "no_credits": 429; "no_billing": 403;
"unpaid": 400 FAILED_PRECONDITION."""

REPLIES = (
    "lost_before",
    "lost_after",
    "delayed",
    *SPOILED,
    *MONEY,
    "400",
    "403",
    "404",
    "408",
    "409",
    "429",
    "500",
    "502",
    "503",
    "504",
)
"""What may happen to any reply. "lost_before": dropped, no effect. "lost_after": effect, then dropped. "delayed":
dropped, and the effect comes `seconds` of virtual time later. A number: that error; with `effect`, after the effect.
Where a route has them: "lag" hides the jobs of the last `seconds` from the list, "oldest_first" turns its pages round;
"gone" answers the deletion of what is not there with `code`, "bad_key" a bad key; "usable" deletes a file from sight
alone, so that a create still takes it."""

ROW_ERRORS: dict[str, tuple[int, str]] = {
    "cancelled": (1, ""),
    "unknown": (2, "Unknown error."),
    "invalid": (3, "Request contains an invalid argument."),
    "deadline": (4, "Deadline expired before operation could complete."),
    "not_found": (5, "Requested entity was not found."),
    "exhausted": (8, "Resource has been exhausted (e.g. check quota)."),
    "internal": (13, "Internal error encountered."),
    "unavailable": (14, "The service is currently unavailable."),
}
"""Row faults that answer with an error: google.rpc code and message (protocol section 9.5)."""

ROW_SHAPES = (
    "missing",
    "doubled",
    "foreign",
    "swapped",
    "malformed",
    "not_utf8",
    "blocked",
    "safety",
    "recitation",
    "max_tokens",
    "max_tokens_empty",
    "empty",
    "rerouted",
    "wrong_shape",
)
"""Row faults that change what the result file holds for a row. "rerouted": the answer says that `model` gave it.
"wrong_shape": JSON, but not of the schema, to rows that ask by `responseJsonSchema`, as the batch route was reported to
answer; all other rows are answered rightly."""

JOBS = (
    "pending",
    "expired",
    "failed",
    "cancelled",
    "half",
    "inline_output",
    "job_state",
    "flat",
    "event_early",
    "needs_input_pending",
    "needs_input_running",
    "ordered",
    "dear",
    "late_output",
)
"""What may happen to a job. "event_early": its webhook is told `seconds` before get shows the end.
"needs_input_pending", "needs_input_running": it fails when its input is deleted while it is pending, or running.
"ordered": its rows come in the order of its input. "dear": it is billed at the full price.
"late_output": it names its results `seconds` after it has succeeded."""

WEBHOOKS = ("lost", "late", "doubled", "bad_signature", "old_timestamp", "jwt")
"""What may happen to the delivery of an event. "late": `seconds` later; "old_timestamp": signed `seconds` (0: 600) ago;
"jwt": a job's own webhook is signed as documented, not as it was seen to be."""

ROWS = (*ROW_ERRORS, *ROW_SHAPES, "error")
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ROUTES, REPLIES),
    "any": (*REPLIES, "bad_key"),
    "list": (*REPLIES, "lag", "oldest_first"),
    "delete": (*REPLIES, "gone"),
    "delete_file": (*REPLIES, "gone", "usable"),
    "upload": (*REPLIES, "processing"),
    "cancel": (*REPLIES, "half"),
    "job": JOBS,
    "row": ROWS,
    "webhook": WEBHOOKS,
}
"""What may be done at each point."""

MARKER = re.compile(rb"\[\[fault:([a-z0-9_]+)(?::(\d+))?\]\]")


class Match(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which occurrences a fault looks at; what is left out matches everything."""

    key: str | None = None
    key_contains: str | None = None
    key_index: int | None = None
    """The row's place in the input, from 0."""
    text_contains: str | None = None
    path_contains: str | None = None
    """In the path of a request, or in the event and the address of a webhook."""


class Fault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One declared fault; see the module's docstring."""

    on: str
    do: str
    p: float | None = None
    nth: list[int] | None = None
    times: int | None = None
    seconds: float = 0
    code: int = 13
    message: str | None = None
    model: str = ""
    retry_after_s: float | None = None
    retry_info_s: float | None = None
    effect: bool = False
    at_bytes: int = 0
    bytes_per_s: int = 1024
    match: Match = msgspec.field(default_factory=Match)


class Occurrence(msgspec.Struct, frozen=True, gc=False):
    """What a fault may match on: the path of a request, or the key, index and line of a row."""

    path: str = ""
    key: bytes = b""
    index: int = -1
    line: bytes = b""


class _Armed:
    """A fault with its counters and its own seeded dice."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.seen = self.hits = 0
        self._dice = random.Random(seed)

    def fires(self, occurrence: Occurrence) -> bool:
        """Whether the fault befalls this occurrence; counts it."""
        fault = self.fault
        if (fault.times is not None and self.hits >= fault.times) or not _matches(fault.match, occurrence):
            return False
        self.seen += 1
        if fault.nth is not None:
            fires = self.seen in fault.nth
        elif fault.p is not None:
            fires = self._dice.random() < fault.p
        else:
            fires = True
        self.hits += fires
        return fires


class Faults:
    """The faults in force."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._armed: list[_Armed] = []

    def replace(self, faults: list[Fault]) -> None:
        """Put these faults in the place of all others, with fresh counters.

        Raises:
            ValueError: a fault that names an unknown point, or something that cannot be done there.
        """
        for fault in faults:
            if fault.do not in ALLOWED.get(fault.on, ()):
                raise ValueError(f"no fault {fault.do!r} on {fault.on!r}")
        self._armed = [_Armed(fault, f"{self._seed}:{place}") for place, fault in enumerate(faults)]

    def show(self) -> list[dict[str, Any]]:
        """Each fault with the occurrences that it has seen and its hits."""
        return [{**msgspec.to_builtins(each.fault), "seen": each.seen, "hits": each.hits} for each in self._armed]

    def at_route(self, point: str, path: str) -> Fault | None:
        """The fault of this reply."""
        occurrence = Occurrence(path=path)
        return next(iter(self._drawn((point, "any"), occurrence, first=True)), None)

    def at_job(self) -> list[Fault]:
        """All faults of a job that is just being created."""
        return self._drawn(("job",), Occurrence(), first=False)

    def at_webhook(self, event: str, uri: str) -> Fault | None:
        """The fault of this delivery, all its attempts included."""
        return next(iter(self._drawn(("webhook",), Occurrence(path=f"{event} {uri}"), first=True)), None)

    def at_row(self, occurrence: Occurrence) -> Fault | None:
        """The fault of this row."""
        return next(iter(self._drawn(("row",), occurrence, first=True)), None)

    @property
    def touch_rows(self) -> bool:
        """Whether any fault in force concerns rows."""
        return any(each.fault.on == "row" for each in self._armed)

    def _drawn(self, points: tuple[str, ...], occurrence: Occurrence, *, first: bool) -> list[Fault]:
        drawn: list[Fault] = []
        for each in self._armed:
            if each.fault.on in points and each.fires(occurrence):
                drawn.append(each.fault)
                if first:
                    break
        return drawn


def parse(raw: bytes) -> list[Fault]:
    """Faults out of JSON.

    Raises:
        ValueError: it is not a list of faults (msgspec's errors are ValueErrors).
    """
    return msgspec.json.decode(raw, type=list[Fault])


def marker(line: bytes) -> tuple[str, int | None] | None:
    """The row fault that a line asks for in its text, and for how many times (None: always)."""
    for found in MARKER.finditer(line):
        if (name := found[1].decode()) in ROWS:
            return name, int(found[2]) if found[2] else None
    return None


def _matches(match: Match, occurrence: Occurrence) -> bool:
    key = occurrence.key.decode(errors="replace")
    return (
        (match.key is None or match.key == key)
        and (match.key_contains is None or match.key_contains in key)
        and (match.key_index is None or match.key_index == occurrence.index)
        and (match.text_contains is None or match.text_contains.encode() in occurrence.line)
        and (match.path_contains is None or match.path_contains in occurrence.path)
    )
