"""``gemqueue run``: its options, its messages, its exits."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from gemqueue.config import load_settings
from gemqueue.errors import ConfigError
from gemqueue.records import BATCH
from gemqueue.states import Kind
from gemqueue_workers.model_notes import of_answers
from gemqueue_workers.run.options import STDIO, RunOptions, absolute, deadline_of, named
from gemqueue_workers.run.source.opening import is_stream
from gemqueue_workers.run.source.templates import check_template
from gemqueue_workers.run.writing import OutError, OutFullError, is_plain
from gemqueue_workers.screen import shortened, stripped

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from gemqueue_workers.run.progress import Outcome
    from gemqueue_workers.run.source.rows import BadLine

BUY_AGAIN: Final = "--buy-again"
_BAD_SHOWN: Final = 20
_BAD_CHARS: Final = 80


class BadLines:
    """Bad lines, as a person is told of them: the first few, and how many more."""

    def __init__(self, console: Console) -> None:
        self.found = 0
        self._console = console

    def __call__(self, bad: BadLine) -> None:
        """One more."""
        self.found += 1
        if self.found <= _BAD_SHOWN:
            text = shortened(stripped(bad.text), _BAD_CHARS)
            self._console.print(f"line {bad.line}: {stripped(bad.reason)}: {text}", style="yellow", markup=False)
        elif self.found == _BAD_SHOWN + 1:
            self._console.print("further bad lines are only counted", style="yellow")


_TEXTS: Final = ("name", "config_mode", "form", "column", "template", "key", "deadline")


def options_from(given: dict[str, Any]) -> RunOptions:
    """The options of a run as they were typed. Raises ConfigError."""
    source = absolute(STDIO if is_stream(given["source"]) else given["source"])
    out = absolute(given["out"] or STDIO)
    config = _config(given["config"]) if given["config"] is not None else None
    texts = {
        name: given[name] or "" for name in ("name", "config_mode", "form", "column", "template", "key", "deadline")
    }
    if source != STDIO and source in {out, absolute(given["failed"] or STDIO)}:
        raise ConfigError("IN and OUT are the same file")
    if given["embed"] and given["text"]:
        raise ConfigError("--text has no meaning for embeddings")
    if given["column"] and given["template"]:
        raise ConfigError("--column and --template are two ways to the same: leave one out")
    if given["template"]:
        check_template(given["template"])
    deadline_of(texts["deadline"])
    if not given["model"]:
        raise ConfigError("--model is missing, for example --model gemini-3.8-flash")
    return named(
        RunOptions(
            source=source,
            out=out,
            model=given["model"],
            kind=Kind.EMBED if given["embed"] else Kind.GENERATE,
            config=config,
            text=given["text"],
            failed=absolute(given["failed"]) if given["failed"] else "",
            order=given["order"],
            dedupe_first=given["dedupe"] == "first",
            **texts,
        )
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former
        raise ConfigError(f"--config {path} is no JSON object: {error}") from error


async def run(
    options: RunOptions,
    source: str,
    *,
    emulate: bool | None,
    console: Console,
    quiet: bool,
    buy_again: bool = False,
    as_json: bool = False,
) -> Outcome:
    """Run it and show it. Raises GemqueueError."""
    from gemqueue_workers.run.progress import Progress  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.run.runner import Runner  # noqa: PLC0415

    _cancel_on_sigterm()
    settings = load_settings(emulate=emulate)
    runner = Runner(options, settings, BadLines(console), source=source, buy_again=buy_again)
    try:
        return await runner.run(Progress(console, runner.encoder.model, quiet=quiet))
    except asyncio.CancelledError:
        show_stopped(console, runner.report)
        if as_json:
            click.echo(msgspec.json.encode(runner.report).decode())
        raise
    except OutFullError as error:
        if is_plain(options.out):
            raise
        raise OutError(f"{error}, with the same command and --name {options.name} -o FILE") from error


def show_stopped(console: Console, report: Outcome) -> None:
    """How far it came, and how it goes on."""
    console.print(
        f"Stopped watching: {report.answered + report.failed:,} of {report.rows:,} rows are in {report.out}. "
        "What was submitted goes on where workers run; nothing is lost, and nothing will be bought twice.",
        soft_wrap=not console.is_terminal,
        markup=False,
    )
    if report.held:
        console.print(f"It waits: {report.held}", style="yellow", soft_wrap=True, markup=False)
    again = [
        word for word in sys.argv[1:] if word != BUY_AGAIN
    ]  # the store is the run's now: it need not be said twice
    console.print(f"Go on: {shlex.join(['gemqueue', *again])}", soft_wrap=True, markup=False)


def show_report(console: Console, report: Outcome) -> None:
    """What it came to, for a person."""
    mark = "EMULATED: " if report.emulated else ""
    money = ", no price" if report.batch_usd is None else f", ${report.batch_usd:,.4f}"
    money += "" if report.interactive_usd is None else f" (${report.interactive_usd:,.4f} one by one)"
    parts = [f"{report.answered:,} of {report.rows:,} rows answered"]
    parts += [f"{n:,} {what}" for n, what in ((report.failed, "failed"), (report.bad_lines, "bad lines")) if n]
    parts += [f"{n:,} {what}" for n, what in ((report.duplicates, "repeated rows left out"),) if n]
    parts += [f"{report.resumed:,} of them bought by an earlier start"] if report.resumed else []
    console.print(
        f"{mark}{', '.join(parts)}; {report.tokens:,} tokens{money}; {report.seconds:.1f} s. Answers: {report.out}",
        soft_wrap=not console.is_terminal,
        markup=False,
    )
    for warning in of_answers(report.model, report.answered_by):
        console.print(f"Warning: {warning}", style="yellow", soft_wrap=True, markup=False)
    if report.left_out:
        say = f"--text left out pictures, calls or other parts of {report.left_out:,} answers; without it OUT has them"
        console.print(say, style="yellow", soft_wrap=True)
    others = {service: cost for service, cost in report.services.items() if service != BATCH}
    for service, cost in others.items():
        money = (
            ", no price" if cost.usd is None else f" for ${cost.usd:,.4f}, ${cost.saved_usd:,.4f} below the full price"
        )
        console.print(f"Of these {cost.answers:,} by {service}{money}", markup=False)
    if report.failed:
        console.print(f"Ask for the failures again: gemqueue admin retry --run {report.run}", soft_wrap=True)


def finish(report: Outcome, console: Console, *, as_json: bool) -> None:
    """Print the report and exit: 0 all answered, 1 not all."""
    show_report(console, report)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    sys.exit(0 if report.complete else 1)


def _cancel_on_sigterm() -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - what runs in a loop is a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
