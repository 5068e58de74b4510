"""What commands have in common: options, and JSON on standard output."""

from __future__ import annotations

import click
import msgspec

from gemqueue_workers.exits import Exit

emulate_option = click.option(
    "--emulate", is_flag=True, default=None, help="Use the emulated account (also GEMQUEUE_EMULATE=1)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    click.echo(msgspec.json.encode(value).decode())


def one_of(what: str | None, run: str | None, metavar: str) -> tuple[str, str]:
    """Both, one of them empty. Raises Exit where both or neither were given."""
    if bool(what) == bool(run):
        raise Exit(f"give either {metavar} or --run RUN")
    return what or "", run or ""
