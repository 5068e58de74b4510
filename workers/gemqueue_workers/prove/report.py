"""The report: what a run found, as JSON and as Markdown that can be published: no key, token, job or project."""

from __future__ import annotations

import datetime as dt
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue_adapters.envelope import clean
from gemqueue_workers.prove.verdicts import Verdict
from gemqueue_workers.screen import stripped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue_workers.prove.assumptions import Assumption
    from gemqueue_workers.prove.verdicts import Sight

_SAID_CHARS_MAX: Final = 300
_HIDDEN: Final = (
    (re.compile(r"\b(projects?|batches|files|users|organizations)/[^\s,;'\")]+"), r"\1/..."),
    (
        re.compile(r"\bproject(?:[ _](?:id|number))?(?:\s*[:=#]\s*|\s+(?=['\"]|\w*[\d-]))['\"]?[\w-]+", re.IGNORECASE),
        "project ...",
    ),
    (re.compile(r"\b(file|job|batch|operation) (?=[\w-]*\d)[\w-]+", re.IGNORECASE), r"\1 ..."),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?:\b[\da-f]{1,4}:|::)[\da-f]*(?::[\da-f]*)+", re.IGNORECASE), "..."),
    (re.compile(r"[\w.+-]+@[\w.-]+"), "..."),
    (re.compile(r"https?://\S+"), "..."),
    (re.compile(r"gemqueue-prove-\S+"), "..."),
    (re.compile(r"\b(?=\w*\d)\w{20,}\b|\b\d{9,}\b"), "..."),
)
"""What an error of the provider's might tell of the account."""


class Line(msgspec.Struct, frozen=True):
    """One assumption with its verdict."""

    name: str
    assumes: str
    verdict: str
    said: str
    evidence: dict[str, Any]
    source: str
    breaks: str
    relied: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found. ``complete`` says that everything was asked that the budget allowed."""

    service: str
    model: str
    began: str
    written: str
    gemqueue: str
    complete: bool
    budget_usd: float
    spent_usd: float
    jobs: int
    rows: int
    settle_s: float
    assumptions: list[Line]

    @property
    def counts(self) -> dict[str, int]:
        """How many assumptions have each verdict."""
        return {str(each): sum(line.verdict == each for line in self.assumptions) for each in Verdict}

    @property
    def sound(self) -> bool:
        """Whether it is complete, and nothing that gemqueue rests on did not hold."""
        return self.complete and not any(line.verdict == Verdict.FAILED and line.relied for line in self.assumptions)


def make_report(
    sight: Sight, chosen: Iterable[Assumption], *, service: str, budget_usd: float, complete: bool
) -> Report:
    """Judge every assumption by what was seen."""
    state = sight.state
    jobs = [job for job in state.every() if job.job]
    return Report(
        service=service,
        model=sight.model,
        began=_utc(state.began_ms / 1000),
        written=_utc(dt.datetime.now(tz=dt.UTC).timestamp()),
        gemqueue=version("gemqueue"),
        complete=complete,
        budget_usd=budget_usd,
        spent_usd=round(state.spent_usd, 6),
        jobs=len(jobs),
        rows=sum(job.tally.answered for job in jobs if job.tally is not None),
        settle_s=sight.settle_s,
        assumptions=[_line(assumption, sight) for assumption in chosen],
    )


def _line(assumption: Assumption, sight: Sight) -> Line:
    found = assumption.judge(sight)
    return Line(
        name=assumption.name,
        assumes=assumption.assumes,
        verdict=str(found.verdict),
        said=publishable(found.said),
        evidence={name: publishable(v) if isinstance(v, str) else v for name, v in found.evidence.items()},
        source=assumption.source,
        breaks=assumption.breaks,
        relied=assumption.relied,
    )


def publishable(text: str) -> str:
    """Foreign text on one line, without what could name an account, a job or a file."""
    text = stripped(clean(text))
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text[:_SAID_CHARS_MAX]


def markdown(report: Report) -> str:
    """The report for people."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in report.counts.items())
    whole = "" if report.complete else " It is not complete: the same command goes on."
    head = f"""\
# What the provider does

By `gemqueue prove` of gemqueue {report.gemqueue}, against {report.service}, with {report.model}, \
{report.began} to {report.written}.{whole}
{len(report.assumptions)} assumptions: {counts}.
{report.jobs} jobs, {report.rows:,} rows answered; spent ${report.spent_usd:.4f} of ${report.budget_usd:.2f} by the \
usage that the answers report.

| Assumption | Verdict | What was seen |
| --- | --- | --- |
"""
    rows = [f"| {line.name} | **{line.verdict}** | {_cell(line.said)} |" for line in report.assumptions]
    return head + "\n".join([*rows, "", *map(_section, report.assumptions)])


def _section(line: Line) -> str:
    evidence = ", ".join(f"{name} {_cell(str(value))}" for name, value in line.evidence.items()) or "none"
    return f"""\
## {line.name}: {line.verdict}

{line.assumes}

- Source: {line.source}
- If it is wrong: {line.breaks}
- Relied on by: {line.relied or "nothing"}
- Evidence: {evidence}
"""


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("<", "(").replace(">", ")")


def _utc(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, tz=dt.UTC):%Y-%m-%d %H:%M} UTC"
