"""The commands that look after a queue: their options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gemqueue.config import load_settings
from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.run.cli import EMULATE_HELP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue_workers.run.connection import Link

_emulate = click.option("--emulate", is_flag=True, default=None, help=EMULATE_HELP)
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


async def _with_link(emulate: bool | None, work: Callable[[Link], Awaitable[Any]], *, look: bool = False) -> Any:
    from gemqueue_workers.run.connection import connected  # noqa: PLC0415 - imports what only some commands need

    async with connected(load_settings(emulate=emulate), with_worker=False, look=look) as link:
        return await work(link)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode())


@click.command()
@_emulate
@_json
def batches(*, emulate: bool | None, as_json: bool) -> None:
    """List the open batches: their state here and at the provider, and what holds them.

    \b
      gemqueue batches
      gemqueue batches --json | jq '.[].job'
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    from gemqueue_workers.manage import show  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    lines = run_main(_with_link(emulate, show.batches, look=True))
    if as_json:
        _print_json(lines)
    else:
        show.show_batches(make_console(stderr=False), lines)


@click.command()
@click.argument("what", metavar="KEY|NAME|BATCH|RUN|RUN/KEY")
@_emulate
@_json
def show(what: str, *, emulate: bool | None, as_json: bool) -> None:
    """Show all that is known of a prompt, a batch or a run.

    \b
      gemqueue show 00c0ffee00c0ffee00c0ff.17
      gemqueue show doc-42
      gemqueue show nightly/doc-42
      gemqueue show 00b97c58734f6bc71100f1d --json
    """  # noqa: D301
    from gemqueue_workers.manage import show  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    fields = run_main(_with_link(emulate, lambda link: show.show(link, what), look=True))
    if as_json:
        _print_json(fields)
    else:
        show.show_fields(make_console(stderr=False), fields)


@click.command()
@click.argument("what", required=False, metavar="KEY|NAME|BATCH")
@click.option("--run", "run", metavar="RUN", help="All prompts of a run that have no outcome yet.")
@_emulate
@_json
def cancel(what: str | None, run: str | None, *, emulate: bool | None, as_json: bool) -> None:
    """Give prompts up, for everybody who waits for them; what is at the provider already may still be charged.

    \b
      gemqueue cancel doc-42
      gemqueue cancel --run nightly
    """  # noqa: D301
    from gemqueue_workers.manage import cancel  # noqa: PLC0415

    word, name = _one_of(what, run, "KEY|NAME|BATCH")
    found = run_main(_with_link(emulate, lambda link: cancel.cancel(link, word, name)))
    if as_json:
        _print_json(found)
        return
    where = ", ".join(f"{n:,} {place}" for place, n in found.where.items())
    click.echo(f"{found.cancelled:,} cancelled{f' ({where})' if where else ''}, {found.too_late:,} had their outcome")


@click.command()
@click.argument("name", required=False, metavar="NAME|KEY|RUN/KEY")
@click.option("--run", "run", metavar="RUN", help="A run: its record, and all that is kept of its prompts.")
@_emulate
@_json
def purge(name: str | None, run: str | None, *, emulate: bool | None, as_json: bool) -> None:
    """Delete bodies and outcomes here, jobs and files at the provider, of what is finished. OUT stays.

    \b
      gemqueue purge --run nightly
      gemqueue purge doc-42
      gemqueue purge nightly/doc-42

    A single prompt goes alone: its neighbours keep their outcomes. A job at the provider that others still wait for
    stays, and is named; purge the prompt's KEY again once it has ended.
    """  # noqa: D301
    from gemqueue_workers.manage import purge  # noqa: PLC0415

    word, run_name = _one_of(name, run, "NAME|KEY")
    found = run_main(_with_link(emulate, lambda link: purge.purge(link, word, run_name)))
    if as_json:
        _print_json(found)
        return
    gone = f"{found.jobs:,} jobs and {found.files:,} files are gone"
    click.echo(f"{found.prompts:,} prompts purged here; at the provider {gone}")
    for batch in found.left:
        click.echo(f"Others still wait in batch {batch}: its job stays. Afterwards: gemqueue purge {found.key}")


def _one_of(what: str | None, run: str | None, metavar: str) -> tuple[str, str]:
    if bool(what) == bool(run):
        raise Exit(f"give either {metavar} or --run RUN")
    return what or "", run or ""


@click.command()
@_json
def config(*, as_json: bool) -> None:
    """Print the settings in force and where each comes from; secrets are hidden.

    \b
      gemqueue config
      gemqueue config --json | jq 'map(select(.source != "default"))'
    """  # noqa: D301
    from gemqueue_workers.manage import config  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    values = run_main(_settings())
    if as_json:
        _print_json(values)
    else:
        config.show_config(make_console(stderr=False), values)


async def _settings() -> Any:
    from gemqueue_workers.manage import config  # noqa: PLC0415

    return config.effective()


@click.command()
@click.option("--live", is_flag=True, help="Ask the provider itself about the two assumptions; buys one prompt.")
@click.option("-m", "--model", default="gemini-3.5-flash-lite", show_default=True, help="Of that prompt.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Seconds.")
@click.option("--job", metavar="JOB", default="", help="With --live: a job that an earlier try left running.")
@click.option("-y", "--yes", is_flag=True, help="Buy it without asking.")
@_emulate
@_json
def doctor(*, live: bool, model: str, wait_s: float, job: str, yes: bool, emulate: bool | None, as_json: bool) -> None:
    """Look for what would go wrong: settings, account, server, workers, clock. Exit 1 for warnings, 2 for failures.

    \b
      gemqueue doctor
      gemqueue doctor --live --yes

    With --live it also asks the provider what exactly-once rests on: that a create which names a deleted file is
    refused, and that an accepted job survives the deletion of its input. It takes as long as a batch job does.
    """  # noqa: D301
    from gemqueue_workers.manage import doctor as module  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    if live and not job and not yes:
        _confirm(model)
    findings = run_main(module.examine(emulate=emulate))
    if live:
        from gemqueue_workers.manage.live import examine_live  # noqa: PLC0415

        findings += run_main(examine_live(model, emulate=emulate, wait_s_max=wait_s, job=job))
    if as_json:
        _print_json(findings)
    else:
        module.show_findings(make_console(stderr=False), findings)
    states = {finding.state for finding in findings}
    sys.exit(2 if "failed" in states else 1 if "warning" in states else 0)


def _confirm(model: str) -> None:
    if not sys.stdin.isatty():
        raise Exit(f"--live buys one prompt of {model}: say --yes")
    click.confirm(f"This buys one prompt of {model}. Go on?", abort=True, err=True)


@click.command()
@_emulate
def metrics(*, emulate: bool | None) -> None:
    """Print every counter and gauge once, in Prometheus's text format.

    For a look, or for a file that node_exporter's textfile collector reads. Needs no API key.

    \b
      gemqueue metrics
      gemqueue metrics | grep bought_twice
    """  # noqa: D301
    from gemqueue_workers import metrics as module  # noqa: PLC0415

    click.echo(run_main(module.exposition_once(emulate=emulate)), nl=False)


@click.command()
@click.option("--apply", is_flag=True, help="Adopt jobs that batches wait for, and make lost records anew.")
@click.option("--orphans", is_flag=True, help="Also cancel running jobs that no record claims; delete stray files.")
@click.option("--go-on", is_flag=True, help="End the pause after a change of the server, whatever is still open.")
@click.option("--hours", type=click.FloatRange(min=0.01), default=100.0, show_default=True, help="How far back.")
@_emulate
@_json
def reconcile(*, apply: bool, orphans: bool, go_on: bool, hours: float, emulate: bool | None, as_json: bool) -> None:
    """Hold the provider's jobs against the records. Changes nothing without --apply.

    Workers do this by themselves when the server was started again and may have lost something, or a replica took its
    place; nothing is packed or submitted before it is through. By hand it is for a server that was restored from a
    backup. Jobs that are not ours are left alone, always.

    \b
      gemqueue reconcile
      gemqueue reconcile --apply
      gemqueue reconcile --json | jq '.jobs[] | select(.standing != "known")'
    """  # noqa: D301
    from gemqueue_workers.logs import set_up_logs  # noqa: PLC0415
    from gemqueue_workers.manage import reconcile as module  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    def work(link: Link) -> Awaitable[Any]:
        return module.reconcile(link, apply=apply, orphans=orphans, go_on=go_on, since_s=hours * 3600)

    set_up_logs(json=False, verbose=False)
    report = run_main(_with_link(emulate, work))
    if as_json:
        _print_json(report)
    else:
        module.show_report(make_console(stderr=False), report)


@click.command("return")
@click.argument("batch", metavar="BATCH")
@_emulate
@_json
def give_back(batch: str, *, emulate: bool | None, as_json: bool) -> None:
    """Give a batch back to its pool, because its account's key will not work again: another account has it then.

    \b
      gemqueue batches
      gemqueue return 00b97c58734f6bc71100f1d

    Only a batch that no job was ever begun for: what is, or may be, at the provider stays with its account. Stop that
    account's workers first, or they take from the pool again. Needs no API key.
    """  # noqa: D301
    from gemqueue_workers.manage import give_back  # noqa: PLC0415

    found = run_main(_with_link(emulate, lambda link: give_back.give_back(link.store, batch)))
    if as_json:
        _print_json(found)
    else:
        click.echo(f"{found.prompts:,} prompts of batch {found.batch} wait in {found.pool} again")


_kind = click.option("--kind", default="", help="Only of this kind: provider, missing, expired.")


@click.group()
def dead() -> None:
    """Prompts that failed for good through no fault of their own: list them, submit them again, drop them.

    Their callers have been told; a prompt that is submitted again is a new one, under a new key. A name leads to it.

    \b
      gemqueue dead list
      gemqueue dead show KEY
      gemqueue dead replay --all --kind expired
      gemqueue dead purge --all
    """  # noqa: D301


@dead.command("list")
@_kind
@_emulate
@_json
def dead_list(*, kind: str, emulate: bool | None, as_json: bool) -> None:
    """List them, without their bodies."""
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    letters = run_main(_with_link(emulate, lambda link: module.listed(link, kind=kind)))
    if as_json:
        _print_json(letters)
    else:
        module.show_letters(make_console(stderr=False), letters)


@dead.command("show")
@click.argument("word", metavar="KEY|ID")
@_emulate
def dead_show(word: str, *, emulate: bool | None) -> None:
    """Print one of them as JSON, with the request as it was sent."""
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415

    _print_json(run_main(_with_link(emulate, lambda link: module.find(link, [word])))[0])


def _chosen(words: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
    if bool(words) == every:
        raise Exit("give either KEY or ID, or --all")
    return words


@dead.command("replay")
@click.argument("words", nargs=-1, metavar="[KEY|ID]...")
@click.option("--all", "every", is_flag=True, help="All of them, but for rows of runs: those are for `gemqueue retry`.")
@_kind
@_emulate
@_json
def dead_replay(words: tuple[str, ...], *, every: bool, kind: str, emulate: bool | None, as_json: bool) -> None:
    """Submit them again and print each one's old and new key."""
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415

    chosen = _chosen(words, every=every)
    done = run_main(_with_link(emulate, lambda link: module.replay(link, chosen, kind=kind)))
    if as_json:
        _print_json(done)
        return
    for each in done:
        click.echo(f"{each.old} {each.new}")


@dead.command("purge")
@click.argument("words", nargs=-1, metavar="[KEY|ID]...")
@click.option("--all", "every", is_flag=True, help="All of them.")
@_kind
@_emulate
@_json
def dead_purge(words: tuple[str, ...], *, every: bool, kind: str, emulate: bool | None, as_json: bool) -> None:
    """Forget them, bodies and all."""
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415

    chosen = _chosen(words, every=every)
    purged = run_main(_with_link(emulate, lambda link: module.purge(link, chosen, kind=kind)))
    if as_json:
        _print_json({"purged": purged})
    else:
        click.echo(f"{purged:,} dead letters forgotten")


COMMANDS = (batches, show, cancel, purge, config, doctor, metrics, reconcile, give_back, dead)
