"""The command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gemqueue.config import data_dir, load_settings
from gemqueue.embedded import acquire
from gemqueue.errors import GemqueueError
from gemqueue.states import Step
from gemqueue_adapters.emulator import Options, run

from gemqueue_workers.logs import set_up_logs
from gemqueue_workers.settings import ROLES
from gemqueue_workers.work import work as run_work

if TYPE_CHECKING:
    from collections.abc import Coroutine


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run the command on uvloop where there is one; a gemqueue error is a message and exit 2, never a traceback."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)
    except GemqueueError as error:
        click.echo(f"gemqueue: {error}", err=True)
        sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gemqueue")
def main() -> None:
    """Single prompts in, Gemini Batch API jobs out, answers back: durable, at half the price."""


@main.command()
@click.argument("roles", nargs=-1, type=click.Choice([str(step) for step in Step]))
@click.option("--emulate", is_flag=True, default=None, help="Work for an emulator (GOOGLE_GEMINI_BASE_URL), never for real.")
@click.option("--log-json", is_flag=True, help="One JSON object per event.")
@click.option("-v", "--verbose", is_flag=True, help="Also arq's own messages.")
def work(roles: tuple[str, ...], *, emulate: bool | None, log_json: bool, verbose: bool) -> None:
    """Run workers: all roles, or the named ones. SIGTERM lets running steps end."""
    set_up_logs(json=log_json, verbose=verbose)
    chosen = tuple(dict.fromkeys(Step(role) for role in roles)) or ROLES
    _run(_work(emulate, chosen))


async def _work(emulate: bool | None, roles: tuple[Step, ...]) -> None:
    settings = load_settings(emulate=emulate)
    if settings.redis_url:
        await run_work(settings, roles)
        return
    server = await acquire(data_dir(settings))
    try:
        await run_work(msgspec.structs.replace(settings, redis_url=server.url), roles)
    finally:
        await server.release()


@main.command()
@click.option("--port", type=int, default=0, help="0 chooses a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Where everything is kept; default: a temporary folder.")
@click.option("--seed", type=int, default=0)
@click.option("--job-s", type=float, default=1.0, help="How long a job takes.")
@click.option("--tier", type=click.Choice(["none", "1", "2", "3"]), default="none", help="Quotas to enforce.")
@click.option("--answers", type=click.Choice(["full", "echo"]), default="full")
@click.option("--faults", type=click.Path(exists=True, path_type=Path), help="A fault script (JSON).")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Gets url and pid when requests are accepted.")
def emulate(**options: Any) -> None:
    """Run the emulator of the Gemini Batch API on 127.0.0.1."""
    run(Options(**options))




if __name__ == "__main__":
    main()
