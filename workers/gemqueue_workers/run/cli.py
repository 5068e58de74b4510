"""``gemqueue run`` and ``gemqueue admin retry``: their options."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from gemqueue.errors import GemqueueError
from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.options import emulate_option

FILE = click.Path(path_type=Path, dir_okay=False)


def _models(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The models of the price table, for the shell."""
    from gemqueue_workers.model_table import TABLE  # noqa: PLC0415 - reads a file

    return [name for name in TABLE.models if name.startswith(incomplete)]


@click.command()
@click.argument("source", metavar="IN", type=click.Path(allow_dash=True))
@click.option("-o", "--out", metavar="OUT", help="Append results to it; - is standard output.  [default: -]")
@click.option("-m", "--model", shell_complete=_models, help="The model, such as gemini-3.8-flash.")
@click.option("--name", metavar="RUN", help="The run's name.  [default: made from IN, OUT and the settings]")
@click.option("--config", type=FILE, metavar="FILE.json", help="The config of all prompts, as google-genai takes it.")
@click.option(
    "--config-mode",
    type=click.Choice(["merge", "replace"]),
    help="Lay a row's own config over --config, or replace it.  [default: as the run began; merge]",
)
@click.option("--embed", is_flag=True, help="Ask for embeddings.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "tsv", "text"]),
    help="The format of IN.  [default: by its name]",
)
@click.option("--column", help="The CSV column (or JSON field) that holds the prompt.")
@click.option("--template", help='The prompt with {columns} to fill in: "Classify: {text}".')
@click.option("--key", help="The CSV column (or JSON field) that holds the key.  [default: key, or the line number]")
@click.option("--text", is_flag=True, help='Write {"key", "text"}, not whole responses; "left_out" names pictures.')
@click.option("--failed", type=FILE, metavar="FILE", help="Write failures here.  [default: into OUT]")
@click.option("--order", type=click.Choice(["landed", "input"]), default="landed", help="input sorts OUT at the end.")
@click.option("--dedupe", type=click.Choice(["first"]), help="Accept repeated keys: the first row of each counts.")
@click.option("--deadline", metavar="WHEN", help="When you want the answers: 90m, 2h or 2026-10-07T18:00+02:00.")
@click.option("--buy-again", is_flag=True, help="Also buy what a store has forgotten that another start began.")
@click.option("--dry-run", is_flag=True, help="Show prompts, tokens, batches and cost; buy nothing.")
@emulate_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def run(*, buy_again: bool, dry_run: bool, emulate: bool | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """Answer every row of the file IN, at half the price, into the file OUT.

    \b
      gemqueue run prompts.jsonl -o answers.jsonl -m gemini-3.8-flash
      gemqueue run prompts.jsonl -o answers.jsonl -m gemini-3.8-flash --dry-run
      gemqueue run mails.csv -o labels.jsonl -m gemini-3.8-flash \\
        --template "Classify: {text}" --key id --text
      gemqueue run docs.txt.gz -o vectors.jsonl -m gemini-embedding-2 --embed

    IN is JSONL, CSV or plain lines, packed (gzip, zstd, bzip2, xz) or not; - is standard input, and a pipe will do.
    A row of JSONL is Gemini's own {"key", "request"}, or {"prompt": ...}, or {"contents": ..., "config": ...}; the
    key may be called custom_id or id. OUT gets Gemini's result lines under your keys.

    You can stop it at any moment, with Ctrl-C, kill -9 or a power cut. The same command goes on where it stopped;
    nothing is bought twice or written twice. You may add rows to IN. Rows that were bought must stay as they are.
    On another Redis, queue or data folder, or one that has forgotten the run, it buys nothing again unless you say
    --buy-again.

    \b
    Exit 0: every row is answered.
         1: some are not.
         2: an option, a file or a setting was wrong, and nothing was bought.
    """  # noqa: D301
    from gemqueue_workers.run import command  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.run.source.opening import readable_twice  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    console = make_console(stderr=True)
    try:
        options = command.options_from(given)
        if as_json and options.out == "-":
            raise Exit("--json and results cannot both have standard output: give -o OUT")
    except GemqueueError as error:
        raise Exit(str(error)) from error
    with ExitStack() as stack:
        try:
            read = readable_twice(given["source"] if options.source == "-" else options.source, stack)
        except GemqueueError as error:
            raise Exit(str(error)) from error
        if dry_run:
            from gemqueue_workers.run import estimate  # noqa: PLC0415

            found = run_main(estimate.estimate(options, read, emulate=emulate, console=console))
            estimate.finish(found, console, as_json=as_json)
            return
        report = run_main(
            command.run(
                options, read, emulate=emulate, console=console, quiet=quiet, buy_again=buy_again, as_json=as_json
            )
        )
        command.finish(report, console, as_json=as_json)


@click.command()
@click.option("--run", "name", required=True, metavar="RUN", help="The run's name; `gemqueue run` printed it.")
@emulate_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def retry(*, name: str, emulate: bool | None, as_json: bool, quiet: bool) -> None:
    """Ask again for what failed in a run, and pay for it again.

    \b
      gemqueue admin retry --run nightly

    The failures are taken out of OUT, and the run goes on as if they had never been asked for.

    \b
    Exit 0: every row is answered.
         1: some are not.
         2: an option, a file or a setting was wrong, and nothing was bought.
    """  # noqa: D301
    from gemqueue_workers.run import command  # noqa: PLC0415 - as above
    from gemqueue_workers.run import retry as module  # noqa: PLC0415 - as above
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    console = make_console(stderr=True)
    report = run_main(module.retry(name, emulate=emulate, console=console, quiet=quiet, as_json=as_json))
    command.finish(report, console, as_json=as_json)
