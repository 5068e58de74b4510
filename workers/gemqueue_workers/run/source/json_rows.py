"""A line of JSON as a row: Gemini's own form, a prompt, contents, or a bare request; the key under one of its names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue_workers.run.source.rows import BadRowError, Prompt, Request, Row, key_of, prompt_row
from gemqueue_workers.run.source.templates import fields_row

if TYPE_CHECKING:
    from gemqueue_workers.run.options import RunOptions

_KEYS: Final = ("key", "custom_id", "id")
"""What a row may call its key; the first that it has counts."""
_OPENAI: Final = frozenset({"method", "url", "body"})
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_FORMS: Final = '{"key", "request"}, {"prompt"} or {"contents", "config"}'


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: str | int | None = None
    custom_id: str | int | None = None
    id: str | int | None = None
    model: str | None = None
    request: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    contents: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()


class _Model(msgspec.Struct):
    model: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_model = msgspec.json.Decoder(_Model).decode
_decode_dict = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder().decode


def json_row(options: RunOptions, number: int, line: bytes) -> Row:
    """The row. Raises ValueError and RecursionError, which ``why_unread`` puts into words."""
    if options.template or options.column:
        return fields_row(options, number, _decode_dict(line))
    if options.key:
        line = _renamed(options.key, line)
    try:
        given = _decode_line(line)
    except msgspec.ValidationError as error:
        return _bare_request(options, number, line, error)
    _check_twice(line)
    _check_model(options, given.model)
    key = key_of(next((name for name in (given.key, given.custom_id, given.id) if name is not None), None), number)
    if given.request:
        if given.prompt or given.contents or given.config:
            raise BadRowError("it has a request and prompt, contents or config; a request holds everything itself")
        return _request_row(options, number, key, bytes(given.request))
    if bool(given.prompt) == bool(given.contents):
        raise BadRowError('it needs exactly one of "request", "prompt" and "contents"')
    asked = bytes(given.prompt) or bytes(given.contents)
    if given.prompt and not asked.startswith(b'"'):
        raise BadRowError('its "prompt" is not a string; "contents" takes parts, files and turns')
    if options.key and given.prompt and not given.config:
        return prompt_row(number, key, _decode(asked))
    config = _decode(given.config) if given.config else None
    return Row(number, key, asked + b"\0" + bytes(given.config), Prompt(_decode(asked), config))


def _renamed(name: str, line: bytes) -> bytes:
    """A line whose key stands under another name; other fields that no row has are left out."""
    fields = _decode_raws(line)
    if name not in fields:
        raise BadRowError(f"it has no {name!r}, which --key names")
    known = {field: fields[field] for field in ("model", "request", "prompt", "contents", "config") if field in fields}
    return msgspec.json.encode({"key": fields[name], **known})


def _request_row(options: RunOptions, number: int, key: str, request: bytes) -> Row:
    _no_config(options)
    if b'"model"' not in request:
        return Row(number, key, request, Request(request))
    _check_model(options, _decode_model(request).model)
    return Row(number, key, request, Request(request, drop=("model",)))


def _bare_request(options: RunOptions, number: int, line: bytes, error: msgspec.ValidationError) -> Row:
    """A line that is a request by itself, as one sample of the batch guide has it (protocol section 9.1)."""
    fields = _decode_dict(line)
    if fields.keys() >= _OPENAI:
        raise BadRowError(f"it is a row of OpenAI's batch format; a run takes {_FORMS}")
    if not {"contents", "content"} & fields.keys() or {"prompt", "request", "config"} & fields.keys():
        unknown = sorted(fields.keys() - {*_KEYS, "model", "request", "prompt", "contents", "config"})
        raise BadRowError(f"it has {unknown[0]!r}, which no row has; a run takes {_FORMS}" if unknown else str(error))
    _check_twice(line)
    _check_model(options, fields.get("model"))
    name = next((name for name in _KEYS if name in fields), "key")
    return Row(number, key_of(fields.get(name), number), line.strip(), Request(line, drop=(name, "model")))


def _check_model(options: RunOptions, model: object) -> None:
    """Raise BadRowError for a row of another model than the run's."""
    if model is None:
        return
    if not isinstance(model, str) or model.removeprefix("models/") != options.model.removeprefix("models/"):
        raise BadRowError(f"its model is {str(model)[:60]!r} and the run's is {options.model}: a run has one model")


def _check_twice(line: bytes) -> None:
    """Raise BadRowError for a field of the row that stands in it twice: nobody knows which of them counts."""
    if max(line.count(b'"%b"' % name) for name in (b"prompt", b"contents", b"request", b"config", b"key")) < 2:
        return
    names: list[str] = [name for name, _ in json.loads(line, object_pairs_hook=lambda pairs: pairs)]
    for name in names:
        if names.count(name) > 1:
            raise BadRowError(f"it has {name!r} twice")


def _no_config(options: RunOptions) -> None:
    if options.config is not None:
        raise BadRowError("--config does not reach a row with a request of its own; put the config into the request")


def why_unread(error: Exception, line: bytes) -> str:
    """Why a line cannot be read."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        if _SURROGATE.search(_PAIR.sub(b"", line)):
            return "it holds half of a surrogate pair: a text that was cut in the middle of an emoji; cut it elsewhere"
        if re.search(rb"[:,\[]\s*-?(?:NaN|Infinity)\b", line):
            return "it holds NaN or Infinity, which JSON does not have; write null, or leave the field out"
    return str(error)
