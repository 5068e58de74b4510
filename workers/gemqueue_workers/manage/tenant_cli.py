"""``gemqueue admin tenant set`` and ``list``: their options."""

from __future__ import annotations

import click

from gemqueue_workers.exits import run_main
from gemqueue_workers.groups import Commands
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, print_json

_HERE = "gemqueue_workers.manage.tenant_cli"
_SECTIONS = {
    "Commands": {
        "list": (f"{_HERE}:tenant_list", "List the tenants: what each may have, and how many prompts are where."),
        "set": (f"{_HERE}:tenant_set", "Say what a tenant may have: its share, jobs in flight, prompts a minute."),
    }
}


class _Number(click.ParamType[int]):
    """A whole number; 0 and none are nothing."""

    name = "N|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text == "none":
            return 0
        if not text.isascii() or not text.isdigit():
            self.fail(f"{text!r} is no whole number: give one, or none to take it away", param, ctx)
        return int(text)


@click.group("tenant", cls=Commands, sections=_SECTIONS)
def tenant() -> None:
    """Say what each tenant may have, and see what it has.

    \b
      gemqueue admin tenant list
      gemqueue admin tenant set alice --weight 3
      gemqueue admin tenant set bob --jobs-max 2 --per-min-max 5000
    """  # noqa: D301 - \b is click's mark for text that it must not wrap


@click.command("list")
@emulate_option
@json_option
def tenant_list(*, emulate: bool | None, as_json: bool) -> None:
    """List the tenants of the account: what each may have, how many prompts are where, and what holds it.

    \b
      gemqueue admin tenant list
      gemqueue admin tenant list --json | jq '.[] | select(.held_reason)'

    A thousand tenants are counted by name, the others together as "other".
    """  # noqa: D301
    from gemqueue_workers.manage import tenant as module  # noqa: PLC0415 - rich is slow to import
    from gemqueue_workers.screen import make_console  # noqa: PLC0415

    found = run_main(with_link(emulate, module.tenants, look=True))
    if as_json:
        print_json(found)
    else:
        module.show_tenants(make_console(stderr=False), found)


@click.command("set")
@click.argument("name", metavar="TENANT")
@click.option("--weight", type=_Number(), help="Its share of what is packed, 1 to 100; goes before tenant_weights.")
@click.option("--jobs-max", type=_Number(), help="The most jobs in flight that have prompts of it.")
@click.option("--per-min-max", type=_Number(), help="The most of its prompts that are packed within a minute.")
@click.option("--keep-outcome-s", type=_Number(), help="For how long its outcomes and names are kept.")
@emulate_option
@json_option
def tenant_set(
    name: str,
    *,
    weight: int | None,
    jobs_max: int | None,
    per_min_max: int | None,
    keep_outcome_s: int | None,
    emulate: bool | None,
    as_json: bool,
) -> None:
    """Say what a tenant of the account may have. What is not given stays as it is; none, or 0, takes it away.

    \b
      gemqueue admin tenant set alice --weight 3
      gemqueue admin tenant set bob --jobs-max 2 --per-min-max 5000
      gemqueue admin tenant set bob --jobs-max none
      gemqueue admin tenant set bob --keep-outcome-s 86400

    It holds at once, for whatever is packed from then on. A job is in flight from when its first prompt is packed until
    it has ended, and counts for each tenant that has prompts in it. A tenant over a limit is passed over; the others go
    on. Outcomes and names that are there keep their time; a name that is no longer kept is bought again.

    Exit 2: the tenant cannot be called so, a weight is above 100, or nothing was given.
    """  # noqa: D301
    from gemqueue_workers.manage import tenant as module  # noqa: PLC0415 - as above

    chosen = module.checked(
        name, weight=weight, jobs_max=jobs_max, per_min_max=per_min_max, keep_outcome_s=keep_outcome_s
    )
    done = run_main(with_link(emulate, lambda link: module.set_tenant(link, name, chosen)))
    if as_json:
        print_json(done)
    else:
        click.echo(module.said(done))
