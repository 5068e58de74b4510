"""What lies in jobs that nobody here waits for: how much was paid for it, and the answers themselves in a file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.errors import ConfigError, Rejected
from gemqueue.language.gemini.rows import Verdict, row_verdict
from gemqueue.policy.reconciling import Standing
from gemqueue.records import BATCH
from gemqueue_workers.run.results import UsageSum
from gemqueue_workers.screen import counted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedWriter

    from gemqueue.provider import JobStatus, Provider
    from gemqueue_workers.worker.reconciler import Finding

_SHOWN_MAX: Final = 40
_UNCLAIMED: Final = frozenset({Standing.ORPHANED, Standing.RUNNING})


class _Metadata(msgspec.Struct, frozen=True):
    model: str = ""


class _Operation(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


_operation: Final = msgspec.json.Decoder(_Operation).decode


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A job of another home that nobody here waits for, or that still runs.

    ``answers`` of its rows have come; ``usd`` is what they cost by the price list. Of a job that runs, or that says
    nothing of its tokens, that is ``estimated`` from the others of its model; None where nothing is known.
    """

    job: str
    state: str
    model: str
    rows: int
    answers: int = 0
    tokens: int = 0
    usd: float | None = None
    estimated: bool = False


async def read_orphans(provider: Provider, findings: Iterable[Finding], path: str) -> list[Orphan]:
    """Read their results; with a ``path`` each row goes there as the provider wrote it, one a line.

    Raises ProviderError; ConfigError where the file is there already, or cannot be written.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path)) if path else None
        wanted = [finding for finding in findings if finding.standing in _UNCLAIMED]
        return _with_estimates([await _read(provider, finding, file) for finding in wanted])


def _opened(path: str) -> BufferedWriter:
    try:
        return Path(path).open("xb")
    except OSError as error:
        raise ConfigError(f"--answers {path} cannot be written ({error.strerror}): choose another file") from error


async def _read(provider: Provider, finding: Finding, file: BufferedWriter | None) -> Orphan:
    try:
        job = await provider.poll(finding.job)
    except Rejected as error:
        if not error.missing:
            raise
        return Orphan(job=finding.job, state=finding.state, model="", rows=finding.rows)
    orphan = Orphan(job=job.job, state=str(job.state), model=_model_of(job), rows=job.rows or finding.rows)
    if not job.state.terminal:
        return orphan
    return await _with_answers(provider, job, orphan, file)


async def _with_answers(provider: Provider, job: JobStatus, orphan: Orphan, file: BufferedWriter | None) -> Orphan:
    used, answers = UsageSum(orphan.model), 0
    try:
        async for lines in provider.results(job):
            for line in lines:
                verdict = row_verdict(line)
                if verdict.verdict is Verdict.ANSWERED:
                    answers += 1
                    used.add(verdict.raw, BATCH)
            if file is not None:
                file.writelines(line + b"\n" for line in lines)
    except Rejected as error:
        if not error.missing:
            raise
    usd = round(used.usd, 6) if answers and used.usd is not None else None
    return msgspec.structs.replace(orphan, answers=answers, tokens=used.tokens, usd=usd)


def _model_of(job: JobStatus) -> str:
    try:
        return _operation(job.raw).metadata.model.removeprefix("models/")
    except msgspec.MsgspecError:
        return ""


def _with_estimates(orphans: list[Orphan]) -> list[Orphan]:
    """Those without a cost get that of the others of their model, row by row."""
    usd: dict[str, float] = {}
    answers: dict[str, int] = {}
    for one in orphans:
        if one.usd is not None:
            usd[one.model] = usd.get(one.model, 0.0) + one.usd
            answers[one.model] = answers.get(one.model, 0) + one.answers
    return [
        msgspec.structs.replace(one, usd=round(one.rows * usd[one.model] / answers[one.model], 6), estimated=True)
        if one.usd is None and one.rows and answers.get(one.model)
        else one
        for one in orphans
    ]


def orphan_words(orphans: list[Orphan]) -> list[str]:
    """For a person."""
    said = [_words(one) for one in orphans[:_SHOWN_MAX]]
    if len(orphans) > 1:
        known = [one.usd for one in orphans if one.usd is not None]
        rows = sum(one.rows for one in orphans)
        said.append(f"Together {counted(rows, 'row', 'rows')} that nobody here waits for, about {sum(known):,.4f} USD")
    return said


def _words(one: Orphan) -> str:
    cost = "its cost is not known" if one.usd is None else f"{'about ' * one.estimated}{one.usd:,.4f} USD"
    return f"Orphan: {one.job} ({one.state}), {counted(one.rows, 'row', 'rows')}, {one.answers:,} answers, {cost}"
