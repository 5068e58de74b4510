"""Groups of commands: only the file of the command that runs is imported, and an old name leads to the new one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from gemqueue_workers.exits import DEBUG_ENV, let_go_of_stdout

if TYPE_CHECKING:
    from collections.abc import Mapping


Section = dict[str, tuple[str, str]]
"""Commands by name: the ``module:name`` that each is imported from, and what the help of the group says of it."""


class Commands(click.Group):
    """Commands in titled sections, in the order of the help, which imports none of them."""

    def __init__(self, *args: Any, sections: Mapping[str, Section], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._targets = {name: target for section in sections.values() for name, (target, _) in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        del ctx
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in self.commands and cmd_name in self._targets:
            module, _, name = self._targets[cmd_name].partition(":")
            self.commands[cmd_name] = cast("click.Command", getattr(import_module(module), name))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As ``click.Group.resolve_command``, whose suggestions need all commands."""
        if args[0] not in self._targets:
            self.load_all(ctx)
        return super().resolve_command(ctx, args)

    def load_all(self, ctx: click.Context) -> None:
        """Import all commands."""
        for name in self._targets:
            self.get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section each, all names in one column."""
        del ctx
        width = max(map(len, self._targets))
        for title, section in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", said) for name, (_, said) in section.items()])


class Program(Commands):
    """The whole command line: what goes wrong while printing ends it as everything else does, without a traceback."""

    def __init__(self, *args: Any, moved: Mapping[str, str], short: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moved = moved
        self._elsewhere = {**moved, **short}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As ``click.Group.main``."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if os.environ.get(DEBUG_ENV):
                raise
            let_go_of_stdout()
            click.echo(f"gemqueue: standard output: {error.strerror or error}", err=True)
            sys.exit(2)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in any group; an old name is the new one, and says so on standard error."""
        if (new := self._elsewhere.get(args[0])) is None:
            return super().resolve_command(ctx, args)
        if args[0] in self._moved and not ctx.resilient_parsing:  # a completion only looks
            click.echo(f"gemqueue: {args[0]} is now `gemqueue {new}`; the old name still works", err=True)
        return super().resolve_command(ctx, [*new.split(), *args[1:]])

    def load_all(self, ctx: click.Context) -> None:
        """Import all commands, those with an old name too."""
        super().load_all(ctx)
        for old, new in self._elsewhere.items():
            group, _, name = new.partition(" ")
            found = cast("click.Group", self.get_command(ctx, group)).get_command(ctx, name)
            self.commands[old] = cast("click.Command", found)
