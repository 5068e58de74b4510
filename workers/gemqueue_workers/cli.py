"""The command line: options and exits; what a command does is in its own module.

Standard output belongs to results, standard error to people and logs. Exit 0 is done, 1 done but not with everything
answered, 2 not done because of a setting, an option or a server; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from gemqueue.states import Step
from gemqueue_workers.exits import DEBUG_ENV, Exit, Program, run_main
from gemqueue_workers.manage.cli import COMMANDS as MANAGE_COMMANDS
from gemqueue_workers.prove.cli import COMMANDS as PROVE_COMMANDS
from gemqueue_workers.run.cli import COMMANDS as RUN_COMMANDS
from gemqueue_workers.serve.cli import COMMANDS as SERVE_COMMANDS
from gemqueue_workers.worker.memory import imported

_EMULATE_HELP = "Take part on the emulated account (also GEMQUEUE_EMULATE=1); never mixes with the real one."


def _print_json(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode())


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gemqueue", prog_name="gemqueue")
@click.option("--debug", is_flag=True, help="Show tracebacks (also GEMQUEUE_DEBUG=1).")
def main(*, debug: bool) -> None:
    """Single prompts in, Gemini Batch API jobs out, answers back: durable, at half the price.

    \b
    Try it, without a key, a server or a bill:
      gemqueue demo
    A file in, a file out, resumable at any moment:
      gemqueue run prompts.jsonl -o answers.jsonl --model gemini-3.8-flash
    Run it:
      export GEMQUEUE_REDIS_URL=redis://localhost:6379 GEMINI_API_KEY=...
      gemqueue work               in a process of its own, or several, anywhere
      gemqueue status             what waits, what is under way, what has been counted

    Without GEMQUEUE_REDIS_URL everything runs on a server of your own that gemqueue starts and stops by itself. Every
    setting is also an environment variable: config/gemqueue.toml lists them.

    \b
    Completion for your shell (bash, zsh, fish):
      eval "$(_GEMQUEUE_COMPLETE=bash_source gemqueue)"
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    if debug:
        os.environ[DEBUG_ENV] = "1"


@main.command()
@click.argument("roles", nargs=-1, type=click.Choice([str(step) for step in Step]))
@click.option("--emulate", is_flag=True, default=None, help=_EMULATE_HELP)
@click.option("--log-json", is_flag=True, help="One JSON object per event.")
@click.option("-v", "--verbose", is_flag=True, help="Also arq's own messages.")
def work(roles: tuple[str, ...], *, emulate: bool | None, log_json: bool, verbose: bool) -> None:
    """Run workers: all roles, or the named ones. SIGTERM lets running steps end.

    \b
      gemqueue work                       everything
      gemqueue work pack submit           only these; run the others elsewhere
      gemqueue work --emulate             for the emulator at GOOGLE_GEMINI_BASE_URL, never for real

    Any number may run, on any number of hosts. They need GOOGLE_API_KEY or GEMINI_API_KEY; a process that only
    submits needs no key if GEMQUEUE_ACCOUNT is the same for all.
    """  # noqa: D301
    from gemqueue_workers import work as module  # noqa: PLC0415 - other commands need neither arq nor the stages
    from gemqueue_workers.logs import set_up_logs  # noqa: PLC0415

    set_up_logs(json=log_json, verbose=verbose)
    chosen = tuple(dict.fromkeys(Step(role) for role in roles)) or tuple(Step)
    run_main(module.start(chosen, emulate=emulate))


@main.command()
@click.option("--emulate", is_flag=True, default=None, help=_EMULATE_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
def status(*, emulate: bool | None, as_json: bool, watch: bool) -> None:
    """Say what waits, runs and has been counted.

    Looks at GEMQUEUE_REDIS_URL, else at the embedded server of this user.

    \b
      gemqueue status
      gemqueue status --json | jq .counts
      gemqueue status --watch
    """  # noqa: D301
    from gemqueue_workers.manage import status as module  # noqa: PLC0415 - rich is slow to import, and workers need none of it
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    if watch and not as_json:
        from gemqueue_workers.manage.watch import watch as watch_status  # noqa: PLC0415

        run_main(watch_status(make_console(stderr=False), emulate=emulate))
        return
    found = run_main(module.status(emulate=emulate))
    if as_json:
        _print_json(found)
    else:
        module.show_status(make_console(stderr=False), found)


@main.command()
@click.option("--prompts", "prompts_count", type=click.IntRange(1, 1_000_000), default=2_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, the rest on standard error.")
@click.option("--keep", is_flag=True, help="Keep the server's data, to look at it afterwards.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the answers go; default: a new file."
)
def demo(*, prompts_count: int, as_json: bool, keep: bool, out: Path | None) -> None:
    """Show the whole thing on real text, without a key.

    Asks about the docstrings of Python's standard library. Server, worker and emulator are its own, and stop with it.
    Exits with 0 when every prompt was answered, else with 1.

    \b
      gemqueue demo
      gemqueue demo --prompts 2000 --json
      gemqueue demo --keep --out answers.jsonl
    """  # noqa: D301
    from gemqueue_workers.demo import command as module  # noqa: PLC0415 - as in status
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    report = run_main(module.run_demo(make_console(stderr=as_json), prompts_count, keep=keep, out=out))
    if as_json:
        _print_json(report)
    sys.exit(0 if report.answered == report.prompts else 1)


@main.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0 chooses a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Where everything is kept; default: a temporary folder.")
@click.option("--seed", type=int, default=0, help="Answers and shuffles depend on the request and on this alone.")
@click.option("--job-s", type=click.FloatRange(min=0), default=1.0, show_default=True, help="How long a job takes.")
@click.option("--tier", type=click.Choice(["none", "1", "2", "3"]), default="none", help="Quotas to enforce.")
@click.option("--answers", type=click.Choice(["full", "echo"]), default="full", help="echo costs next to nothing.")
@click.option("--reroute", multiple=True, metavar="ASKED=ANSWERING", help="The other model answers; may be repeated.")
@click.option("--faults", type=click.Path(exists=True, path_type=Path), help="A fault script (JSON).")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Gets url and pid when requests are accepted.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any address but loopback needs a token.")
@click.option("--token", envvar="GEMINI_EMULATOR_TOKEN", help="What /_emulator asks for, as a bearer token.")
@click.option("--webhooks-anywhere", is_flag=True, help="Deliver webhooks to other hosts than this one, too.")
@click.option("--storage-max-bytes", type=click.IntRange(min=0), help="What a project may store; 20 GB in a tier.")
def emulate(**options: Any) -> None:
    """Run an emulator of the Gemini Batch API.

    It listens on this machine alone until Ctrl-C or SIGTERM. Any client will do that can be given another address,
    Google's own included.

    \b
      gemqueue emulate --port 8399
      gemqueue emulate --job-s 60 --tier 1
    """  # noqa: D301
    from gemqueue_adapters.emulator import Options  # noqa: PLC0415 - starlette and uvicorn are slow to import
    from gemqueue_workers.emulate import run_emulator  # noqa: PLC0415

    imported()
    try:
        run_emulator(Options(**options))
    except (OSError, ValueError) as error:
        raise Exit(f"the emulator does not start: {error}") from error


for command in (*RUN_COMMANDS, *MANAGE_COMMANDS, *SERVE_COMMANDS, *PROVE_COMMANDS):
    main.add_command(command)

if __name__ == "__main__":  # as it was started before there was another place for it
    main()
