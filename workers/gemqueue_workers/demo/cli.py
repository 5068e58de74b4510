"""``gemqueue demo``: its options."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gemqueue_workers.exits import need_extra, run_main
from gemqueue_workers.options import print_json


@click.command()
@click.option(
    "--prompts",
    "prompts_count",
    type=click.IntRange(1, 1_000_000),
    default=2_000,
    show_default=True,
    help="How many.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, the rest on standard error.")
@click.option("--keep", is_flag=True, help="Keep the server's data, to look at it afterwards.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to put the answers.  [default: a new file]"
)
def demo(*, prompts_count: int, as_json: bool, keep: bool, out: Path | None) -> None:
    """See the whole thing work on real text, without a key.

    Asks about the docstrings of Python's standard library. It starts a server, a worker and an emulator of its own,
    and stops them at the end.

    \b
      gemqueue demo
      gemqueue demo --prompts 2000 --json
      gemqueue demo --keep --out answers.jsonl

    \b
    Exit 0: every prompt was answered.
         1: some were not.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    need_extra("emulator", "`gemqueue demo`")
    from gemqueue_workers.demo import command as module  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    report = run_main(module.run_demo(make_console(stderr=as_json), prompts_count, keep=keep, out=out))
    if as_json:
        print_json(report)
    sys.exit(0 if report.answered == report.prompts else 1)
