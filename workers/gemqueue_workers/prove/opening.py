"""What a run is opened with: options, settings, the journal that belongs to them, and the lab over it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.accounts import api_key_from_env
from gemqueue.config import DEFAULT_BASE_URL, Settings, load_settings
from gemqueue.embedded.local import worker_env
from gemqueue.errors import ConfigError, ProviderError
from gemqueue.language.checks import check_kind, check_model
from gemqueue.states import Kind
from gemqueue.variables import secret_from_env
from gemqueue_adapters.bare import BareCalls
from gemqueue_workers.prove import emulated
from gemqueue_workers.prove.assumptions import ASSUMPTIONS, Assumption
from gemqueue_workers.prove.lab import Lab, Limits
from gemqueue_workers.prove.state import Journal
from gemqueue_workers.prove.trials import SHORT_ROWS, Trial, trials
from gemqueue_workers.settings import make_provider, provider_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

BAD_KEY: Final = "invalid-key"
EMULATOR: Final = "an emulator, which makes everything up"


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


def settings_of(options: Options) -> Settings:
    """Those of the environment, for the side that is asked; no webhook is told of jobs that are none of the queue's."""
    check_kind(check_model(options.model), Kind.GENERATE)
    settings = load_settings(emulate=not options.live, base_url=options.base_url or None)
    return msgspec.structs.replace(settings, webhook_url="")


def journal_of(options: Options, settings: Settings) -> Journal:
    """The run's journal; see ``Journal.open``. Raises ConfigError, too, where the report cannot be put."""
    for file in (options.file(".md"), options.file(".json")):
        if file.is_dir():
            raise ConfigError(f"{file} is a folder: the report needs the name; give another one with -o")
    asked = {"model": options.model, "rows": options.rows, "--only": ", ".join(sorted(set(options.only)))}
    return Journal.open(options.file(".state.json"), _where(options, settings) | asked)


def journal_to_end(options: Options, settings: Settings) -> Journal:
    """That of a run that is there; it may have been begun with another model or other rows."""
    return Journal.open(options.file(".state.json"), _where(options, settings), begin=False)


def _own(settings: Settings) -> bool:
    """Whether an emulator of its own is asked."""
    return settings.emulate and not settings.base_url


def settle_s_of(settings: Settings) -> float:
    """The longest that the list of the side that is asked may hide a job."""
    return emulated.SETTLE_S if _own(settings) else settings.settle_s


@asynccontextmanager
async def at_work(
    options: Options, settings: Settings, journal: Journal, say: Callable[[str], None]
) -> AsyncGenerator[Lab]:
    """The lab, closed at the end; whatever stops it, what was seen is kept, and that is said."""
    limits = Limits(
        model=options.model,
        budget_usd=options.budget_usd,
        settle_s=settle_s_of(settings),
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
    key = secret_from_env(options.other_key_env)
    if not key:
        raise ConfigError(f"--other-key-env {options.other_key_env}: the variable is not set")
    return key


def _where(options: Options, settings: Settings) -> dict[str, str | int]:
    """Where a run has its jobs and files: a service, and the project of a key there."""
    key = "" if settings.emulate else provider_key(settings, api_key_from_env())
    key_print = hashlib.sha256(key.encode()).hexdigest()[:12] if key else "emulated"
    return {"service": settings.base_url or service_of(options), "key": key_print}


def service_of(options: Options) -> str:
    """The side that is asked, as it may be published."""
    if not options.live:
        return EMULATOR
    return "the Gemini API" if not options.base_url else "another address than the Gemini API's"
