"""What was bought again though the provider had not failed, and whether what was heard of it allowed the conclusion.

The truth is the cloud's: a job was made for prompts that an earlier one answered, or was still to answer. What was
heard is in ``lies``. The bounds are those of the table in ``gemqueue/policy/beliefs.py``, written down a second time.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.proofs.simulation.lies import BELIEF_S, UNIT_S

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from tests.proofs.simulation.cloud import Job, Overlap
    from tests.proofs.simulation.world import SimulatedWorld

UNPROVEN = "unproven"
NOT_ANSWERED = "not_answered"
_LOOKED_S = 12 * UNIT_S
"""Within which somebody looks at the account's newest jobs, and sees one that no list showed before."""
_ON_THE_WAY_S = 1.5
"""Between the moment a look is counted at and the one when its reply left the provider."""
_COUNTED = {
    "no_output": ("returned", "inputs_missed", "bought_again"),
    "results_gone": ("lost_answers", "bought_again"),
    "rows_missing": ("requeued", "bought_again"),
    "not_created": ("bought_twice", "bought_again", "unknown_jobs"),
}
"""By conclusion: the counters that tell of it."""


def concluded(world: SimulatedWorld, job: Job, before: float) -> str:
    """What somebody may have concluded of a job by then from what was heard; ``UNPROVEN`` where nothing allows it."""
    heard = world.cloud.lies.spans(job.name, before)
    spans_s = {proves: span_s + _ON_THE_WAY_S for proves, (times, span_s) in heard.items() if times > 1}
    cancelled_s = max(UNIT_S, world.settings.cancel_settle_s) if job.state == "cancelled" else UNIT_S
    counted = "counters" in heard or not job.counts_rows
    rules = {
        "no_output": spans_s.get("ended", 0.0) >= cancelled_s,
        "rows_missing": spans_s.get("short", 0.0) >= (5 * UNIT_S if counted else BELIEF_S),
        "results_gone": spans_s.get("gone", 0.0) >= BELIEF_S,
        "not_created": spans_s.get("unlisted", 0.0) >= world.settings.settle_s,
    }
    return next((name for name, allowed in rules.items() if allowed), UNPROVEN)


def _paid(job: Job) -> set[str]:
    return set() if job.gone else job.bought


def _bought(world: SimulatedWorld) -> dict[tuple[int, str], str]:
    """By later job and key: what was concluded of the job that had bought it before."""
    found: dict[tuple[int, str], str] = {}
    for overlap in world.cloud.overlaps:
        why = concluded(world, overlap.earlier, overlap.later.created_at)
        for key in overlap.keys & _paid(overlap.earlier) & _paid(overlap.later):
            place = overlap.later.number, key
            if found.get(place, UNPROVEN) == UNPROVEN:
                found[place] = why
    return found


def bought_again(world: SimulatedWorld) -> dict[str, int]:
    """How many prompts were bought again, by conclusion."""
    found = Counter(_bought(world).values())
    calls = world.cloud.calls.paid
    jobs = {key for job in world.cloud.jobs.values() for key in _paid(job)} - world.rescued.keys()
    found[NOT_ANSWERED] += sum(len(paid) - 1 for paid in calls.values()) + len(calls.keys() & jobs)
    return dict(+found)


def was_given_up_for_a_lie(world: SimulatedWorld) -> bool:
    """Whether a job was made for prompts of another of which lies were heard, be it that the other had no good row."""
    jobs = sorted(world.cloud.jobs.values(), key=lambda job: job.number)
    return any(
        earlier.keys.keys() & later.keys.keys() and world.cloud.lies.spans(earlier.name, later.created_at)
        for at, earlier in enumerate(jobs)
        for later in jobs[at + 1 :]
    )


def times_again(world: SimulatedWorld) -> Counter[str]:
    """By key: how often it was bought again; the judge says of each time whether it was allowed."""
    return Counter(key for _, key in _bought(world))


def judge_again(world: SimulatedWorld, counts: Mapping[str, int], *, forgets: bool) -> Generator[str]:
    """What was bought, or would have been, without the evidence; and what no counter tells of."""
    for overlap in world.cloud.overlaps:
        if _is_wrong(world, overlap):
            yield f"I2 bought twice: {min(overlap.keys)} in {overlap.earlier.name} and {overlap.later.name}"
    jobs, now = {job.number: job for job in world.cloud.jobs.values()}, world.scheduler.now
    seen = (
        why
        for (number, _), why in _bought(world).items()
        if why != "not_created" or jobs[number].created_at < now - _LOOKED_S
    )
    for why, times in Counter(seen).items():
        moved = sum(counts.get(name, 0) for name in _COUNTED.get(why, ()))
        if why != UNPROVEN and times > moved and not forgets:
            yield f"I2 {times} prompts were bought again as {why}, {moved} are counted"


def _is_wrong(world: SimulatedWorld, overlap: Overlap) -> bool:
    """Whether a job was made for what another was to answer, and nothing that was heard of that one allows it.

    One that brought nothing in the end, and of which lies were heard, was given up too soon and did no harm; of one
    whose results are gone nothing is to be had.
    """
    if overlap.earlier.gone or concluded(world, overlap.earlier, overlap.later.created_at) != UNPROVEN:
        return False
    lied = bool(world.cloud.lies.spans(overlap.earlier.name, overlap.later.created_at))
    return bool(overlap.keys & _paid(overlap.earlier)) or not lied


def given_up(world: SimulatedWorld, key: str) -> int:
    """How many of the jobs that bought this prompt may have been given up for what was heard of them."""
    now = world.scheduler.now
    return sum(key in job.bought and concluded(world, job, now) != UNPROVEN for job in world.cloud.jobs.values())


def dropped(world: SimulatedWorld, key: str) -> str:
    """A job whose answer to this prompt was given up without the evidence; empty for none."""
    now = world.scheduler.now
    for job in world.cloud.jobs.values():
        if key in job.answered & _paid(job) and concluded(world, job, now) == UNPROVEN:
            return job.name
    return ""


def refused(world: SimulatedWorld, key: str) -> bool:
    """Whether the provider would never take this prompt, or said so for long enough."""
    if any(key in job.invalid for job in world.cloud.jobs.values()):
        return True
    times, span_s = world.cloud.lies.spans(key, world.scheduler.now).get("refused", (0, 0.0))
    return times > 1 and span_s + _ON_THE_WAY_S >= UNIT_S
