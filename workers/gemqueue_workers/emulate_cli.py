"""``gemqueue emulate``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gemqueue.variables import secret_from_env
from gemqueue_workers.exits import Exit, need_extra
from gemqueue_workers.worker.memory import imported


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0 chooses a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Where to keep it all.  [default: a temporary folder]")
@click.option("--seed", type=int, default=0, show_default=True, help="Answers depend on the request and on this alone.")
@click.option("--job-s", type=click.FloatRange(min=0), default=1.0, show_default=True, help="How long a job takes.")
@click.option("--tier", type=click.Choice(["none", "1", "2", "3"]), default="none", help="Which quotas to enforce.")
@click.option("--answers", type=click.Choice(["full", "echo"]), default="full", help="echo costs next to nothing.")
@click.option("--reroute", multiple=True, metavar="ASKED=ANSWERING", help="Another model answers; may be repeated.")
@click.option("--faults", type=click.Path(exists=True, path_type=Path), help="A fault script (JSON).")
@click.option("--lie", "lies", multiple=True, metavar="WORDS", help="'route=get kind=back ...'; may be repeated.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Gets url and pid once requests are accepted.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need a token.")
@click.option("--token", help="The bearer token that /_emulator asks for; also GEMINI_EMULATOR_TOKEN(_FILE).")
@click.option("--webhooks-anywhere", is_flag=True, help="Deliver webhooks to other hosts, too.")
@click.option("--storage-max-bytes", type=click.IntRange(min=0), help="What a project may store; 20 GB in a tier.")
def emulate(**options: Any) -> None:
    """Run an emulator of the Gemini Batch API.

    It listens on this machine only, until Ctrl-C or SIGTERM. Any client works that can be given another address,
    Google's own clients included.

    \b
      gemqueue emulate --port 8399
      gemqueue emulate --job-s 60 --tier 1
      gemqueue emulate --lie 'route=get kind=no_output_yet for_s=60'

    Exit 0: it was stopped. 2: it could not start.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    need_extra("emulator", "`gemqueue emulate`")
    from gemqueue_adapters.emulator import Options  # noqa: PLC0415 - starlette and uvicorn are slow to import
    from gemqueue_workers.emulate import run_emulator  # noqa: PLC0415

    imported()
    token = secret_from_env("GEMINI_EMULATOR_TOKEN")
    options["token"] = options["token"] or token or None
    try:
        run_emulator(Options(**options))
    except (OSError, ValueError) as error:
        raise Exit(f"the emulator does not start: {error}") from error
