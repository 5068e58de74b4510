"""``gemqueue prove``: its options, its question, its table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemqueue.errors import ConfigError
from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.options import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue_workers.prove.opening import Options
    from gemqueue_workers.prove.report import Report

_STYLE = {"held": "green", "did not hold": "bold red", "not seen": "yellow"}
_ROWS_MAX = 10_000


@click.command()
@click.option("--live", is_flag=True, help="Ask the real service, for money, and not an emulator.")
@click.option("--budget-usd", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Never spend more.")
@click.option("-m", "--model", default="gemini-3.5-flash-lite", show_default=True, help="The model.")
@click.option("--rows", type=click.IntRange(2, _ROWS_MAX), default=50, show_default=True, help="Rows of the plain job.")
@click.option(
    "-o",
    "--report",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gemqueue-prove"),
    show_default=True,
    help="Writes FILE.md, FILE.json and the state of the run.",
)
@click.option("--wait-s", type=click.FloatRange(min=0), default=7200.0, show_default=True, help="How long to wait.")
@click.option("--other-key-env", metavar="NAME", default="", help="The variable with the key of another project.")
@click.option("--base-url", metavar="URL", default="", help="A running emulator, or with --live a proxy.")
@click.option("--only", metavar="NAME", multiple=True, help="Test only this assumption; may be repeated.")
@click.option("--clean", is_flag=True, help="Cancel and delete all that the run left at the provider.")
@click.option("-y", "--yes", is_flag=True, help="Spend the money without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, the rest on standard error.")
def prove(*, yes: bool, clean: bool, as_json: bool, **given: Any) -> None:
    """Test what gemqueue assumes of the provider, and write a report.

    \b
      gemqueue prove                          against its own emulator
      gemqueue prove --live --budget-usd 1    shows the cost, then asks
      gemqueue prove --live --only A-refused --only found-again
      gemqueue prove --live --clean           leaves nothing at the provider

    You can stop it at any moment, also with kill -9. The same command goes on, and buys nothing again.

    \b
    Exit 0: everything was tested, and what gemqueue relies on held.
         1: something did not hold, or is still to be tested.
         2: a setting, an option or the service was wrong.
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
        print_json(report)
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
