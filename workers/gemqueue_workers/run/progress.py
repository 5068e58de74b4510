"""How far a run is, in words and numbers that hold: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue.policy.holds import batch_held, waits_for
from gemqueue.records import BATCH, Batch, Lane
from gemqueue.states import BatchState, Cause
from gemqueue.tasks import ending
from gemqueue_workers.model_notes import of_answers, rerouted_of
from gemqueue_workers.prices import STANDARD, Cost
from gemqueue_workers.screen import counted, duration, held, plain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rich.console import RenderableType

    from gemqueue_workers.run.collecting import Collector
    from gemqueue_workers.run.connection import Link
    from gemqueue_workers.run.submitting import Submitter

_LOOK_S: Final = 1.0
_LINE_S: Final = 10.0
_WINDOW_S: Final = 60.0
_RATE_FROM_S: Final = 2.0
"""Less than this is no rate: a resumed run finds at once what landed while nobody watched."""
_BATCHES_MAX: Final = 200
_AT_PROVIDER: Final = frozenset({BatchState.SUBMITTED, BatchState.ENDED, BatchState.CLOSING})


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a run."""

    rows: int
    answered: int
    failed: int
    submitted: int
    at_provider: int
    batches: int
    oldest_s: float
    rate: float
    eta_s: float | None
    usd: float | None
    saved_usd: float | None
    held: str
    emulated: bool

    @property
    def done(self) -> int:
        """Rows that are in OUT."""
        return self.answered + self.failed


class Progress:
    """What the run is seen by; ``model`` is what it pays for."""

    def __init__(self, console: Console, model: str, *, quiet: bool = False) -> None:
        self._console = console
        self._model = model
        self._quiet = quiet
        self._seen: deque[tuple[float, int]] = deque()
        self._lane: tuple[int, int, float, str] = (0, 0, 0.0, "")

    def begin(self, report: Outcome, submitter: Submitter, collector: Collector) -> None:
        """These are watched; says what there is to do."""
        self._report, self._submitter, self._collector = report, submitter, collector
        if not self._quiet:
            done = collector.tally.answered + collector.tally.failed
            self._console.print(plain(outlook(report, done)), soft_wrap=not self._console.is_terminal)
        for warning in report.warnings:
            self._console.print(f"Warning: {warning}", style="yellow", soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        """Something that one should know, however quiet it is."""
        self._console.print(plain(text), style="yellow", soft_wrap=not self._console.is_terminal)

    def account(self, report: Outcome) -> None:
        """Write what this start has spent into the report."""
        usage = self._collector.usage
        full, half = usage.usd_as(STANDARD), usage.usd_as(BATCH)
        report.services, report.answered_by = usage.costs, usage.versions
        report.rerouted = rerouted_of(self._model, report.answered_by)
        report.warnings += of_answers(self._model, report.answered_by)
        report.tokens = usage.tokens
        report.interactive_usd = None if full is None else round(full, 6)
        report.batch_usd = None if half is None else round(half, 6)
        shot = self.shot()
        report.held = shot.held if shot.done < shot.rows else ""

    def shot(self) -> Shot:
        """How far it is now."""
        report, collector = self._report, self._collector
        batches, at_provider, oldest_s, held = self._lane
        full, paid = collector.usage.usd_as(STANDARD), collector.usage.usd
        rate = self._rate()
        left = max(0, report.rows - collector.tally.answered - collector.tally.failed)
        return Shot(
            rows=report.rows,
            answered=collector.tally.answered,
            failed=collector.tally.failed,
            submitted=report.resumed + self._submitter.submitted,
            at_provider=min(at_provider, collector.open_rows),
            batches=batches,
            oldest_s=oldest_s,
            rate=rate,
            eta_s=left / rate if rate and left else None,
            usd=paid,
            saved_usd=None if full is None or paid is None else full - paid,
            held=self._submitter.held or held,
            emulated=report.emulated,
        )

    def _rate(self) -> float:
        now, done = time.monotonic(), self._collector.tally.answered + self._collector.tally.failed
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - _WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now >= since + _RATE_FROM_S else 0.0

    @asynccontextmanager
    async def shown(self, link: Link) -> AsyncGenerator[None]:
        """Show it while the body runs."""
        watcher = asyncio.create_task(self._watch(link), name="gemqueue-progress")
        try:
            if self._quiet or not self._console.is_terminal:
                lines = asyncio.create_task(self._print_lines(), name="gemqueue-lines")
                try:
                    yield
                finally:
                    lines.cancel()
                    if not self._quiet:
                        self._print()
                return
            with Live(get_renderable=self._picture, console=self._console, refresh_per_second=4, transient=False):
                yield
        finally:
            watcher.cancel()

    def _picture(self) -> RenderableType:
        return picture(self.shot())

    async def _print_lines(self) -> None:
        while not self._quiet:
            await asyncio.sleep(_LINE_S)
            self._print()

    def _print(self) -> None:
        self._console.print(line(self.shot()), soft_wrap=True)

    async def _watch(self, link: Link) -> None:
        while not ending():
            try:
                self._lane = await _lane_state(link, self._submitter.lane)
            except StoreUnavailable as error:
                self._lane = (*self._lane[:3], str(error))
            except GemqueueError as error:
                self._lane = (*self._lane[:3], str(error))
            await asyncio.sleep(_LOOK_S)


async def _lane_state(link: Link, lane: Lane) -> tuple[int, int, float, str]:
    """Open batches of the lane, prompts in those that the provider has, the oldest one's age, why nothing moves."""
    nobody = await link.ensure_worker()
    store = link.store
    now_ms = await store.server_now_ms()
    found = await store.batch_records((await store.open_batches())[:_BATCHES_MAX])
    batches = [batch for batch in found if _is_of(batch, lane) and batch.state != BatchState.CLOSED]
    places = [[lane.account], *(waits_for(batch.lane, batch.pool) for batch in batches)]
    pauses = await store.pauses(account for place in places for account in place)
    holds = [*(batch_held(batch, pauses) for batch in batches), pauses[lane.account]]
    waits = min((hold for hold in holds if hold.text), key=lambda hold: hold.cause is not Cause.DOUBT, default=None)
    age_s = max(0, now_ms - waits.since_ms) / 1000 if waits is not None and waits.since_ms else None
    why = held(waits.text, age_s) if waits is not None else ""
    oldest = min((batch.created_at for batch in batches), default=now_ms)
    at_provider = sum(batch.prompts for batch in batches if batch.state in _AT_PROVIDER)
    doubted = waits is not None and waits.cause is Cause.DOUBT
    why = f"{nobody} (gemqueue work)" if nobody and not doubted else why
    return len(batches), at_provider, max(0, now_ms - oldest) / 1000, why


def _is_of(batch: Batch, lane: Lane) -> bool:
    """Whether the batch has prompts of the lane, which may be a pool's: its batches are an account's own."""
    own = msgspec.structs.replace(batch.lane, account=batch.pool) if batch.pool else batch.lane
    return lane in {own, batch.lane}


def outlook(report: Outcome, done: int) -> str:
    """What a start finds, and has to do; ``done`` rows are in OUT."""
    rows, fresh = f"{report.rows:,} rows", report.rows - report.resumed
    if not report.resumed:
        return f"Run {report.run}: {rows} to ask"
    awaited = max(0, report.resumed - done)
    return (
        f"Run {report.run} goes on: of {rows} {done:,} are in OUT, {awaited:,} are bought and awaited, {fresh:,} to ask"
    )


def picture(shot: Shot) -> RenderableType:
    """The run on a terminal, whatever its width."""
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column()
    bar.add_column(ratio=1)
    bar.add_column(justify="right")
    mark = Text("EMULATED ", "bold black on yellow") if shot.emulated else Text("")
    share = shot.done / shot.rows if shot.rows else 0.0
    bar.add_row(mark, ProgressBar(total=max(1, shot.rows), completed=shot.done), Text(f"{share:4.0%}"))
    numbers = Text.assemble(
        (f"{shot.answered:,}", "green"), f" of {shot.rows:,} answered, ",
        (f"{shot.failed:,}", "red" if shot.failed else ""), " failed, ",
        f"{shot.submitted:,} submitted, {shot.at_provider:,} at the provider",
    )  # fmt: skip
    rest: list[RenderableType] = [bar, numbers, Text(_rest(shot), "dim")]
    if shot.held:
        rest.append(Text.assemble(("held: ", "yellow"), plain(shot.held)))
    return Group(*rest)


def _rest(shot: Shot) -> str:
    jobs = counted(shot.batches, "open batch", "open batches") + (
        f", the oldest {duration(shot.oldest_s)}" if shot.batches else ""
    )
    eta = f"about {duration(shot.eta_s)} left" if shot.eta_s is not None else ""
    money = "no price" if shot.usd is None else f"${shot.usd:,.4f} so far, ${shot.saved_usd or 0:,.4f} saved"
    rate = f"{shot.rate:,.0f}/s" if shot.rate else ""
    return "; ".join(part for part in (jobs, rate, eta, money) if part)


def line(shot: Shot) -> Text:
    """The run as one plain line."""
    mark = "EMULATED " if shot.emulated else ""
    held = f"; held: {shot.held}" if shot.held else ""
    numbers = f"{shot.answered:,} of {shot.rows:,} answered, {shot.failed:,} failed, {shot.submitted:,} submitted"
    return plain(f"{mark}{numbers}, {shot.at_provider:,} at the provider; {_rest(shot)}{held}")


class Outcome(msgspec.Struct, kw_only=True):
    """What a run came to, as ``--json`` prints it.

    ``rows`` are those of IN; ``answered`` and ``failed`` those in OUT, also from earlier starts; ``resumed`` were
    bought by earlier starts, ``submitted`` by this one; ``bought_again`` of these may have been bought before, which
    the store has forgotten. Tokens, costs and ``left_out``, the answers that had more than the text which --text kept,
    are of what this start wrote. ``services`` says what each service class of them cost and saved, ``answered_by``
    how many of them named which model, ``rerouted`` how many came from another one than was asked, and ``warnings``
    what to know of the model. ``held`` says why it did not move on when it was stopped.
    """

    run: str
    model: str = ""
    rows: int = 0
    answered: int = 0
    failed: int = 0
    resumed: int = 0
    bad_lines: int = 0
    duplicates: int = 0
    submitted: int = 0
    bought_again: int = 0
    left_out: int = 0
    seconds: float = 0.0
    tokens: int = 0
    interactive_usd: float | None = None
    batch_usd: float | None = None
    services: dict[str, Cost] = {}
    answered_by: dict[str, int] = {}
    rerouted: int = 0
    warnings: list[str] = []
    held: str = ""
    emulated: bool = False
    out: str = ""

    @property
    def complete(self) -> bool:
        """Whether every line of IN has its answer."""
        return not self.failed and not self.bad_lines
