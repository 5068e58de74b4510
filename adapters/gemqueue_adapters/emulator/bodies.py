"""The body of a create, taken apart as the service does: bilingual, strict, each inline row checked (section 4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.proto import Number, either, message, repeated, snake
from gemqueue_adapters.emulator.rows import UNKNOWN_FIELD, Kind, RowError, check_request
from gemqueue_adapters.emulator.wire import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

BODY_MAX_BYTES = 20 << 20


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    request: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


_Body = message(
    "Body",
    batch=message(
        "Batch",
        name=str,
        model=str,
        display_name=str,
        input_config=message("InputConfig", requests=message("Requests", requests=repeated(_Row)), file_name=str),
        priority=Number,
        webhook_config=message("WebhookConfig", uris=list[str], user_metadata=dict[str, Any]),
    ),
)
_decode = msgspec.json.Decoder(_Body).decode


class Created(msgspec.Struct, frozen=True):
    """What the body of a create says: an input file, or `lines`, the inline rows as lines of JSON."""

    display_name: str | None
    priority: int
    file: str | None
    lines: list[bytes]
    all_named: bool
    """Whether every inline row has metadata, without which nobody could tell shuffled results apart."""


async def read(request: Request, most: int = BODY_MAX_BYTES) -> bytes:
    """The body of a request.

    Raises:
        ApiError: 400 beyond `most` bytes.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        parts.append(part)
        if size > most:
            raise ApiError(400, f"Request payload size exceeds the limit: {most} bytes.")
    return b"".join(parts)


def parse(kind: Kind, body: bytes, *, echo: bool) -> Created:
    """Take the body of a create apart; in echo mode the requests inside are not looked at.

    Raises:
        ApiError: 400, which names the place.
    """
    try:
        batch = _decode(body).batch
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _payload_error(error) from error
    if batch is None or (config := either(batch, "input_config")) is None:
        raise ApiError(400, "* BatchGenerateContentRequest.batch.input_config: input_config is required")
    file, requests = either(config, "file_name"), config.requests
    if (file is None) == (requests is None):
        raise ApiError(400, "* batch.input_config: exactly one of file_name and requests must be given")
    if file is not None and not file.startswith("files/"):
        raise ApiError(400, "Could not parse the file name")
    rows: list[_Row] = [] if requests is None else requests.requests or []
    if file is None and not rows:
        raise ApiError(400, "* batch.input_config.requests: at least one request is required")
    lines = [_line(kind, place, row, echo=echo) for place, row in enumerate(rows)]
    return Created(
        either(batch, "display_name"),
        int(float(batch.priority or 0)),
        file,
        lines,
        all(_given(row.metadata) for row in rows),
    )


def _line(kind: Kind, place: int, row: _Row, *, echo: bool) -> bytes:
    where = f"batch.input_config.requests.requests[{place}]"
    request, metadata = _given(row.request), _given(row.metadata)
    if not request:
        raise _violation(f"* {where}.request: request is required", where)
    if metadata and not isinstance(_parsed(metadata), dict):
        raise _violation(f"Invalid value at '{where}.metadata'", where)
    if not echo:
        try:
            check_request(kind, request)
        except RowError as error:
            path = f"{where}.request{snake(error.path.removeprefix('$'))}"
            text = f"Unknown name \"{error.unknown}\" at '{path}': Cannot find field." if error.unknown else str(error)
            raise _violation(f"Invalid JSON payload received. {text}" if error.unknown else text, path) from error
    return b'{"request":%b' % _one_line(request) + (b',"metadata":%b}' % _one_line(metadata) if metadata else b"}")


def _given(raw: msgspec.Raw) -> bytes:
    """The field's JSON; nothing if it was left out or null."""
    text = bytes(raw)
    return b"" if text == b"null" else text


def _parsed(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _payload_error(error) from error


def _one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text


def _violation(text: str, path: str) -> ApiError:
    violation = {"field": path, "description": text}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return ApiError(400, text, details=[detail])


def _payload_error(error: Exception) -> ApiError:
    if found := UNKNOWN_FIELD.match(str(error)):
        path = re.sub(r"^\$\.?", "", snake(found[2] or ""))
        at = f" at '{path}'" if path else ""
        return _violation(f'Invalid JSON payload received. Unknown name "{found[1]}"{at}: Cannot find field.', path)
    text, _, path = str(error).partition(" - at ")
    place = snake(path.strip("`").removeprefix("$").removeprefix("."))
    return _violation(f"Invalid JSON payload received. {text}", place)
