"""``gemqueue work``: its options."""

from __future__ import annotations

import click

from gemqueue.states import Step
from gemqueue_workers.exits import run_main
from gemqueue_workers.options import emulate_option


@click.command()
@click.argument("roles", nargs=-1, type=click.Choice([str(step) for step in Step]))
@emulate_option
@click.option("--log-json", is_flag=True, help="Log one JSON object per event (also log_json).")
@click.option("-v", "--verbose", is_flag=True, help="Also show arq's own messages.")
@click.option("--companion", is_flag=True, hidden=True)  # as the embedded default starts it: without arq
def work(roles: tuple[str, ...], *, emulate: bool | None, log_json: bool, verbose: bool, companion: bool) -> None:
    """Run workers: all roles, or only those you name.

    \b
      gemqueue work                 everything
      gemqueue work pack submit     only these; run the others elsewhere
      gemqueue work --emulate       for the emulator at GOOGLE_GEMINI_BASE_URL

    Run as many as you need, on as many hosts as you like. Workers need GOOGLE_API_KEY or GEMINI_API_KEY. A process
    that only submits needs no key if GEMQUEUE_ACCOUNT is the same everywhere.

    SIGTERM, SIGINT or SIGHUP lets running steps finish, then the worker exits with 0.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    from gemqueue_workers import work as module  # noqa: PLC0415 - help needs neither arq nor the stages

    chosen = tuple(dict.fromkeys(Step(role) for role in roles)) or tuple(Step)
    run_main(module.start(chosen, emulate=emulate, log_json=log_json, verbose=verbose, companion=companion))
