"""Verdicts on what came back in the rows: shapes, models, order, completeness, the bill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gemqueue_workers.model_table import is_rerouted, known_as
from gemqueue_workers.prove.verdicts import SUCCEEDED, Finding, Sight, counted, judged, not_seen, tallies

if TYPE_CHECKING:
    from gemqueue_workers.prove.state import Tally

_ENOUGH: Final = 0.5
"""The share of rows that must be answered before anything is said of them."""
_COUNTS: Final = ("expected", "missing", "doubled", "foreign")
_USD_ROUNDING: Final = 1e-6


def schema(sight: Sight) -> Finding:
    """Rows that ask by ``responseSchema``."""
    return _fits(counted(sight, "schema"))


def json_schema(sight: Sight) -> Finding:
    """Rows that ask by ``responseJsonSchema``."""
    return _fits(counted(sight, "json_schema"))


def _fits(tally: Tally | Finding) -> Finding:
    if isinstance(tally, Finding):
        return tally
    said = f"{tally.fit} of {tally.answered} answers have the shape"
    seen = {"rows": tally.expected, "answered": tally.answered, "fitting": tally.fit}
    if tally.answered < _ENOUGH * tally.expected:
        return not_seen(f"only {tally.answered} of {tally.expected} rows were answered", **seen)
    return judged(not tally.misfit, said, **seen)


def model_answers(sight: Sight) -> Finding:
    """Which model answered."""
    versions: dict[str, int] = {}
    for _, tally in tallies(sight):
        for version, rows in tally.models.items():
            versions[version] = versions.get(version, 0) + rows
    named = {version: rows for version, rows in versions.items() if version}
    if not named:
        return not_seen("no answer named its model")
    said = ", ".join(f"{version}: {rows} rows" for version, rows in sorted(named.items()))
    said, seen = f"asked {sight.model}; answered by {said}", {"asked": sight.model, "answered": named}
    if not all(known_as(version) for version in named):
        return not_seen(f"{said}: not all of them are in the model table", **seen)
    return judged(not any(is_rerouted(sight.model, version) for version in named), said, **seen)


def rows_once(sight: Sight) -> Finding:
    """Each row comes back, once."""
    found = [tally for job, tally in tallies(sight) if job.end == SUCCEEDED]
    if not found:
        return not_seen("no job brought rows")
    seen = {name: sum(getattr(tally, name) for tally in found) for name in _COUNTS}
    said = ", ".join(f"{seen[name]:,} {name}" for name in _COUNTS)
    return judged(not any(seen[name] for name in _COUNTS[1:]), said, **seen)


def results_at_once(sight: Sight) -> Finding:
    """A job that has succeeded names its results in the same look."""
    jobs = [job for job in sight.state.every() if job.named_s is not None or job.mute_ms]
    if not jobs:
        return not_seen("no job succeeded")
    late = [job for job in jobs if job.mute_ms]
    longest_s = round(max(((job.named_s or 0.0) for job in late), default=0.0), 1)
    never = sum(job.named_s is None for job in late)
    said = f"{len(late)} of {len(jobs)} jobs succeeded and named no results yet"
    return judged(not late, said, jobs=len(jobs), late=len(late), never=never, longest_s=longest_s)


def counters(sight: Sight) -> Finding:
    """The provider counts the rows that its result file has."""
    found = [(job.counted, tally.answered + tally.failed) for job, tally in tallies(sight) if job.end == SUCCEEDED]
    if not found:
        return not_seen("no job brought rows")
    wrong = sum(counted_rows != rows for counted_rows, rows in found)
    return judged(
        not wrong, f"{wrong} of {len(found)} jobs count other rows than they have", jobs=len(found), wrong=wrong
    )


def own_answers(sight: Sight) -> Finding:
    """Each key carries the answer to its own row."""
    tally = counted(sight, "rows")
    if isinstance(tally, Finding):
        return tally
    seen = {"rows": tally.expected, "own": tally.own, "swapped": tally.swapped}
    if not tally.swapped and tally.own < _ENOUGH * tally.expected:
        return not_seen(f"only {tally.own} of {tally.expected} answers hold the number that was asked for", **seen)
    return judged(not tally.swapped, f"{tally.own} answers are to their own row, {tally.swapped} to another", **seen)


def rows_in_order(sight: Sight) -> Finding:
    """Rows come in the order of the input."""
    tally = counted(sight, "rows")
    if isinstance(tally, Finding):
        return tally
    said = f"{tally.misplaced} of {tally.expected:,} rows are at another place"
    return judged(not tally.misplaced, said, rows=tally.expected, misplaced=tally.misplaced)


def bill(sight: Sight) -> Finding:
    """What it should cost by our prices."""
    found = tallies(sight)
    if not found:
        return not_seen("no job brought rows")
    usd = sum(tally.usd for _, tally in found)
    tokens = {name: sum(getattr(tally, name) for _, tally in found) for name in ("input_tokens", "output_tokens")}
    seen = {"by_our_prices_usd": round(usd, 6), **tokens}
    billed_usd = sight.state.seen.get("billed_usd")
    said = f"by our prices {tokens['input_tokens']:,} + {tokens['output_tokens']:,} tokens cost ${usd:.6f}"
    if billed_usd is None:
        return not_seen(f"{said}: compare it with the bill of the project", **seen)
    right = abs(billed_usd - usd) <= _USD_ROUNDING * (len(found) + 1)
    return judged(right, f"{said}; billed: ${billed_usd:.6f}", billed_usd=billed_usd, **seen)
