"""The body of a create, taken apart as the service does: bilingual, strict, each inline row checked (section 4)."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.proto import Number, either, message, repeated, snake
from gemqueue_adapters.emulator.rows import UNKNOWN_FIELD, Kind, RowError, check_request
from gemqueue_adapters.emulator.service.jobs import Hook
from gemqueue_adapters.emulator.wire import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

BODY_MAX_BYTES = 20 << 20
SINGLE_QUOTED_MAX_BYTES = 1 << 20
SINGLE_QUOTED = re.compile(rb"\s*\{\s*'")


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
_decode_update = msgspec.json.Decoder(message("Update", name=str, display_name=str, priority=Number)).decode


class Created(msgspec.Struct, frozen=True):
    """What the body of a create says: an input file, or `lines`, the inline rows as lines of JSON."""

    display_name: str | None
    priority: int
    file: str | None
    lines: list[bytes]
    all_named: bool
    """Whether every inline row has metadata, without which nobody could tell shuffled results apart."""
    hook: Hook | None = None


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
        batch = _decode(tolerated(body)).batch
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise payload_error(error) from error
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
        whole(batch.priority or 0),
        file,
        lines,
        all(_given(row.metadata) for row in rows),
        _hook(either(batch, "webhook_config")),
    )


def tolerated(body: bytes) -> bytes:
    """A body in single quotes as JSON: the guide's shell samples are written so, and the service takes it."""
    if len(body) > SINGLE_QUOTED_MAX_BYTES or SINGLE_QUOTED.match(body) is None:
        return body
    try:
        return msgspec.json.encode(ast.literal_eval(body.decode().strip()))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return body


def parse_update(body: bytes, mask: str | None) -> dict[str, Any]:
    """What an update changes: `priority` and `display_name`, as far as the mask, if there is one, names them.

    Raises:
        ApiError: 400, which names the place.
    """
    try:
        asked = _decode_update(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise payload_error(error) from error
    names = {snake(each.strip().rpartition(".")[2]) for each in (mask or "").split(",") if each.strip()}
    if unknown := names - {"priority", "display_name"}:
        raise _violation(f"Invalid field mask: {', '.join(sorted(unknown))[:80]}", "update_mask")
    changed: dict[str, Any] = {}
    if "priority" in names or (not names and asked.priority is not None):
        changed["priority"] = whole(asked.priority or 0)
    if "display_name" in names or (not names and either(asked, "display_name") is not None):
        changed["display_name"] = either(asked, "display_name")
    return changed


def whole(number: float | str) -> int:
    """An int64 out of a proto-JSON number.

    Raises:
        ApiError: 400 beyond 64 bits.
    """
    value = int(number) if isinstance(number, str) and number.lstrip("-").isdigit() else int(float(number))
    if abs(value) >= 1 << 63:
        raise ApiError(400, "Invalid JSON payload received. The value does not fit into 64 bits.")
    return value


def _hook(config: Any) -> Hook | None:
    if config is None or not config.uris:
        return None
    metadata: dict[str, Any] = either(config, "user_metadata") or {}
    return Hook(list(config.uris), metadata)


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
            raise refusal(f"{where}.request", error) from error
    return b'{"request":%b' % _one_line(request) + (b',"metadata":%b}' % _one_line(metadata) if metadata else b"}")


def refusal(where: str, error: RowError) -> ApiError:
    """The 400 for a request that stands at `where` in a body."""
    path = f"{where}{snake(error.path.removeprefix('$'))}".removeprefix(".")
    if not error.unknown:
        return _violation(str(error), path)
    at = f" at '{path}'" if path else ""
    return _violation(f'Invalid JSON payload received. Unknown name "{error.unknown}"{at}: Cannot find field.', path)


def _given(raw: msgspec.Raw) -> bytes:
    """The field's JSON; nothing if it was left out or null."""
    text = bytes(raw)
    return b"" if text == b"null" else text


def _parsed(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise payload_error(error) from error


def _one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text


def _violation(text: str, path: str) -> ApiError:
    violation = {"field": path, "description": text}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return ApiError(400, text, details=[detail])


def payload_error(error: Exception) -> ApiError:
    """The 400 for a body that is not the JSON of its message."""
    if found := UNKNOWN_FIELD.match(str(error)):
        path = re.sub(r"^\$\.?", "", snake(found[2] or ""))
        at = f" at '{path}'" if path else ""
        return _violation(f'Invalid JSON payload received. Unknown name "{found[1]}"{at}: Cannot find field.', path)
    text, _, path = str(error).partition(" - at ")
    place = snake(path.strip("`").removeprefix("$").removeprefix("."))
    return _violation(f"Invalid JSON payload received. {text}", place)
