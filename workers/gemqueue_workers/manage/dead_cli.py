"""``gemqueue admin dead``: its commands and their options."""

from __future__ import annotations

import click

from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, print_json

_kind = click.option("--kind", default="", help="Only of this kind: provider, missing, expired.")


@click.group()
def dead() -> None:
    """List, resubmit or drop prompts that failed through no fault of their own.

    \b
      gemqueue admin dead list
      gemqueue admin dead show KEY
      gemqueue admin dead replay --all --kind expired
      gemqueue admin dead purge --all

    Their callers have got the failure. A prompt that is submitted again is a new one, under a new key; its name leads
    to the new one.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap


@dead.command("list")
@_kind
@emulate_option
@json_option
def dead_list(*, kind: str, emulate: bool | None, as_json: bool) -> None:
    """List them, without the prompts themselves.

    \b
      gemqueue admin dead list --json
    """  # noqa: D301
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    letters = run_main(with_link(emulate, lambda link: module.listed(link, kind=kind)))
    if as_json:
        print_json(letters)
    else:
        module.show_letters(make_console(stderr=False), letters)


@dead.command("show")
@click.argument("word", metavar="KEY|ID")
@emulate_option
def dead_show(word: str, *, emulate: bool | None) -> None:
    """Print one of them as JSON, with the request as it was sent.

    \b
      gemqueue admin dead show 00c0ffee00c0ffee00c0ff.17
    """  # noqa: D301
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415 - as above

    print_json(run_main(with_link(emulate, lambda link: module.find(link, [word])))[0])


def _chosen(words: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
    if bool(words) == every:
        raise Exit("give either KEY or ID, or --all")
    return words


@dead.command("replay", short_help="Submit them again, and print old and new keys.")
@click.argument("words", nargs=-1, metavar="[KEY|ID]...")
@click.option("--all", "every", is_flag=True, help="All but rows of runs; for those there is `gemqueue admin retry`.")
@_kind
@emulate_option
@json_option
def dead_replay(words: tuple[str, ...], *, every: bool, kind: str, emulate: bool | None, as_json: bool) -> None:
    """Submit them again, and print the old and the new key of each.

    \b
      gemqueue admin dead replay 00c0ffee00c0ffee00c0ff.17
      gemqueue admin dead replay --all --kind expired
    """  # noqa: D301
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415 - as above

    chosen = _chosen(words, every=every)
    done = run_main(with_link(emulate, lambda link: module.replay(link, chosen, kind=kind)))
    if as_json:
        print_json(done)
        return
    for each in done:
        click.echo(f"{each.old} {each.new}")


@dead.command("purge")
@click.argument("words", nargs=-1, metavar="[KEY|ID]...")
@click.option("--all", "every", is_flag=True, help="All of them.")
@_kind
@emulate_option
@json_option
def dead_purge(words: tuple[str, ...], *, every: bool, kind: str, emulate: bool | None, as_json: bool) -> None:
    """Delete them, prompts and all.

    \b
      gemqueue admin dead purge 00c0ffee00c0ffee00c0ff.17
      gemqueue admin dead purge --all
    """  # noqa: D301
    from gemqueue_workers.manage import dead as module  # noqa: PLC0415 - as above

    chosen = _chosen(words, every=every)
    purged = run_main(with_link(emulate, lambda link: module.purge(link, chosen, kind=kind)))
    if as_json:
        print_json({"purged": purged})
    else:
        click.echo(f"{purged:,} dead letters forgotten")
