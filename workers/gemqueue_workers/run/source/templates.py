"""A prompt made of a row's fields by ``--template``, or taken from one of them by ``--column``."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING, Any, Final

from gemqueue.errors import ConfigError
from gemqueue_workers.run.source.rows import BadRowError, Row, key_of, prompt_row

if TYPE_CHECKING:
    from gemqueue_workers.run.options import RunOptions

_NAME: Final = re.compile(r"[^\s\"'{}:][^\"'{}\n]*")


def check_template(template: str) -> None:
    """Raise ConfigError for braces that are no field: those of a JSON example."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ConfigError(f"--template does not fit ({error}): {_DOUBLE}") from error
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--template has {{{name[:40]}...}}, which names no column: {_DOUBLE}")


_DOUBLE: Final = "double the braces that are text, {{ and }}"


class _Fields(dict[str, Any]):
    """What a template may fill in: texts and numbers that are there."""

    def __getitem__(self, name: str) -> object:
        value: object = super().__getitem__(name)
        if value is None or value == "":
            raise BadRowError(f"its {name!r} is {'null' if value is None else 'empty'}, and --template asks for it")
        if isinstance(value, dict | list):
            kind = "an object" if isinstance(value, dict) else "a list"
            raise BadRowError(f"its {name!r} is {kind}, and --template takes texts and numbers")
        return value


def filled(options: RunOptions, fields: dict[str, Any]) -> str:
    """The template with the row's fields. Raises BadRowError."""
    try:
        return Formatter().vformat(options.template, (), _Fields(fields))
    except KeyError as error:
        raise BadRowError(f"it has no {error.args[0]!r}, which --template names") from error
    except BadRowError:
        raise
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise BadRowError(f"--template does not fit: {error}") from error


def fields_row(options: RunOptions, number: int, fields: dict[str, Any]) -> Row:
    """A row of named fields. Raises BadRowError."""
    if options.key and options.key not in fields:
        raise BadRowError(f"it has no {options.key!r}, which --key names")
    key = key_of(fields.get(options.key or "key"), number)
    if options.template:
        return prompt_row(number, key, filled(options, fields))
    value = fields.get(options.column or "prompt")
    if not isinstance(value, str):
        raise BadRowError(f"it has no text in {options.column or 'prompt'!r}")
    return prompt_row(number, key, value)
