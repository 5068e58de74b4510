"""CSV and TSV as rows."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING

from gemqueue.errors import ConfigError
from gemqueue_workers.run.source.rows import LINE_BYTES_MAX, BadLine, BadRowError, Row
from gemqueue_workers.run.source.templates import fields_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_workers.run.options import RunOptions


def table_rows(options: RunOptions, lines: Iterator[bytes], delimiter: str) -> Iterator[Row | BadLine]:
    """Every row and every bad line; the first that is not blank is the header. Raises ConfigError."""
    csv.field_size_limit(LINE_BYTES_MAX)
    reader = csv.reader((line.decode("utf-8", "surrogateescape") for line in lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _check_quote(options, number, reader.line_num, error)
            yield BadLine(number, "", f"it is no CSV: {error}")
            continue
        if not values:
            continue
        if header is None:
            header = values
            _check_columns(options, header)
            continue
        yield _table_row(options, number, dict(zip(header, values, strict=False)), len(values) - len(header))


def _check_quote(options: RunOptions, first: int, last: int, error: csv.Error) -> None:
    """Raise ConfigError where a quote swallows the lines behind it: they would be neither rows nor bad lines."""
    if last > first:
        raise ConfigError(
            f'{options.source} line {first}: a quote (") is opened there and not closed as a CSV closes it '
            f'({error}, line {last}): all lines between would be one field. Close it, or write "" for each that is text'
        ) from error


def _check_columns(options: RunOptions, header: list[str]) -> None:
    if not options.template and not options.column:
        raise ConfigError(f"a CSV needs --column or --template; {options.source} has the columns {', '.join(header)}")
    for column in (options.key, options.column):
        if column and column not in header:
            raise ConfigError(f"{options.source} has no column {column!r}; it has {', '.join(header)}")
    twice = [name for name, times in Counter(header).items() if times > 1 and name]
    if twice:
        raise ConfigError(f"{options.source} has the column {twice[0]!r} more than once: rename one of them")


def _table_row(options: RunOptions, number: int, fields: dict[str, str], surplus: int) -> Row | BadLine:
    begin = ",".join(fields.values())[:200]
    if surplus:
        return BadLine(
            number, begin, f"it has {abs(surplus)} {'more' if surplus > 0 else 'fewer'} fields than the header"
        )
    if not "".join(fields.values()).isprintable():
        try:
            "".join(fields.values()).encode("utf-8")
        except UnicodeEncodeError:
            return BadLine(number, begin.encode("utf-8", "replace").decode(), "it is not UTF-8; convert the file")
    try:
        return fields_row(options, number, fields)
    except BadRowError as error:
        return BadLine(number, begin, str(error))
