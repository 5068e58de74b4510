"""A run from its first look to its report: estimate, ask, create, follow, judge, clean; resumable at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.config import DEFAULT_BASE_URL, Settings, api_key_from_env, load_settings
from gemqueue.errors import ConfigError, ProviderError
from gemqueue.local import worker_env
from gemqueue.requests import check_kind, check_model
from gemqueue.states import Kind
from gemqueue_adapters.bare import BareCalls
from gemqueue_workers.prove import emulated, looks
from gemqueue_workers.prove.assumptions import ASSUMPTIONS, Assumption
from gemqueue_workers.prove.clean import clean
from gemqueue_workers.prove.creating import ensure_created
from gemqueue_workers.prove.following import await_list, follow, look
from gemqueue_workers.prove.lab import Lab, Limits, Pauses, patiently
from gemqueue_workers.prove.report import Report, make_report, markdown
from gemqueue_workers.prove.state import Journal, Step, write_whole
from gemqueue_workers.prove.trials import SHORT_ROWS, Trial, trials
from gemqueue_workers.prove.verdicts import Sight
from gemqueue_workers.settings import make_provider, provider_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

BAD_KEY: Final = "invalid-key"
_EMULATOR: Final = "the emulator, which makes everything up"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was asked for."""

    live: bool
    budget_usd: float
    model: str
    out: Path
    wait_s: float
    rows: int = SHORT_ROWS
    other_key_env: str = ""
    base_url: str = ""
    only: tuple[str, ...] = ()

    @property
    def chosen(self) -> tuple[Assumption, ...]:
        """The assumptions that are asked about, in the table's order."""
        return tuple(each for each in ASSUMPTIONS if not self.only or each.name in self.only)

    @property
    def trials(self) -> dict[str, Trial]:
        """The trials that they need, in the order in which they are begun."""
        needed = {slot for assumption in self.chosen for slot in assumption.slots}
        return {slot: trial for slot, trial in trials(self.rows).items() if slot in needed}

    @property
    def looks(self) -> set[str]:
        """The looks that they need."""
        return {name for assumption in self.chosen for name in assumption.looks}

    def file(self, suffix: str) -> Path:
        """One of the files of this report."""
        return self.out.with_name(self.out.name + suffix)


async def prove(options: Options, *, say: Callable[[str], None], agree: Callable[[float], None]) -> Report:
    """Ask what is not known yet and write the report. ``agree`` is told the most that it costs, and may raise.

    Raises ConfigError for what cannot be right, and the provider's error where it cannot be asked now; the same
    command then goes on.
    """
    settings = _settings(options)
    with closing(_journal(options, settings)) as journal:
        if not journal.state.done:
            async with _at_work(options, settings, journal, say) as lab:
                agree(estimate_usd(options, lab))
                await _ask_all(lab, options)
        if journal.state.done:
            emulated.forget(options.file(".emulator"))
        return _reported(options, settings, journal)


async def forget(options: Options, *, say: Callable[[str], None]) -> None:
    """Cancel and delete all that the run has at the provider, and forget it; its report stays."""
    settings = _settings(options)
    with closing(_journal(options, settings)) as journal:
        async with _at_work(options, settings, journal, say) as lab:
            await clean(lab, trials(options.rows))
        journal.forget()
    emulated.forget(options.file(".emulator"))


def _reported(options: Options, settings: Settings, journal: Journal) -> Report:
    """Judge what was seen, and write it down."""
    state, service = journal.state, _service(options) if options.live else _EMULATOR
    sight = Sight(state=state, model=options.model, settle_s=_settle_s(settings), live=options.live)
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
    pauses = Pauses(options.wait_s)
    await looks.before_jobs(lab, options.looks)
    while True:
        for trial in options.trials.values():
            await _begin(lab, trial)
        await looks.beside_jobs(lab, options.looks)
        whole = await follow(lab, options.trials, wait_s=pauses.left_s)
        later = [job for job in lab.state.jobs.values() if job.step in (Step.LATER, Step.INTENDED)]
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
        await look(lab, trial, job)  # while it still waits


async def _end(lab: Lab, options: Options) -> None:
    """All jobs are read: what is seen only now, and nothing is left at the provider."""
    await await_list(lab)
    await looks.after_jobs(lab, options.looks)
    await clean(lab, trials(options.rows))
    if not options.live:
        await _look_at_ledger(lab)
    lab.state.done = not lab.state.over_budget
    lab.journal.save()


async def _look_at_ledger(lab: Lab) -> None:
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


def _settings(options: Options) -> Settings:
    """Those of the environment, for the side that is asked; no webhook is told of jobs that are none of the queue's."""
    check_kind(check_model(options.model), Kind.GENERATE)
    settings = load_settings(emulate=not options.live, base_url=options.base_url or None)
    return msgspec.structs.replace(settings, webhook_url="")


def _journal(options: Options, settings: Settings) -> Journal:
    key = "" if settings.emulate else provider_key(settings, api_key_from_env())
    return Journal.open(options.file(".state.json"), _bound(options, settings, key))


def _own(settings: Settings) -> bool:
    """Whether an emulator of its own is asked."""
    return settings.emulate and not settings.base_url


def _settle_s(settings: Settings) -> float:
    return emulated.SETTLE_S if _own(settings) else settings.settle_s


@asynccontextmanager
async def _at_work(
    options: Options, settings: Settings, journal: Journal, say: Callable[[str], None]
) -> AsyncGenerator[Lab]:
    """The lab, closed at the end; whatever stops it, what was seen is kept, and that is said."""
    limits = Limits(
        model=options.model,
        budget_usd=options.budget_usd,
        settle_s=_settle_s(settings),
        wait_s=options.wait_s,
    )
    async with AsyncExitStack() as stack:
        if _own(settings):
            url = await stack.enter_async_context(emulated.own_emulator(options.file(".emulator")))
            settings = msgspec.structs.replace(settings, base_url=url)
        lab = make_lab(settings, journal, limits, say=say, other_key=_other_key(options))
        stack.push_async_callback(lab.aclose)
        try:
            yield lab
        except (ProviderError, asyncio.CancelledError):
            say("Stopped. What was seen and begun is kept: the same command goes on, --clean gives it up.")
            raise


def make_lab(
    settings: Settings, journal: Journal, limits: Limits, *, say: Callable[[str], None], other_key: str = ""
) -> Lab:
    """What looks and trials work with, under these settings. Raises ConfigError for a key that cannot be right."""
    key = provider_key(settings, api_key_from_env())

    def calls(api_key: str) -> BareCalls:
        return BareCalls(
            api_key=api_key,
            base_url=settings.base_url or DEFAULT_BASE_URL,
            api_version=settings.api_version,
            emulate=settings.emulate,
            timeout_s=settings.call_timeout_s,
        )

    return Lab(
        provider=make_provider(settings, key),
        calls=calls(key),
        bad=calls(BAD_KEY),
        other=calls(other_key) if other_key else None,
        journal=journal,
        limits=limits,
        child_env=os.environ | worker_env(settings, settings.redis_url),
        say=say,
    )


def _other_key(options: Options) -> str:
    if not options.other_key_env:
        return ""
    key = os.environ.get(options.other_key_env, "").strip()
    if not key:
        raise ConfigError(f"--other-key-env {options.other_key_env}: the variable is not set")
    return key


def _bound(options: Options, settings: Settings, key: str) -> dict[str, str | int]:
    """What a run belongs to: with another of these it is another run."""
    key_print = hashlib.sha256(key.encode()).hexdigest()[:12] if key else "emulated"
    service = settings.base_url or _service(options)
    return {"service": service, "key": key_print, "model": options.model, "rows": options.rows}


def _service(options: Options) -> str:
    if not options.live:
        return "an emulator of its own"
    return "the Gemini API" if not options.base_url else "another address than the Gemini API's"
