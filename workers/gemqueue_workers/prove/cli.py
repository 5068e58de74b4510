"""``gemqueue prove``: its options, its question, its table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gemqueue.errors import ConfigError
from gemqueue_workers.exits import Exit, run_main

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue_workers.prove.opening import Options
    from gemqueue_workers.prove.report import Report

_STYLE = {"held": "green", "did not hold": "bold red", "not seen": "yellow"}
_ROWS_MAX = 10_000


@click.command()
@click.option("--live", is_flag=True, help="Ask the real service, for money; without it an emulator.")
@click.option("--budget-usd", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Never spends more.")
@click.option("-m", "--model", default="gemini-3.5-flash-lite", show_default=True, help="Who is asked.")
@click.option("--rows", type=click.IntRange(2, _ROWS_MAX), default=50, show_default=True, help="Of the plain job.")
@click.option(
    "-o",
    "--report",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gemqueue-prove"),
    show_default=True,
    help="REPORT.md, REPORT.json; beside them the state of the run.",
)
@click.option("--wait-s", type=click.FloatRange(min=0), default=7200.0, show_default=True, help="For jobs.")
@click.option("--other-key-env", metavar="NAME", default="", help="The variable that holds another project's key.")
@click.option("--base-url", metavar="URL", default="", help="An emulator that runs already, or with --live a proxy.")
@click.option("--only", metavar="NAME", multiple=True, help="Only this assumption; may be repeated.")
@click.option("--clean", is_flag=True, help="Cancel and delete all that the run has at the provider; forget it.")
@click.option("-y", "--yes", is_flag=True, help="Spend it without asking.")
@click.option("--json", "as_json", is_flag=True, help="The report on standard output, the rest on standard error.")
def prove(*, yes: bool, clean: bool, as_json: bool, **given: Any) -> None:
    """Put what gemqueue takes for granted of the provider to the provider, and write a report.

    \b
      gemqueue prove                         against an emulator of its own
      gemqueue prove --live --budget-usd 1   says what it may cost, and asks
      gemqueue prove --live --only A-refused --only found-again
      gemqueue prove --live --clean          leave nothing at the provider

    It may be stopped at any moment, by kill -9 too: the same command goes on, and buys nothing again. Exit 0 says that
    everything was asked, and nothing failed that gemqueue rests on; 1 that something did, or is still to be asked.
    """  # noqa: D301
    from gemqueue_workers.prove import command  # noqa: PLC0415 - other commands need none of it
    from gemqueue_workers.prove.assumptions import BY_NAME  # noqa: PLC0415 - as above
    from gemqueue_workers.prove.opening import Options  # noqa: PLC0415 - as above
    from gemqueue_workers.screen import make_console, plain  # noqa: PLC0415

    options = Options(**given)
    unknown = [name for name in options.only if name not in BY_NAME]
    if unknown:
        raise Exit(f"--only {unknown[0]}: no assumption is called so; there are {', '.join(BY_NAME)}")
    console = make_console(stderr=as_json)

    def say(line: str) -> None:
        console.print(plain(line), soft_wrap=True)

    if clean:
        run_main(command.forget(options, say=say))
        say("Nothing of the run is left.")
        return
    report = run_main(command.prove(options, say=say, agree=lambda usd: _agree(console, options, usd, yes=yes)))
    _show(console, report, options)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    sys.exit(0 if report.sound else 1)


def _agree(console: Console, options: Options, usd: float, *, yes: bool) -> None:
    slots = ", ".join(f"{slot} ({trial.rows:,})" for slot, trial in options.trials.items())
    console.print(f"{len(options.chosen)} assumptions; jobs (rows): {slots}", soft_wrap=True)
    if not options.live:
        console.print(f"Against an emulator: nothing is bought. The service would cost at most ${usd:.4f}.")
        return
    console.print(f"With {options.model} it costs at most ${usd:.4f}; the budget is ${options.budget_usd:.2f}.")
    if usd and not yes:
        if not sys.stdin.isatty():
            raise ConfigError("it spends money: say --yes")
        if not click.confirm("Go on?", err=True):
            raise ConfigError("nothing was bought")


def _show(console: Console, report: Report, options: Options) -> None:
    from rich.text import Text  # noqa: PLC0415 - as above

    for line in report.assumptions:
        console.print(
            Text.assemble((f"{line.verdict:<13}", _STYLE[line.verdict]), f"{line.name:<21}", line.said), soft_wrap=True
        )
    counts = ", ".join(f"{n} {verdict}" for verdict, n in report.counts.items())
    more = "" if report.complete else "; not complete: the same command goes on"
    console.print(f"{counts}; {report.jobs} jobs, spent ${report.spent_usd:.4f}{more}", soft_wrap=True)
    console.print(f"The report: {options.file('.md')}, {options.file('.json')}", soft_wrap=True)


COMMANDS = (prove,)
