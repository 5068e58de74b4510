"""What is concluded of a provider, from which evidence, how slowly, and until when. Pure.

What costs money or an answer if it is wrong is concluded only from looks that are fresh, whole and of the right kind,
that agree, and that lie apart in time; and no wait is without an end. ``RULES`` is the whole table, one row for each
conclusion that buys again, drops an answer or deletes; the documents print it. The evidence stands in the batch's
record (``seen_what``, ``seen_n``, ``seen_first_at``, ``seen_last_at``), so that any worker goes on with it. Looks are
counted, not the time that passes: a clock that jumps, or workers that were away, prove nothing.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.records import Note

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.records import Batch

RECORD_VERSION: Final = 3
"""The ``v`` of a batch that is under a belief: older workers would conclude at their first look, and leave it alone."""
LIFE_MS: Final = 50 * 3600 * 1000
"""A job's life, and that of its results, are 48 h each (protocol sections 8.5 and 10); with two hours to spare."""
_LOOKS_PAST_END: Final = 3
_LADDER: Final = (1, 2, 5, 10, 20, 40)
_LAST_RUNG: Final = 60
_ROWS_UNITS: Final = 5
_READ_LOOKS: Final = frozenset({1, 2, 3, 6, 9})


class Belief(StrEnum):
    """What may come to be believed of a batch, as the first word of ``seen_what``."""

    NOT_CREATED = "not_created"
    REFUSED = "refused"
    NO_OUTPUT = "no_output"
    RESULTS_GONE = "results_gone"
    ROWS_MISSING = "rows_missing"
    JOB_UNKNOWN = "job_unknown"
    FILE_UNUSABLE = "file_unusable"
    FILE_GONE = "file_gone"
    NOT_ANSWERED = "not_answered"


class Pace(StrEnum):
    """How far the looks lie apart, and how many agree."""

    SECOND = "a second look a minute later"
    LISTINGS = "a second whole listing a minute later; settle_s where no known job had to be listed"
    CANCELLED = "a second look after cancel_settle_s"
    ROWS = "a second whole reading five minutes later"
    HOURS = "after 1, 2, 5, 10, 20, 40 minutes, then hourly, for belief_s"
    LIFE = "with the polls, until the job's life is over"
    CALLS = "two calls; then hourly, four times, where no batch may have it"


class Rule(msgspec.Struct, frozen=True):
    """One row of the table: what is concluded, what that costs if it is wrong, and what it takes."""

    concludes: str
    costs: str
    evidence: str
    pace: Pace
    ends: str
    setting: str


RULES: Final[dict[Belief, Rule]] = {
    Belief.NOT_CREATED: Rule(
        "a create in doubt made no job: another is sent",
        "the batch is bought twice",
        "whole listings after the fence without any of the batch's tokens, each with every job that must be in it",
        Pace.LISTINGS,
        "each proven death multiplies the wait before the next look by four, up to an hour",
        "settle_s",
    ),
    Belief.REFUSED: Rule(
        "the provider will never accept the batch: its prompts fail",
        "prompts fail that it would take",
        "refusals of the create in the API's own words",
        Pace.SECOND,
        "the second refusal",
        "belief_s",
    ),
    Belief.NO_OUTPUT: Rule(
        "a job that failed, expired or was cancelled brought nothing: its prompts go back",
        "the batch is bought twice",
        "looks by name that agree on the end, of a job that never named an output",
        Pace.SECOND,
        "job's end + 50 h",
        "belief_s, cancel_settle_s",
    ),
    Belief.RESULTS_GONE: Rule(
        "the results of a job are gone: its prompts go back",
        "paid answers are dropped and bought again",
        "denials in the API's own words with a key that sees the job, or looks by name that show no output",
        Pace.HOURS,
        "job's end + 50 h",
        "belief_s",
    ),
    Belief.ROWS_MISSING: Rule(
        "the results lack rows: those prompts are asked again",
        "rows are bought twice",
        "whole readings with one digest; the service's own counters agree, else for hours",
        Pace.ROWS,
        "job's end + 50 h",
        "belief_s",
    ),
    Belief.JOB_UNKNOWN: Rule(
        "nobody knows the job, and its life is over: its prompts go back",
        "the batch is bought twice",
        "denials in the API's own words with a key that sees the job, past the job's life",
        Pace.LIFE,
        "job's create + 50 h",
        "poll_max_s",
    ),
    Belief.FILE_UNUSABLE: Rule(
        "the provider never makes the batch's input file usable: its prompts go back, and fail after several batches",
        "prompts fail that it would take",
        "uploads whose file failed, or was still processed when the wait ended; each is deleted",
        Pace.HOURS,
        "the last of these looks",
        "belief_s",
    ),
    Belief.FILE_GONE: Rule(
        "a job failed because its input file was gone: another is created",
        "the batch is bought twice",
        "looks by name that say so, of a job that never named an output",
        Pace.SECOND,
        "the second look",
        "belief_s",
    ),
    Belief.NOT_ANSWERED: Rule(
        "a call at an interactive service brought no answer: the prompt is asked again",
        "the prompt is bought twice",
        "no reply, or none that can be read",
        Pace.CALLS,
        "it goes to its batch, or fails as in doubt",
        "none",
    ),
}


_PACES: Final = {
    (Belief.NOT_CREATED, "witnessed"): Pace.SECOND,
    (Belief.NO_OUTPUT, "cancelled"): Pace.CANCELLED,
    (Belief.ROWS_MISSING, "uncounted"): Pace.HOURS,
}
"""Where the details decide how slowly something is believed."""


def pace_of(what: str) -> Pace:
    """How slowly what the looks show is believed: a belief and its details, as ``seen_what`` holds them."""
    belief = Evidence(what).belief
    detail = what.split(" ")[1] if " " in what else ""
    return _PACES.get((belief, detail), RULES[belief].pace) if belief is not None else Pace.HOURS


def unit_s(settings: Settings) -> float:
    """The first pause between two looks: a minute, and less where ``belief_s`` is below six hours."""
    return min(60.0, settings.belief_s / 360)


def gaps_s(pace: Pace, settings: Settings) -> tuple[float, ...]:
    """The least pauses between the looks that a conclusion takes: one less than the looks."""
    unit = unit_s(settings)
    if pace is Pace.HOURS:
        return _ladder_s(unit, settings.belief_s)
    single = {
        Pace.LISTINGS: settings.settle_s,
        Pace.CANCELLED: max(unit, settings.cancel_settle_s),
        Pace.ROWS: _ROWS_UNITS * unit,
        Pace.LIFE: settings.poll_max_s,
    }
    return (single.get(pace, unit),)


def _ladder_s(unit: float, total_s: float) -> tuple[float, ...]:
    rungs = [rung * unit for rung in _LADDER]
    rungs += [_LAST_RUNG * unit] * (int((total_s - sum(rungs)) // (_LAST_RUNG * unit)) + 1)
    sums = list(accumulate(rungs))
    below = [rung for rung, reached in zip(rungs, sums, strict=True) if reached < total_s]
    return (*below, total_s - sum(below))


class Evidence(msgspec.Struct, frozen=True):
    """What a batch's record holds of a belief: the looks that agreed, and when the first and the last were (ms)."""

    what: str = ""
    n: int = 0
    first_at: int = 0
    last_at: int = 0

    @property
    def belief(self) -> Belief | None:
        """Of what; None where there is none, or one that a newer gemqueue wrote."""
        word = self.what.partition(" ")[0]
        return Belief(word) if word in set(Belief) else None

    def note(self) -> Note:
        """As the record takes it."""
        note = Note(seen_what=self.what, seen_n=self.n, seen_first_at=self.first_at, seen_last_at=self.last_at)
        return note.also(Note(v=RECORD_VERSION)) if self.n else note


NOTHING_SEEN: Final = Evidence()


def evidence_of(batch: Batch) -> Evidence:
    """What the batch's record holds."""
    return Evidence(batch.seen_what, batch.seen_n, batch.seen_first_at, batch.seen_last_at)


def looked(seen: Evidence, what: str, now_ms: int, gap_s: float, *, keeps: bool = False) -> Evidence:
    """The evidence after one more look that shows ``what``.

    A look that comes sooner than ``gap_s`` after the last counts for nothing; one that shows something else begins
    anew, unless the life of it all is over (``keeps``).
    """
    if seen.n == 0 or now_ms < seen.last_at or (seen.what != what and not keeps):
        first_at = seen.first_at if seen.n and seen.belief == Evidence(what).belief else now_ms
        return Evidence(what, 1, min(first_at, now_ms), now_ms)
    if now_ms - seen.last_at < gap_s * 1000:
        return msgspec.structs.replace(seen, what=what)
    return Evidence(what, seen.n + 1, seen.first_at, now_ms)


class Verdict(msgspec.Struct, frozen=True):
    """Whether it is concluded, only because the life of it is over (``by_age``), and else when to look again."""

    concluded: bool = False
    by_age: bool = False
    delay_s: float = 0.0


def judge(seen: Evidence, pace: Pace, now_ms: int, settings: Settings, end_ms: int = 0) -> Verdict:
    """What follows from the evidence; ``end_ms`` is when the life of it all is over, 0 for never."""
    gaps = gaps_s(pace, settings)
    if seen.n > len(gaps) and pace is not Pace.LIFE:
        return Verdict(concluded=True)
    if end_ms and now_ms >= end_ms and seen.n >= _LOOKS_PAST_END:
        return Verdict(concluded=True, by_age=True)
    due_s = gap_s(seen, pace, settings, end_ms) - (now_ms - seen.last_at) / 1000
    return Verdict(delay_s=max(due_s, 0.0) + 0.001)  # a millisecond may be cut off


def gap_s(seen: Evidence, pace: Pace, settings: Settings, end_ms: int = 0) -> float:
    """How far the next look must lie from the last that counted; near the end three more looks still fit."""
    gaps = gaps_s(pace, settings)
    gap = gaps[min(max(seen.n - 1, 0), len(gaps) - 1)]
    if end_ms and seen.n < _LOOKS_PAST_END:
        left_s = (end_ms - max(seen.last_at, 0)) / 1000
        gap = min(gap, max(left_s / _LOOKS_PAST_END, unit_s(settings)))
    return gap


def results_end_ms(batch: Batch) -> int:
    """When nothing of a job's results is left at the provider, whatever it says."""
    return min(batch.ended_at, job_end_ms(batch)) + LIFE_MS


def job_end_ms(batch: Batch) -> int:
    """When nothing of a job is left at the provider, whatever it says."""
    return (max(batch.accepted_at, batch.intent_at) or max(batch.created_at, batch.ended_at)) + LIFE_MS


def last_end_ms(batch: Batch) -> int:
    """When a job that goes on saying that it runs is given up: nothing that it may have brought can be left."""
    return job_end_ms(batch) + LIFE_MS


def reads_now(n: int, pace: Pace, settings: Settings) -> bool:
    """Whether the look that would be the ``n``-th reads whole results: at most six of a belief do, the last among them.

    Between these only the job is looked at: results may have gigabytes.
    """
    return n in _READ_LOOKS or n > len(gaps_s(pace, settings))


def doubt_pause_s(deaths: int, settings: Settings) -> float:
    """How long after the fence a create in doubt is looked for, when so many before it were proven dead in a row."""
    return min(settings.settle_s * 4.0 ** min(deaths, 20), max(settings.settle_s, 3600.0))
