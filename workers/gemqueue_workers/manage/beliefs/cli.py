"""``gemqueue belief show`` and ``decide``: their options."""

from __future__ import annotations

import click

from gemqueue_workers.exits import run_main
from gemqueue_workers.groups import Commands
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, print_json

_HERE = "gemqueue_workers.manage.beliefs.cli"
_SECTIONS = {
    "Commands": {
        "show": (f"{_HERE}:belief_show", "Show what is being believed of which batch, and until when."),
        "decide": (f"{_HERE}:belief_decide", "Say what you know: it is gone, or look from the beginning."),
    }
}


@click.group("belief", cls=Commands, sections=_SECTIONS)
def belief() -> None:
    """See what is being believed of the provider, and decide it yourself.

    What costs money or answers if it is wrong (results are gone, rows are missing, no job was made) is concluded from
    several looks that agree. Until then its batch waits. `gemqueue belief` is short for this.

    \b
      gemqueue admin belief show
      gemqueue admin belief decide 00b97c58734f6bc71100f1d gone
    """  # noqa: D301 - \b is click's mark for text that it must not wrap


@click.command("show")
@emulate_option
@json_option
def belief_show(*, emulate: bool | None, as_json: bool) -> None:
    """Show what is being believed of which batch and until when, and what each belief takes.

    \b
      gemqueue admin belief show
      gemqueue admin belief show --json | jq .batches
    """  # noqa: D301
    from gemqueue_workers.manage.beliefs import belief as module  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    found = run_main(with_link(emulate, module.beliefs, look=True))
    if as_json:
        print_json(found)
    else:
        module.show_beliefs(make_console(stderr=False), found)


@click.command("decide")
@click.argument("batch", metavar="BATCH")
@click.argument("decision", type=click.Choice(["gone", "wait"]))
@emulate_option
@json_option
def belief_decide(batch: str, decision: str, *, emulate: bool | None, as_json: bool) -> None:
    """Say what you know of what is believed of a batch.

    \b
      gemqueue admin belief decide 00b97c58734f6bc71100f1d gone
      gemqueue admin belief decide 00b97c58734f6bc71100f1d wait

    gone: you know that it is true. A worker looks once more at once, and concludes if that look shows the same. What
    is given up then may be bought again. wait: the looks begin at zero.

    Exit 2: the batch is not known, nothing is believed of it, or a worker holds it at the moment.
    """  # noqa: D301
    from gemqueue_workers.manage.beliefs import belief as module  # noqa: PLC0415 - as above

    done = run_main(with_link(emulate, lambda link: module.decide(link.store, batch, decision)))
    if as_json:
        print_json(done)
        return
    then = "the next look, now, is the last" if done.decision == "gone" else "the looks begin at zero"
    click.echo(f"{done.belief} of batch {done.batch}, {done.prompts:,} prompts: {then}")
