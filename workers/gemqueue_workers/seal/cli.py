"""``gemqueue admin seal`` and ``shred``: their commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from gemqueue_workers.exits import Exit, run_main
from gemqueue_workers.manage.link import with_link
from gemqueue_workers.options import emulate_option, json_option, print_json

if TYPE_CHECKING:
    from gemqueue_workers.seal.keys import Status


@click.group()
def seal() -> None:
    """Handle the keys of a queue whose prompts and answers are encrypted in Redis.

    \b
      gemqueue admin seal key > /etc/gemqueue/seal.key
      gemqueue admin seal status
      gemqueue admin seal rotate
      gemqueue admin seal export > keys.json

    docs/sealing.md says what sealing protects, and what it does not.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap


@seal.command("key", short_help="Print a new wrapping key.")
def seal_key() -> None:
    """Print a new wrapping key, for GEMQUEUE_SEAL_KEY_FILE or GEMQUEUE_SEAL_KEY.

    \b
      gemqueue admin seal key > /etc/gemqueue/seal.key

    Without it nothing that is sealed can be read. Keep a copy apart from the backups of Redis.
    """  # noqa: D301
    from gemqueue.sealing.wrapping import new_key_text  # noqa: PLC0415 - only this command needs it

    click.echo(new_key_text())


def _show(found: Status, *, as_json: bool) -> None:
    from gemqueue_workers.screen import make_console  # noqa: PLC0415
    from gemqueue_workers.seal import keys as module  # noqa: PLC0415 - rich is slow to import

    if as_json:
        print_json(found)
    else:
        module.show_status(make_console(stderr=False), found)


@seal.command("status", short_help="List who has keys, and who wraps them.")
@emulate_option
@json_option
def seal_status(*, emulate: bool | None, as_json: bool) -> None:
    """List the tenants that have keys, and who wraps them.

    \b
      gemqueue admin seal status --json | jq '.unused'
    """  # noqa: D301
    from gemqueue_workers.seal import keys as module  # noqa: PLC0415 - as above

    _show(run_main(with_link(emulate, module.status, look=True)), as_json=as_json)


@seal.command("rotate", short_help="Wrap all keys by the first one, and begin new ones.")
@emulate_option
@json_option
def seal_rotate(*, emulate: bool | None, as_json: bool) -> None:
    """Wrap every key by the first wrapping key, and seal new values with new keys.

    \b
      gemqueue admin seal rotate

    To change the wrapping key, put the new one first into the file or variable of every process, and the old one
    behind it. Then run this. It may run under load. Afterwards the old one can go, unless you need older backups.
    """  # noqa: D301
    from gemqueue_workers.seal import keys as module  # noqa: PLC0415 - as above

    _show(run_main(with_link(emulate, module.rotate)), as_json=as_json)


@seal.command("export", short_help="Print all keys as JSON, wrapped.")
@emulate_option
def seal_export(*, emulate: bool | None) -> None:
    """Print all keys as JSON, wrapped: they are of no use without the wrapping key.

    \b
      gemqueue admin seal export > keys.json

    Take one after each rotation and each shred. With it a backup from before opens again.
    """  # noqa: D301
    from gemqueue_workers.seal import keys as module  # noqa: PLC0415 - as above

    print_json(run_main(with_link(emulate, module.export, look=True)))


@seal.command("import", short_help="Bring keys of an export back.")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@emulate_option
def seal_import(file: BinaryIO, *, emulate: bool | None) -> None:
    """Bring keys of an export back that Redis lacks, or that do not open here.

    \b
      gemqueue admin seal import keys.json

    After a restore from a backup. Tenants that the export knows as destroyed are destroyed again.
    """  # noqa: D301
    from gemqueue_workers.seal import keys as module  # noqa: PLC0415 - as above

    n = run_main(with_link(emulate, lambda link: module.bring_back(link, file.read())))
    click.echo(f"{n:,} keys brought back")


@click.command()
@click.option("--tenant", required=True, metavar="T", help="Whose data.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-key", is_flag=True, help="Keep the wrapping key: backups stay readable.")
@emulate_option
@json_option
def shred(tenant: str, *, yes: bool, keep_key: bool, emulate: bool | None, as_json: bool) -> None:
    """Destroy one tenant's keys, so that nobody can read its prompts and answers.

    \b
      gemqueue admin shred --tenant acme
      gemqueue admin shred --tenant acme --yes --json

    It cannot be undone. Open prompts fail, dead letters and rows of nobody are deleted. Backups hold the tenant's keys
    as they were wrapped, so a new wrapping key is needed, and the old one must be destroyed afterwards. What is at the
    provider stays there until it expires.

    Exit 2: the tenant has no key, or there is no new wrapping key.
    """  # noqa: D301
    from gemqueue_workers.seal import shred as module  # noqa: PLC0415 - as above

    run_main(with_link(emulate, lambda link: module.check(link, tenant, keep_key=keep_key), look=True))
    if (
        not yes
        and click.prompt(f"Nobody will read anything of {tenant} again. Type its name to go on", err=True) != tenant
    ):
        raise Exit("nothing was destroyed")
    found = run_main(with_link(emulate, lambda link: module.shred(link, tenant, keep_key=keep_key)))
    if as_json:
        print_json(found)
        return
    click.echo(f"The keys of {tenant} are destroyed: {found.open_prompts:,} open prompts failed.")
    click.echo(
        f"{found.dead_letters:,} dead letters and {found.plain_outcomes:,} outcomes that were not sealed are gone."
    )
    ids = ", ".join(found.destroy)
    if keep_key:
        click.echo(f"Backups stay readable for whoever has the wrapping key {ids}".rstrip() + ".")
    elif ids:
        click.echo(
            f"Now destroy the wrapping key {ids}: in the file or variable of every process, and every copy of it."
        )
        click.echo("Until then a backup and that key open the tenant's data. Then run: gemqueue admin seal export")
    else:
        click.echo("Now destroy the tenant's key in your KMS: until then a backup and the KMS open its data.")
