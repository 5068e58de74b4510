"""What ``gemqueue status`` tells, also as JSON."""

from __future__ import annotations

from typing import Final

import msgspec

from gemqueue_workers.manage.health import WorkerStatus  # noqa: TC001 - msgspec reads the annotations
from gemqueue_workers.prices import Cost

SCHEMA: Final = 1
"""Raised when a field of the JSON goes or changes its meaning; new fields do not raise it."""


class Turnaround(msgspec.Struct, frozen=True, kw_only=True):
    """How long jobs of so many prompts (``10-99``) took, from creation to end; ``jobs`` of them say so."""

    prompts: str
    jobs: int
    p50_s: float
    p90_s: float
    p99_s: float


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in a lane to be packed; ``held_reason`` says why its prompts do not move on, or is empty.

    ``held_age_s`` is for how long they have not, where that is known.
    ``cost`` is what the lane's answers have cost since its first, by the price list, and saved against the full price;
    ``turnaround`` how long jobs of the account and model take, by size. ``answered_by`` says how many answers named
    which model, ``rerouted`` how many of them came from another one than was asked, and ``warnings`` what to know of
    the model: that it ends, was rerouted, or has no price.
    """

    lane: str
    pending: int
    oldest_age_s: float | None
    held_reason: str
    held_cause: str = ""
    held_age_s: float | None = None
    cost: Cost = Cost()
    turnaround: list[Turnaround] = []
    answered_by: dict[str, int] = {}
    rerouted: int = 0
    warnings: list[str] = []


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An open batch; ``settled`` of its prompts have their outcome or have moved on into a retry.

    ``held_reason`` says why it does not move on, and ``held_age_s`` for how long it has not. ``eta_s`` is how much
    longer its job takes by what is known of the model; one that is ``slow`` is older than nearly all of its kind.
    """

    id: str
    lane: str
    state: str
    job: str
    prompts: int
    settled: int
    age_s: float
    held_reason: str
    held_age_s: float | None = None
    slow: bool = False
    eta_s: float | None = None


class UnknownJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job of ours that no record knows, by its name; ``age_s`` is for how long that has been seen."""

    job: str
    account: str
    batch: str
    state: str
    age_s: float


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance; ``--json`` prints exactly this."""

    schema: int = SCHEMA
    queue: str
    lanes: list[LaneStatus] = []
    batches: list[BatchStatus] = []
    workers: int = 0
    working: list[WorkerStatus] = []
    counts: dict[str, int] = {}
    input_needed: list[str] = []
    """The accounts in which a job failed because its input file had been deleted; they are kept to the end now."""
    unknown_jobs: list[UnknownJob] = []
    """They were seen twice and compared with the records; they are never cancelled by themselves."""
    paused: dict[str, str] = {}
    """By account: why nothing is packed or submitted, after a change of the server, or because it has forgotten."""
    unreadable: dict[str, str] = {}
    """Records that are malformed, by their names, and why: nothing else here tells of them."""
