"""Validation of the rows of a batch: a whole file is refused for one bad line (protocol sections 4.2 and 4.6).

A file is read in blocks of about 1 MiB that end at a line's end, so that memory stays flat whatever its size. The
table of blocks that comes out lets the job runner read the blocks in another order.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gemqueue_adapters.emulator.proto import LINES, PART_DATA_COUNT, REQUESTS, either, snake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Kind = Literal["generate", "embed"]

BLOCK_BYTES = 1 << 20
HEAD = re.compile(rb'\s*\{\s*"key"\s*:\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*,\s*"request"\s*:\s*')
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.+?)`(?: - at `(.+)`)?$")
MARKER = b"[[fault:"
_NOT_A_ROW = re.compile(rb"\n[^{]")
CACHE_CONFLICT = (
    "CachedContent can not be used with GenerateContent request setting system_instruction, tools or tool_config."
)


class RowError(Exception):
    """A row that the service refuses: why, the path to the place (`$.contents[0]`), the unknown field if any."""

    def __init__(self, message: str, path: str = "$", unknown: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.unknown = unknown


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A run of whole lines of an input file: where it starts, its length, the index of its first row, any markers."""

    offset: int
    length: int
    first_row: int
    marked: bool = True


class Scan(msgspec.Struct, frozen=True):
    """What a look through an input file found."""

    rows: int
    blocks: list[Block]


def check_request(kind: Kind, request: bytes) -> None:
    """Check one request as the service does.

    Raises:
        RowError: what is wrong with it.
    """
    _decoded(_REQUEST_DECODERS[kind], CHECKS[kind], request, lambda value: value)


def check_line(kind: Kind, line: bytes) -> None:
    """Check one line of an input file as the service does.

    A line may also be a bare request, without a key, as one sample of the guide has it (protocol section 9.1).

    Raises:
        RowError: what is wrong with it.
    """
    if b'"request"' not in line:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            return CHECKS[kind](_REQUEST_DECODERS[kind].decode(line))
    return _decoded(_LINE_DECODERS[kind], CHECKS[kind], line, lambda value: value.request)


def check_head(_kind: Kind, line: bytes) -> None:
    """Check a line no further than its key, for the echo mode.

    Raises:
        RowError: if it does not even begin like a row.
    """
    if HEAD.match(line) is None and not line.lstrip().startswith(b"{"):
        raise RowError("invalid JSON, near column 1: unexpected character; expected '{'")


def scan(path: Path, check: Callable[[Kind, bytes], None], kind: Kind) -> Scan:
    """Check every line of a file.

    Raises:
        RowError: with the message of the 400 that the service answers, which names the line.
    """
    blocks: list[Block] = []
    row = line_number = 0
    for offset, data in _read_blocks(path):
        first_row = row
        marked = MARKER in data
        if check is check_head and not marked and _are_rows(data):
            rows = data.count(b"\n") + (not data.endswith(b"\n"))
            row += rows
            line_number += rows
            blocks.append(Block(offset, len(data), first_row, marked))
            continue
        for line in data.split(b"\n"):
            line_number += 1
            if not line or line.isspace():
                continue
            row += 1
            try:
                check(kind, line)
            except RowError as error:
                raise RowError(f"Error on line {line_number}: {error}") from error
            if marked:
                _check_markers(line, line_number)
        line_number -= data.endswith(b"\n")
        blocks.append(Block(offset, len(data), first_row, marked))
    return Scan(row, blocks)


def _are_rows(data: bytes) -> bool:
    """Whether every line begins like a row: then the echo mode need not look at each."""
    return data.startswith(b"{") and _NOT_A_ROW.search(data) is None


def _check_markers(line: bytes, line_number: int) -> None:
    if b"[[fault:refuse_line]]" in line:
        raise RowError(f"Error on line {line_number}: invalid JSON, near column 1: refused by a marker")
    if b"[[fault:refuse_file]]" in line:
        raise RowError("Request contains an invalid argument.")


def _read_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    offset, rest = 0, b""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(BLOCK_BYTES):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                continue
            data = rest + chunk[:cut]
            yield offset, data
            offset += len(data)
            rest = chunk[cut:]
    if rest:
        yield offset, rest


def _decoded(
    decoder: msgspec.json.Decoder[Any], check: Callable[[Any], None], raw: bytes, pick: Callable[[Any], Any]
) -> None:
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _field_error(raw, str(error)) from error
    except msgspec.DecodeError as error:
        found = re.search(r"byte (\d+)", str(error))
        column = int(found[1]) + 1 if found else len(raw)
        raise RowError(f"invalid JSON, near column {column}: {error}") from error
    except UnicodeDecodeError as error:
        raise RowError("invalid JSON: the line is not UTF-8") from error
    check(pick(value))


def _field_error(raw: bytes, message: str) -> RowError:
    if found := UNKNOWN_FIELD.match(message):
        column = max(raw.find(f'"{found[1]}"'.encode()), 0) + 1
        return RowError(f"invalid JSON, near column {column}: no such field: '{found[1]}'", found[2] or "$", found[1])
    text, _, path = message.partition(" - at ")
    field = snake(path.strip("`").removeprefix("$").removeprefix("."))
    return RowError(f"invalid JSON, near column 1: invalid value for field '{field}': {text}", path.strip("`"))


def _check_generate(request: Any) -> None:
    if not request.contents:
        raise RowError("GenerateContentRequest.contents: contents is not specified", "$.contents")
    for content in request.contents:
        _check_parts(content, "contents")
    settings: list[Any] = either(request, "safety_settings") or []
    categories = [str(setting.category) for setting in settings]
    if len(categories) > len(set(categories)):
        raise RowError("GenerateContentRequest.safety_settings: a category is given twice", "$.safetySettings")
    if either(request, "cached_content") and (
        either(request, "system_instruction") or request.tools or either(request, "tool_config")
    ):
        raise RowError(CACHE_CONFLICT, "$.cachedContent")


def _check_embed(request: Any) -> None:
    if request.content is None:
        raise RowError("EmbedContentRequest.content: content is not specified", "$.content")
    _check_parts(request.content, "content")


def _check_parts(content: Any, where: str) -> None:
    if not content.parts:
        raise RowError(f"{where}.parts must not be empty", f"$.{where}")
    for part in content.parts:
        given = PART_DATA_COUNT - msgspec.structs.astuple(part)[:PART_DATA_COUNT].count(None)
        if given > 1:
            raise RowError("oneof field 'data' is already set: a part holds one kind of data", f"$.{where}")
        if not given and either(part, "thought_signature") is None:
            raise RowError(f"{where}.parts: required oneof field 'data' must have one initialized field", f"$.{where}")


_REQUEST_DECODERS = {kind: msgspec.json.Decoder(kind_type) for kind, kind_type in REQUESTS.items()}
_LINE_DECODERS = {kind: msgspec.json.Decoder(kind_type) for kind, kind_type in LINES.items()}
CHECKS: dict[str, Callable[[Any], None]] = {"generate": _check_generate, "embed": _check_embed}
