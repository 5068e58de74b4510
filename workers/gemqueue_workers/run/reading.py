"""IN as rows: JSONL in several shapes, CSV, plain lines; compressed or not; a line at a time.

A row is known by its key: its own, else its line number. What is wrong with a line is said with its number, and the
others go on. Nothing here looks into a request more than it takes to find its key and its content.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import zstandard

from gemqueue.errors import ConfigError
from gemqueue_workers.run.options import STDIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_workers.run.options import RunOptions

LINE_BYTES_MAX: Final = 64_000_000
_KEY_CHARS_MAX: Final = 512
_FORMS: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text"
}  # fmt: skip
_BOM: Final = b"\xef\xbb\xbf"
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


class Request(NamedTuple):
    """A request in Gemini's own form, still undecoded; without the fields named in ``drop``."""

    raw: bytes
    drop: tuple[str, ...] = ()


class Prompt(NamedTuple):
    """Contents, and a config of the row's own; both decoded, None where the row has none."""

    contents: object
    config: object = None


class Row(NamedTuple):
    """A line that can be read. ``content`` stands for all that the answer depends on beside the settings."""

    line: int
    key: str
    content: bytes
    ask: Request | Prompt


class BadLine(NamedTuple):
    """A line that cannot be read: where, how it begins, why."""

    line: int
    text: str
    reason: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: str | int | None = None
    request: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    contents: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_dict = msgspec.json.Decoder(dict[str, Any]).decode
_decode: Final = msgspec.json.Decoder().decode


class BadRowError(ValueError):
    """Why a line is no row."""


def open_source(path: str) -> IO[bytes]:
    """IN as bytes, decompressed. Raises ConfigError when it cannot be opened."""
    try:
        if path.endswith(".gz"):
            return cast("IO[bytes]", gzip.open(path, "rb"))
        file = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise ConfigError(f"IN {path}: {error.strerror or error}") from error
    if path.endswith(".zst"):
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
        return cast("IO[bytes]", io.BufferedReader(cast("Any", reader), 1 << 20))
    return file


def form_of(options: RunOptions, first: bytes) -> str:
    """jsonl, csv, tsv or text: as asked for, else by the name, else by how IN begins."""
    if options.form:
        return options.form
    name = options.source.removesuffix(".gz").removesuffix(".zst")
    form = _FORMS.get(Path(name).suffix.lower(), "") if options.source != STDIO else ""
    if form:
        return form
    if options.column:
        return "csv"
    return "jsonl" if first.lstrip()[:1] == b"{" else "text"


def read_rows(options: RunOptions, path: str) -> Iterator[Row | BadLine]:
    """Every row and every bad line of IN, in order; blank lines are neither.

    Raises ConfigError when IN as a whole cannot be read.
    """
    with open_source(path) as file:
        try:
            first = file.readline(LINE_BYTES_MAX)
            if first.startswith(_WIDE_BOMS):
                raise ConfigError(f"IN {options.source} is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)")
            form = form_of(options, first.removeprefix(_BOM))
            lines = _lines(file, first.removeprefix(_BOM))
            if form in {"csv", "tsv"}:
                yield from _csv_rows(options, lines, "\t" if form == "tsv" else ",")
                return
            read = _json_row if form == "jsonl" else _text_row
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _guarded(read, options, number, line)
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise ConfigError(f"IN {options.source} is cut off or not what its name says: {error}") from error
        except OSError as error:
            raise ConfigError(f"IN {options.source}: {error.strerror or error}") from error


def _lines(file: IO[bytes], first: bytes) -> Iterator[bytes]:
    line = first
    while line:
        yield line
        if len(line) >= LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):  # the rest of a line that is refused for its length
                line = file.readline(LINE_BYTES_MAX)
        line = file.readline(LINE_BYTES_MAX)


def _guarded(read: Any, options: RunOptions, number: int, line: bytes) -> Row | BadLine:
    if len(line) >= LINE_BYTES_MAX:
        return BadLine(number, _begin(line), f"it has more than {LINE_BYTES_MAX} bytes")
    try:
        row: Row = read(options, number, line)
    except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former
        return BadLine(number, _begin(line), _not_utf8(line) or why_unread(error))
    return row


def why_unread(error: Exception) -> str:
    """Why JSON cannot be read."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _not_utf8(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start}); convert the file, or mend the line"
    return ""


def _begin(line: bytes) -> str:
    return line[:200].decode("utf-8", "replace").rstrip()


def _key(value: object, number: int) -> str:
    if value is None or value == "":
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRowError("its key is neither a string nor a whole number")
    key = str(value)
    if len(key) > _KEY_CHARS_MAX:
        raise BadRowError(f"its key has more than {_KEY_CHARS_MAX} characters")
    return key


def _json_row(options: RunOptions, number: int, line: bytes) -> Row:
    if options.template or options.column or options.key:
        return _fields_row(options, number, _decode_dict(line))
    try:
        given = _decode_line(line)
    except msgspec.ValidationError as error:
        return _bare_request(number, line, error)
    key = _key(given.key, number)
    if given.request:
        if given.prompt or given.contents or given.config:
            raise BadRowError("it has a request and prompt, contents or config; a request holds everything itself")
        _no_config(options)
        return Row(number, key, bytes(given.request), Request(bytes(given.request)))
    if bool(given.prompt) == bool(given.contents):
        raise BadRowError('it needs exactly one of "request", "prompt" and "contents"')
    asked = bytes(given.prompt) or bytes(given.contents)
    if given.prompt and not asked.startswith(b'"'):
        raise BadRowError('its "prompt" is not a string; "contents" takes parts, files and turns')
    config = _decode(given.config) if given.config else None
    return Row(number, key, asked + b"\0" + bytes(given.config), Prompt(_decode(asked), config))


def _bare_request(number: int, line: bytes, error: msgspec.ValidationError) -> Row:
    """A line that is a request by itself, as one sample of the batch guide has it (protocol section 9.1)."""
    fields = _decode_dict(line)
    if not {"contents", "content"} & fields.keys() or {"prompt", "request", "config"} & fields.keys():
        raise BadRowError(str(error)) from error
    return Row(number, _key(fields.get("key"), number), line.strip(), Request(line, drop=("key",)))


def _no_config(options: RunOptions) -> None:
    if options.config is not None:
        raise BadRowError("--config does not reach a row with a request of its own; put the config into the request")


def _text_row(options: RunOptions, number: int, line: bytes) -> Row:
    text = line.decode("utf-8").rstrip("\r\n")
    return _prompt_row(number, str(number), _filled(options, {"text": text}) if options.template else text)


def _prompt_row(number: int, key: str, text: str) -> Row:
    if not text.strip():
        raise BadRowError("its prompt is empty")
    return Row(number, key, text.encode("utf-8", "surrogateescape"), Prompt(text))


def _fields_row(options: RunOptions, number: int, fields: dict[str, Any]) -> Row:
    key = _key(fields.get(options.key or "key"), number)
    if options.key and options.key not in fields:
        raise BadRowError(f"it has no {options.key!r}, which --key names")
    if options.template:
        return _prompt_row(number, key, _filled(options, fields))
    value = fields.get(options.column or "prompt")
    if not isinstance(value, str):
        raise BadRowError(f"it has no text in {options.column or 'prompt'!r}")
    return _prompt_row(number, key, value)


def _filled(options: RunOptions, fields: dict[str, Any]) -> str:
    try:
        return options.template.format_map(fields)
    except KeyError as error:
        raise BadRowError(f"it has no {error.args[0]!r}, which --template names") from error
    except (ValueError, IndexError, AttributeError) as error:
        raise BadRowError(f"--template does not fit: {error}") from error


def _csv_rows(options: RunOptions, lines: Iterator[bytes], delimiter: str) -> Iterator[Row | BadLine]:
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
            yield BadLine(number, "", f"it is no CSV: {error}")
            continue
        if not values:
            continue
        if header is None:
            header = values
            _check_columns(options, header)
            continue
        yield _csv_row(options, number, dict(zip(header, values, strict=False)), len(values) - len(header))


def _check_columns(options: RunOptions, header: list[str]) -> None:
    wanted = [options.key, options.column if not options.template else ""]
    if not options.template and not options.column:
        raise ConfigError(f"a CSV needs --column or --template; {options.source} has the columns {', '.join(header)}")
    for column in wanted:
        if column and column not in header:
            raise ConfigError(f"{options.source} has no column {column!r}; it has {', '.join(header)}")


def _csv_row(options: RunOptions, number: int, fields: dict[str, str], surplus: int) -> Row | BadLine:
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
        return _fields_row(options, number, fields)
    except BadRowError as error:
        return BadLine(number, begin, str(error))
