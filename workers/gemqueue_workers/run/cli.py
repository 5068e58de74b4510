"""``gemqueue run`` and ``gemqueue retry``: the options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gemqueue.errors import GemqueueError
from gemqueue_workers.exits import Exit, run_main

EMULATE_HELP = "Take part on the emulated account (also GEMQUEUE_EMULATE=1); never mixes with the real one."
FILE = click.Path(path_type=Path, dir_okay=False)


def _models(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The models of the price table, for the shell."""
    from gemqueue_workers.model_table import TABLE  # noqa: PLC0415 - reads a file

    return [name for name in TABLE.models if name.startswith(incomplete)]


@click.command()
@click.argument("source", metavar="IN", type=click.Path(allow_dash=True))
@click.option("-o", "--out", metavar="OUT", help="Where results are appended; - is standard output.  [default: -]")
@click.option("-m", "--model", shell_complete=_models, help="For example gemini-3.8-flash.")
@click.option("--name", metavar="RUN", help="The run's name; default: made of IN, OUT and the settings.")
@click.option("--config", type=FILE, metavar="FILE.json", help="The config of all prompts, as google-genai has it.")
@click.option(
    "--config-mode",
    type=click.Choice(["merge", "replace"]),
    help="A row's own config is laid over --config, or takes its place.  [default: as the run began; merge]",
)
@click.option("--embed", is_flag=True, help="Ask for embeddings.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "tsv", "text"]), help="Default: by IN's name.")
@click.option("--column", help="The CSV column (or JSON field) that holds the prompt.")
@click.option("--template", help='The prompt with {columns} to fill in: "Classify: {text}".')
@click.option("--key", help="The CSV column (or JSON field) that holds the key; default: key, else the line number.")
@click.option(
    "--text", is_flag=True, help='Write {"key", "text"} instead of whole responses; "left_out" names pictures.'
)
@click.option("--failed", type=FILE, metavar="FILE", help="Where failures go; default: into OUT.")
@click.option("--order", type=click.Choice(["landed", "input"]), default="landed", help="input sorts OUT at the end.")
@click.option("--dedupe", type=click.Choice(["first"]), help="Accept repeated keys: the first row of each counts.")
@click.option("--deadline", metavar="WHEN", help="When answers are wanted: 90m, 2h, or 2026-10-07T18:00+02:00.")
@click.option("--dry-run", is_flag=True, help="Say what it would come to, and buy nothing.")
@click.option("--emulate", is_flag=True, default=None, help=EMULATE_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(*, dry_run: bool, emulate: bool | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """Answer every row of the file IN, at half the price, into OUT.

    \b
      gemqueue run prompts.jsonl -o answers.jsonl --model gemini-3.8-flash
      gemqueue run mails.csv -o out.jsonl -m gemini-3.8-flash --template "Classify: {text}" --key id --text
      gemqueue run docs.txt.gz -o vectors.jsonl -m gemini-embedding-2 --embed
      gemqueue run prompts.jsonl -o answers.jsonl -m gemini-3.8-flash --dry-run

    IN is JSONL (Gemini's own {"key", "request"}, or {"prompt": ...}, or {"contents": ..., "config": ...}), CSV, or
    plain lines; .gz and .zst are unpacked, - is standard input. OUT gets Gemini's result lines under your keys.

    It may be stopped at any moment, by Ctrl-C, kill -9 or a loss of power. The same command goes on where it stopped:
    nothing is bought twice, nothing is written twice. Rows may be added to IN; rows that were bought may not change.

    Exit 0: every row is answered. 1: some are not. 2: a wrong option, file or setting, and nothing was bought.
    """  # noqa: D301
    from gemqueue_workers.run import command  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    console = make_console(stderr=True)
    try:
        options = command.options_from(given)
        if as_json and options.out == "-":
            raise Exit("--json and results cannot both have standard output: give -o OUT")
    except GemqueueError as error:
        raise Exit(str(error)) from error
    if dry_run:
        from gemqueue_workers.run import estimate  # noqa: PLC0415

        found = run_main(estimate.estimate(options, emulate=emulate, console=console))
        estimate.finish(found, console, as_json=as_json)
        return
    report = run_main(command.run(options, emulate=emulate, console=console, quiet=quiet))
    command.finish(report, console, as_json=as_json)


@click.command()
@click.option("--run", "name", required=True, metavar="RUN", help="The run, as `gemqueue run` named it.")
@click.option("--emulate", is_flag=True, default=None, help=EMULATE_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def retry(*, name: str, emulate: bool | None, as_json: bool, quiet: bool) -> None:
    """Ask again for what failed in a run, and pay for it again.

    \b
      gemqueue retry --run nightly

    The failures are taken out of OUT, and the run goes on as if they had never been asked for.
    """  # noqa: D301
    from gemqueue_workers.run import command, retry  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    console = make_console(stderr=True)
    report = run_main(retry.retry(name, emulate=emulate, console=console, quiet=quiet))
    command.finish(report, console, as_json=as_json)


COMMANDS = (run, retry)
