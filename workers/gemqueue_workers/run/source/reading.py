"""IN as rows: JSONL in several shapes, CSV, plain lines; a line at a time.

A row is known by its key: its own, else its line number. What is wrong with a line is said with its number, and the
others go on. Nothing here looks into a request more than it takes to find its key and its content. What was not
understood is never taken for text: where IN as a whole is of another form than its rows, it is refused.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import zstandard

from gemqueue.errors import ConfigError
from gemqueue_workers.run.options import STDIO
from gemqueue_workers.run.source.json_rows import json_row, why_unread
from gemqueue_workers.run.source.opening import BOM, PACKED_SUFFIXES, open_source, refuse_wide
from gemqueue_workers.run.source.rows import LINE_BYTES_MAX, BadLine, Row, prompt_row
from gemqueue_workers.run.source.tables import table_rows
from gemqueue_workers.run.source.templates import filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_workers.run.options import RunOptions

_FORMS: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text"
}  # fmt: skip
_ARRAY: Final = re.compile(rb"\s*\[\s*(?:\{.*)?", re.DOTALL)
_BLANK_LINES_MAX: Final = 10_000
_UNPACKING_ERRORS: Final = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, lzma.LZMAError)


def form_of(options: RunOptions, first: bytes) -> str:
    """jsonl, csv, tsv or text: as asked for, else by the name, else by how IN begins."""
    if options.form:
        return options.form
    form = ""
    if options.source != STDIO:
        path = Path(options.source)
        form = _FORMS.get((path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path).suffix.lower(), "")
    if form:
        return form
    if options.column:
        return "csv"
    return "jsonl" if first.lstrip()[:1] in {b"{", b"["} and _is_json(first) else "text"


def _is_json(first: bytes) -> bool:
    return first.lstrip()[:1] == b"{" or _ARRAY.fullmatch(first) is not None


def read_rows(options: RunOptions, path: str) -> Iterator[Row | BadLine]:
    """Every row and every bad line of IN, in order; blank lines are neither.

    Raises ConfigError when IN as a whole cannot be read.
    """
    with open_source(path) as file:
        try:
            yield from _rows(options, file)
        except _UNPACKING_ERRORS as error:
            raise ConfigError(f"IN {options.source} is cut off or not what its name says: {error}") from error
        except OSError as error:
            raise ConfigError(f"IN {options.source}: {error.strerror or error}") from error


def _rows(options: RunOptions, file: IO[bytes]) -> Iterator[Row | BadLine]:
    lines = _lines(file)
    head, first = _head(lines)
    refuse_wide(options.source, first)
    form = form_of(options, first)
    lines = chain(head, lines)
    if form in {"csv", "tsv"}:
        yield from table_rows(options, lines, "\t" if form == "tsv" else ",")
        return
    if form == "jsonl" and _ARRAY.fullmatch(first):
        raise ConfigError(
            f"IN {options.source} is one JSON array, and its rows are read line by line: "
            f"write one object a line, for example with jq -c '.[]' {options.source}"
        )
    read = json_row if form == "jsonl" else _text_row
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _guarded(read, options, number, line)


def _head(lines: Iterator[bytes]) -> tuple[list[bytes], bytes]:
    """The lines until the first that is not blank, and that one."""
    head: list[bytes] = []
    for line in lines:
        head.append(line)
        if line.strip() or len(head) >= _BLANK_LINES_MAX:
            break
    return head, head[-1] if head else b""


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines, each without a byte order mark: files that have one are put together, too."""
    while line := file.readline(LINE_BYTES_MAX):
        yield line.removeprefix(BOM)
        if len(line) >= LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):  # the rest of a line that is refused for its length
                line = file.readline(LINE_BYTES_MAX)


def _guarded(read: Any, options: RunOptions, number: int, line: bytes) -> Row | BadLine:
    if len(line) >= LINE_BYTES_MAX - len(BOM):
        return BadLine(number, _begin(line), f"it has more than {LINE_BYTES_MAX} bytes")
    try:
        row: Row = read(options, number, line)
    except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former
        return BadLine(number, _begin(line), _not_utf8(line) or why_unread(error, line))
    return row


def _not_utf8(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start}); convert the file, or mend the line"
    return ""


def _begin(line: bytes) -> str:
    return line[:200].decode("utf-8", "replace").rstrip()


def _text_row(options: RunOptions, number: int, line: bytes) -> Row:
    text = line.decode("utf-8").rstrip("\r\n")
    return prompt_row(number, str(number), filled(options, {"text": text}) if options.template else text)
