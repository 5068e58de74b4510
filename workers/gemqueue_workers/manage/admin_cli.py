"""``gemqueue admin``: what an operator needs now and then. Its commands and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gemqueue_workers.exits import need_extra, run_main
from gemqueue_workers.groups import Commands
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, one_of, print_json

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gemqueue_workers.run.connection import Link

_HERE: Final = "gemqueue_workers.manage.admin_cli"
_SECTIONS: Final = {
    "Commands": {
        "batches": (f"{_HERE}:batches", "List the open batches, and what holds them."),
        "retry": ("gemqueue_workers.run.cli:retry", "Ask again for what failed in a run, and pay again."),
        "purge": (f"{_HERE}:purge", "Delete what is finished, here and at the provider."),
        "dead": ("gemqueue_workers.manage.dead_cli:dead", "Handle prompts that failed through no fault of their own."),
        "belief": (
            "gemqueue_workers.manage.beliefs.cli:belief",
            "See what is being believed of the provider, and decide it.",
        ),
        "tenant": ("gemqueue_workers.manage.tenant_cli:tenant", "Say what each tenant may have, and see what it has."),
        "reconcile": (f"{_HERE}:reconcile", "Compare the provider's jobs with the records."),
        "return": (f"{_HERE}:give_back", "Give a batch back to its pool."),
        "seal": ("gemqueue_workers.seal.cli:seal", "Handle the keys of a sealed queue."),
        "shred": ("gemqueue_workers.seal.cli:shred", "Destroy one tenant's keys: nobody reads its data again."),
        "metrics": (f"{_HERE}:metrics", "Print all counters and gauges in Prometheus's format."),
    }
}


@click.group(cls=Commands, sections=_SECTIONS)
def admin() -> None:
    """Look after a queue: what an operator needs now and then.

    \b
      gemqueue admin batches
      gemqueue admin retry --run nightly
      gemqueue admin dead list
    """  # noqa: D301 - \b is click's mark for text that it must not wrap


@click.command()
@emulate_option
@json_option
def batches(*, emulate: bool | None, as_json: bool) -> None:
    """List the open batches: their state here and at the provider, and what holds them.

    \b
      gemqueue admin batches
      gemqueue admin batches --json | jq '.[].job'
    """  # noqa: D301
    from gemqueue_workers.manage import show as module  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    lines = run_main(with_link(emulate, module.batches, look=True))
    if as_json:
        print_json(lines)
    else:
        module.show_batches(make_console(stderr=False), lines)


@click.command()
@click.argument("name", required=False, metavar="NAME|KEY|RUN/KEY")
@click.option("--run", "run", metavar="RUN", help="A run: its record, and all that is kept of its prompts.")
@emulate_option
@json_option
def purge(name: str | None, run: str | None, *, emulate: bool | None, as_json: bool) -> None:
    """Delete what is finished: prompts and outcomes here, jobs and files at the provider.

    \b
      gemqueue admin purge --run nightly
      gemqueue admin purge doc-42
      gemqueue admin purge nightly/doc-42

    The file OUT of a run stays. A single prompt is deleted alone: the outcomes of its neighbours stay. If other
    prompts still wait for the same job, the job stays and is named; purge the prompt's KEY again once it has ended.

    Exit 2: nothing of that name is known, or it is not finished.
    """  # noqa: D301
    from gemqueue_workers.manage import purge as module  # noqa: PLC0415 - as above

    word, run_name = one_of(name, run, "NAME|KEY")
    found = run_main(with_link(emulate, lambda link: module.purge(link, word, run_name)))
    if as_json:
        print_json(found)
        return
    gone = f"{found.jobs:,} jobs and {found.files:,} files are gone"
    click.echo(f"{found.prompts:,} prompts purged here; at the provider {gone}")
    for batch in found.left:
        click.echo(f"Others still wait in batch {batch}: its job stays. Afterwards: gemqueue admin purge {found.key}")


@click.command()
@click.option("--apply", is_flag=True, help="Adopt jobs that batches wait for, and rebuild lost records.")
@click.option("--orphans", is_flag=True, help="Also cancel running jobs without a record, and delete stray files.")
@click.option("--go-on", is_flag=True, help="End the pause after a change of the server, whatever is still open.")
@click.option("--home", metavar="HOME", default="", help="Another home's jobs: of the queue that a server forgot.")
@click.option("--answers", metavar="FILE", default="", help="Write what its orphans brought to a file, one row a line.")
@click.option(
    "--hours", type=click.FloatRange(min=0.01), default=100.0, show_default=True, help="How far to look back."
)
@emulate_option
@json_option
def reconcile(*, hours: float, emulate: bool | None, as_json: bool, **wishes: Any) -> None:
    """Compare the provider's jobs with the records. Without --apply nothing is changed.

    \b
      gemqueue admin reconcile
      gemqueue admin reconcile --apply
      gemqueue admin reconcile --json | jq '.jobs[] | .standing'
      gemqueue admin reconcile --home 1f2e3d4c --apply --answers paid.jsonl

    Workers do this themselves when the server was restarted and may have lost something, or when a replica took over;
    until then nothing is packed or submitted. Do it by hand after you restored a server from a backup. Jobs that are
    not ours are never touched.

    With --home: after FLUSHALL, or where another server or database answers, workers hold the account and name the
    home of the jobs that it has forgotten. --apply gives such jobs to the prompts that wait here under their keys, and
    once none of them runs, lifts the hold. --go-on lifts it at once: what runs may be bought again.
    """  # noqa: D301
    from gemqueue_workers.logs import set_up_logs  # noqa: PLC0415 - as above
    from gemqueue_workers.manage import reconcile as module  # noqa: PLC0415
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    def work(link: Link) -> Awaitable[Any]:
        return module.reconcile(link, module.Wish(since_s=hours * 3600, **wishes))

    set_up_logs(json=False, verbose=False)
    report = run_main(with_link(emulate, work))
    if as_json:
        print_json(report)
    else:
        module.show_report(make_console(stderr=False), report)


@click.command("return")
@click.argument("batch", metavar="BATCH")
@emulate_option
@json_option
def give_back(batch: str, *, emulate: bool | None, as_json: bool) -> None:
    """Give a batch back to its pool, so that another account can take it.

    \b
      gemqueue admin batches
      gemqueue admin return 00b97c58734f6bc71100f1d

    For an account whose key will never work again. Stop that account's workers first, or they take from the pool
    again. Needs GEMQUEUE_ACCOUNT, but no API key.

    Exit 2: the batch is not known, or its job was begun: what may be at the provider stays with its account.
    """  # noqa: D301
    from gemqueue_workers.manage import give_back as module  # noqa: PLC0415 - as above

    found = run_main(with_link(emulate, lambda link: module.give_back(link.store, batch)))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found.prompts:,} prompts of batch {found.batch} wait in {found.pool} again")


@click.command()
@emulate_option
def metrics(*, emulate: bool | None) -> None:
    """Print all counters and gauges once, in Prometheus's text format.

    \b
      gemqueue admin metrics
      gemqueue admin metrics | grep bought_twice

    For a quick look, or for a file that node_exporter's textfile collector reads. Needs no API key.
    """  # noqa: D301
    need_extra("serve", "`gemqueue admin metrics`")
    from gemqueue_workers import metrics as module  # noqa: PLC0415 - as above

    click.echo(run_main(module.exposition_once(emulate=emulate)), nl=False)
