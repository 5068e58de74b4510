"""What the demo shows: that all is emulated, how far it is, answers beside their prompts, and what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich import box
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from gemqueue.language.outcomes import Failed
from gemqueue_workers.prices import DATED
from gemqueue_workers.screen import plain, shortened, stripped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from gemqueue.language.outcomes import Outcome
    from gemqueue_workers.demo.prompts import DemoPrompt

_PROMPT_CHARS_MAX: Final = 180
_ANSWER_CHARS_MAX: Final = 180
_FAILURES_MAX: Final = 5
_VALUES_SHOWN: Final = 3


def show_title(console: Console, prompts: int) -> None:
    """Nobody may take what follows for Gemini's words."""
    text = Text.assemble(
        ("EMULATED", "bold black on yellow"),
        f"  {prompts:,} questions about the docstrings of Python's standard library.\n",
        "A local emulator of the Gemini Batch API answers them: no key, no network, no bill, no real answers.\n",
        "Starting a server, the emulator and a worker ...",
    )
    console.print(Panel(text, title="gemqueue demo", title_align="left", border_style="yellow", expand=False))


class Progress:
    """A bar on a terminal, a line for each tenth elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._bar: RichProgress | None = None
        if console.is_terminal:
            self._bar = RichProgress(
                TextColumn("[yellow]EMULATED[/] answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("answers", total=total)

    def advance(self) -> None:
        """One more outcome."""
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._done * 10 // self._total > (self._done - 1) * 10 // self._total:
            self._console.print(f"{self._done:,} of {self._total:,} emulated answers")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def show_samples(console: Console, samples: Sequence[tuple[DemoPrompt, Outcome]]) -> None:
    """A few answers beside their prompts."""
    table = Table(
        box=box.SIMPLE_HEAD,
        leading=1,
        title="Some answers (emulated)",
        title_justify="left",
        expand=console.is_terminal,
    )
    table.add_column("asked", ratio=1)
    table.add_column("answered", ratio=1)
    for prompt, outcome in samples:
        asked = shortened(stripped(prompt.text), _PROMPT_CHARS_MAX)
        table.add_row(plain(asked), plain(shortened(_answer(outcome), _ANSWER_CHARS_MAX)))
    if samples:
        console.print(table)


def _answer(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return f"{outcome.failure.kind}: {outcome.failure.message}"
    values = outcome.values
    if values:
        shown = ", ".join(f"{value:.4f}" for value in values[:_VALUES_SHOWN])
        return f"[{shown}, ...] {len(values)} values"
    return outcome.text


def show_failures(console: Console, failures: Sequence[tuple[DemoPrompt, Outcome]]) -> None:
    """The first few that did not come back with an answer, and why."""
    for prompt, outcome in failures[:_FAILURES_MAX]:
        console.print(Text.assemble(("failed ", "bold red"), plain(prompt.label), " ", plain(_answer(outcome))))
    if len(failures) > _FAILURES_MAX:
        console.print(f"... and {len(failures) - _FAILURES_MAX:,} more; the answers file has them all")


def show_summary(console: Console, report: Report) -> None:
    """What it came to."""
    table = Table(box=box.SIMPLE, show_header=False, title="Summary", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("prompts", f"{report.prompts:,}", f"in {report.batches:,} batch jobs")
    table.add_row("answered", f"{report.answered:,}", "all of them" if report.answered == report.prompts else "")
    if report.failed:
        table.add_row("failed", f"[red]{report.failed:,}[/]")
    table.add_row("time", f"{report.seconds:.1f} s", f"{report.prompts_per_s:,.0f} prompts/s, with the emulator's jobs")
    table.add_row("tokens", f"{report.tokens:,}", "as the emulator counts them")
    table.add_row("interactive", f"${report.interactive_usd:,.4f}", f"list prices of {DATED}, to be checked")
    table.add_row("as a batch", f"[green]${report.batch_usd:,.4f}[/]", "half of it")
    console.print(table)
    console.print(Text.assemble(("EMULATED", "bold black on yellow"), " answers: ", report.out), soft_wrap=True)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints. ``seconds`` is from the first prompt submitted to the last outcome."""

    prompts: int
    answered: int
    failed: int
    batches: int
    seconds: float
    prompts_per_s: float
    tokens: int
    interactive_usd: float
    batch_usd: float
    emulated: bool
    out: str
