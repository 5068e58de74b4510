"""``gemqueue status``, ``health``, ``show``, ``cancel``, ``doctor`` and ``config``: their options."""

from __future__ import annotations

import sys
from typing import Any

import click

from gemqueue.errors import GemqueueError
from gemqueue.states import Step
from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, one_of, print_json


@click.command()
@emulate_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
def status(*, emulate: bool | None, as_json: bool, watch: bool) -> None:
    """Show what waits, what runs and what has been counted.

    It looks at GEMQUEUE_REDIS_URL, or else at your own embedded server.

    \b
      gemqueue status
      gemqueue status --watch
      gemqueue status --json | jq .counts
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    from gemqueue_workers.manage import status as module  # noqa: PLC0415 - rich is slow to import, and workers need none of it
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    if watch and not as_json:
        from gemqueue_workers.manage.watch import watch as watch_status  # noqa: PLC0415

        run_main(watch_status(make_console(stderr=False), emulate=emulate))
        return
    found = run_main(module.status(emulate=emulate))
    if as_json:
        print_json(found)
    else:
        module.show_status(make_console(stderr=False), found)


@click.command()
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([str(step) for step in Step]),
    help="A role that must be worked on; default: every role that prompts need.",
)
@click.option("--worker", metavar="ID|here", default="", help="Only this worker, or those of this host.")
@click.option(
    "--swept-within",
    "within_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="How old a good sweep may be; default: 30 s, or 6 heartbeats.",
)
@emulate_option
@json_option
def health(*, roles: tuple[str, ...], worker: str, within_s: float | None, emulate: bool | None, as_json: bool) -> None:
    """Say whether the workers work: a probe.

    \b
      gemqueue health                          somebody works for this account
      gemqueue health --worker here            the worker of this host works
      gemqueue health --role track --json      somebody tracks

    It takes a tenth of a second of CPU, and some more for rediss:// and redis+sentinel://.

    \b
    Exit 0: yes.
         1: no, and why.
         2: not known: a setting is wrong, or the server does not answer.
    """  # noqa: D301
    from gemqueue_workers.manage import health as module  # noqa: PLC0415 - as above

    wanted = module.Wanted(tuple(map(Step, roles)), worker, within_s or 0.0)
    try:
        found = module.health(wanted, emulate=emulate)
    except GemqueueError as error:
        raise Exit(str(error)) from error
    if as_json:
        print_json(found)
    else:
        click.echo(found.said)
    sys.exit(0 if found.healthy else 1)


@click.command()
@click.argument("what", metavar="KEY|NAME|BATCH|RUN|RUN/KEY")
@emulate_option
@json_option
def show(what: str, *, emulate: bool | None, as_json: bool) -> None:
    """Show all that is known of a prompt, a batch or a run.

    \b
      gemqueue show 00c0ffee00c0ffee00c0ff.17
      gemqueue show doc-42
      gemqueue show nightly/doc-42
      gemqueue show 00b97c58734f6bc71100f1d --json

    Exit 2: nothing of that name is known.
    """  # noqa: D301
    from gemqueue_workers.manage import show as module  # noqa: PLC0415 - as above
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    fields = run_main(with_link(emulate, lambda link: module.show(link, what), look=True))
    if as_json:
        print_json(fields)
    else:
        module.show_fields(make_console(stderr=False), fields)


@click.command()
@click.argument("what", required=False, metavar="KEY|NAME|BATCH")
@click.option("--run", "run", metavar="RUN", help="Cancel all prompts of a run that have no outcome yet.")
@emulate_option
@json_option
def cancel(what: str | None, run: str | None, *, emulate: bool | None, as_json: bool) -> None:
    """Cancel prompts, for everybody who waits for them.

    \b
      gemqueue cancel doc-42
      gemqueue cancel --run nightly

    Prompts that are at the provider already may still be charged.

    Exit 2: nothing of that name is known.
    """  # noqa: D301
    from gemqueue_workers.manage import cancel as module  # noqa: PLC0415 - as above

    word, name = one_of(what, run, "KEY|NAME|BATCH")
    found = run_main(with_link(emulate, lambda link: module.cancel(link, word, name)))
    if as_json:
        print_json(found)
        return
    where = ", ".join(f"{n:,} {place}" for place, n in found.where.items())
    click.echo(f"{found.cancelled:,} cancelled{f' ({where})' if where else ''}, {found.too_late:,} had their outcome")


@click.command()
@click.option("--live", is_flag=True, help="Also ask the provider about two assumptions; buys one prompt.")
@click.option("-m", "--model", default="gemini-3.5-flash-lite", show_default=True, help="Its model.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="How many seconds to wait for its job.",
)
@click.option("--job", metavar="JOB", default="", help="With --live: a job that an earlier try left running.")
@click.option("-y", "--yes", is_flag=True, help="Buy the prompt without asking.")
@emulate_option
@json_option
def doctor(*, live: bool, model: str, wait_s: float, job: str, yes: bool, emulate: bool | None, as_json: bool) -> None:
    """Look for problems: settings, account, server, workers, clock.

    \b
      gemqueue doctor
      gemqueue doctor --live --yes

    With --live it also asks the provider about the two facts that exactly-once rests on: a create that names a
    deleted file is refused, and an accepted job survives the deletion of its input. That takes as long as a batch job.

    \b
    Exit 0: all is well.
         1: there are warnings.
         2: something is broken.
    """  # noqa: D301
    from gemqueue_workers.manage import doctor as module  # noqa: PLC0415 - as above
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    if live and not job and not yes:
        _confirm(model)
    findings = run_main(module.examine(emulate=emulate))
    if live:
        from gemqueue_workers.manage.live import examine_live  # noqa: PLC0415

        findings += run_main(examine_live(model, emulate=emulate, wait_s_max=wait_s, job=job))
    if as_json:
        print_json(findings)
    else:
        module.show_findings(make_console(stderr=False), findings)
    states = {finding.state for finding in findings}
    sys.exit(2 if "failed" in states else 1 if "warning" in states else 0)


def _confirm(model: str) -> None:
    if not sys.stdin.isatty():
        raise Exit(f"--live buys one prompt of {model}: say --yes")
    click.confirm(f"This buys one prompt of {model}. Go on?", abort=True, err=True)


@click.command()
@json_option
def config(*, as_json: bool) -> None:
    """Show the settings in force and where each comes from. Secrets are hidden.

    \b
      gemqueue config
      gemqueue config --json | jq 'map(select(.source != "default"))'

    The ten settings that people set come first.

    Exit 2: a setting is wrong.
    """  # noqa: D301
    from gemqueue_workers.manage import config as module  # noqa: PLC0415 - as above
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    async def read() -> Any:
        return module.effective()

    values = run_main(read())
    if as_json:
        print_json(values)
    else:
        module.show_config(make_console(stderr=False), values)
