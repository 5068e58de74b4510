"""A run from its first look to its report: estimate, ask, create, follow, judge, clean; resumable at any moment."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.errors import ConfigError
from gemqueue_workers.prove import emulated, looks
from gemqueue_workers.prove.clean import clean
from gemqueue_workers.prove.creating import ensure_created, settle_doubt
from gemqueue_workers.prove.following import await_list, follow, poll_job
from gemqueue_workers.prove.lab import Lab, Pauses, patiently
from gemqueue_workers.prove.opening import (
    Options,
    at_work,
    journal_of,
    journal_to_end,
    service_of,
    settings_of,
    settle_s_of,
)
from gemqueue_workers.prove.report import Report, make_report, markdown
from gemqueue_workers.prove.state import Journal, Step, write_whole
from gemqueue_workers.prove.trials import Trial, trials
from gemqueue_workers.prove.verdicts import Sight

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue.config import Settings


_RETRY_PAUSE_S_MAX: Final = 120.0
"""Each try of a create that was put off uploads its input again."""


async def prove(options: Options, *, say: Callable[[str], None], agree: Callable[[float], None]) -> Report:
    """Ask what is not known yet and write the report. ``agree`` is told the most that it costs, and may raise.

    A run that has come to its end is not begun again: it is reported as it was. Raises ConfigError for what cannot be
    right, and the provider's error where it cannot be asked now; the same command then goes on.
    """
    settings = settings_of(options)
    with closing(journal_of(options, settings)) as journal:
        if journal.state.done:
            say("This run has come to its end, and nothing is asked again; --clean or another -o begins a new one.")
        else:
            async with at_work(options, settings, journal, say) as lab:
                agree(estimate_usd(options, lab))
                await _ask_all(lab, options)
        if journal.state.done:
            emulated.forget(options.file(".emulator"))
        return _reported(options, settings, journal)


async def forget(options: Options, *, say: Callable[[str], None]) -> None:
    """Cancel and delete all that the run has at the provider, and forget it; its report stays."""
    settings = settings_of(options)
    with closing(journal_to_end(options, settings)) as journal:
        bound = journal.state.bound
        options = msgspec.structs.replace(options, model=bound["model"], rows=bound["rows"])
        async with at_work(options, settings, journal, say) as lab:
            for job in journal.state.jobs.values():
                if job.step is Step.INTENDED:
                    await settle_doubt(lab, job)
            await clean(lab, trials(options.rows))
        journal.forget()
    emulated.forget(options.file(".emulator"))


def _reported(options: Options, settings: Settings, journal: Journal) -> Report:
    """Judge what was seen, and write it down."""
    state, service = journal.state, service_of(options)
    sight = Sight(state=state, model=options.model, settle_s=settle_s_of(settings), live=options.live)
    made = make_report(sight, options.chosen, service=service, budget_usd=options.budget_usd, complete=state.done)
    write_whole(options.file(".json"), msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n", 0o666)
    write_whole(options.file(".md"), markdown(made).encode(), 0o666)
    return made


def estimate_usd(options: Options, lab: Lab) -> float:
    """The most that what is not begun yet may cost. Raises ConfigError for a model without a price."""
    total = 0.0
    for slot, trial in options.trials.items():
        job, usd = lab.state.jobs.get(slot), trial.estimate_usd(options.model)
        if usd is None:
            raise ConfigError(
                f"there is no price for {options.model}, so no budget can be kept: give one in the file that "
                "GEMQUEUE_MODELS names, or another --model"
            )
        total += usd if job is None or job.step in (Step.LATER, Step.DEAD) else 0.0
    return total


async def _ask_all(lab: Lab, options: Options) -> None:
    lab.journal.save()  # the run's name is on the disk before anything bears it at the provider
    pauses = Pauses(options.wait_s, _RETRY_PAUSE_S_MAX)
    await looks.before_jobs(lab, options.looks)
    while True:
        for trial in options.trials.values():
            await _begin(lab, trial)
        await looks.beside_jobs(lab, options.looks)
        whole = await follow(lab, options.trials, wait_s=pauses.left_s)
        later = [job for slot, job in lab.state.jobs.items() if job.untried and slot not in lab.state.over_budget]
        if not (whole and later) or pauses.over:
            break
        await pauses.rest()
    if whole and not later:
        await _end(lab, options)


async def _begin(lab: Lab, trial: Trial) -> None:
    known = lab.state.jobs.get(trial.slot)
    await ensure_created(lab, trial)
    job = lab.state.jobs.get(trial.slot)
    if job is not known and job is not None:
        lab.say(f"{trial.slot}: {job.step}, {trial.rows:,} rows, at most ${job.estimate_usd:.4f}")
    if job is not None and job.open and trial.delete == "pending":
        await poll_job(lab, trial, job)  # while it still waits


async def _end(lab: Lab, options: Options) -> None:
    """All jobs are read: what is seen only now, and nothing is left at the provider."""
    await await_list(lab)
    await looks.after_jobs(lab, options.looks)
    await clean(lab, trials(options.rows))
    if not options.live:
        await _read_ledger(lab)
    lab.state.done = not lab.state.over_budget
    lab.journal.save()


async def _read_ledger(lab: Lab) -> None:
    """What an emulator has billed for the jobs of this run."""
    told = await patiently(lambda: lab.calls.path("GET", "/_emulator/ledger"))
    if told.read == "done":
        ours = {job.job for job in lab.state.every() if job.job}
        ledger = msgspec.json.decode(told.body, type=_Ledger)
        lab.state.seen["billed_usd"] = round(sum(job.usd for job in ledger.jobs if job.name in ours), 6)


class _Billed(msgspec.Struct):
    name: str
    usd: float


class _Ledger(msgspec.Struct):
    jobs: list[_Billed]
