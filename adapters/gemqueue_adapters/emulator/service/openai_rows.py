"""Rows in OpenAI's format: into native ones when a batch is created, and results back when it has run (section 12)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from gemqueue_adapters.emulator.proto import fields, items
from gemqueue_adapters.emulator.rows import Kind, RowError
from gemqueue_adapters.emulator.wire import STATUS_NAMES

if TYPE_CHECKING:
    from pathlib import Path

KINDS: dict[str, Kind] = {"/v1/chat/completions": "generate", "/v1/embeddings": "embed"}
HTTP_CODES = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 14: 503}
"""google.rpc code of a failed row to the HTTP status that its line shows; all others are 500."""

FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
NUMBERS = {
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}


class _Line(msgspec.Struct):
    custom_id: str
    body: dict[str, Any]
    url: str
    method: str = "POST"


_decode = msgspec.json.Decoder(_Line).decode


def to_native(endpoint: str, source: Path, target: BinaryIO) -> str:
    """Write the rows of `source` into `target` as native ones; the model that all of them name.

    Raises:
        RowError: for the first line that cannot be, or that names another model.
    """
    model = ""
    with source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                target.write(b"\n")
                continue
            try:
                key, named, native = _converted(endpoint, line)
                if model not in {"", named}:
                    raise RowError("every row must name the same model")  # noqa: TRY301 - the line is named below
            except RowError as error:
                raise RowError(f"Error on line {number}: {error}") from error
            model = named
            target.write(msgspec.json.encode({"key": key, "request": native}) + b"\n")
    return model


def from_native(source: Path, target: Path, model: str, seconds: int) -> None:
    """Write results in OpenAI's format; lines that a fault has broken stay as they are."""
    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            try:
                row = fields(msgspec.json.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                out.write(line)
            else:
                out.write(msgspec.json.encode(_result(row, model, seconds)) + b"\n")


def _converted(endpoint: str, line: bytes) -> tuple[str, str, dict[str, Any]]:
    """The key, the model and the native request of one line."""
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RowError(f"invalid JSON: {error}") from error
    if row.url != endpoint or row.method != "POST":
        raise RowError(f"method and url must be POST {endpoint}")
    model = str(row.body.get("model") or "").removeprefix("models/")
    if not model:
        raise RowError("model is required")
    native = _generate(row.body) if KINDS[endpoint] == "generate" else _embed(row.body)
    return row.custom_id, model, native


def _generate(body: dict[str, Any]) -> dict[str, Any]:
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    for each in items(body.get("messages")):
        message = fields(each)
        role = str(message.get("role"))
        if role in {"system", "developer"}:
            system.extend(_parts(message))
        else:
            contents.append({"role": "model" if role == "assistant" else "user", "parts": _parts(message)})
    request: dict[str, Any] = {"contents": contents}
    if system:
        request["systemInstruction"] = {"parts": system}
    if config := _config(body):
        request["generationConfig"] = config
    functions = [fields(fields(tool).get("function")) for tool in items(body.get("tools"))]
    if functions:
        request["tools"] = [{"functionDeclarations": [_declared(function) for function in functions]}]
        modes = {"none": "NONE", "required": "ANY"}
        if mode := modes.get(str(body.get("tool_choice"))):
            request["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
    return request


def _declared(function: dict[str, Any]) -> dict[str, Any]:
    names = {"name": "name", "description": "description", "parameters": "parametersJsonSchema"}
    return {native: function[name] for name, native in names.items() if function.get(name) is not None}


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        response = {"name": str(message.get("tool_call_id") or ""), "response": {"result": content}}
        return [{"functionResponse": response}]
    if isinstance(content, str):
        return [{"text": content}]
    parts: list[dict[str, Any]] = []
    for each in items(content):
        part = fields(each)
        if part.get("type") == "text":
            parts.append({"text": str(part.get("text"))})
        elif part.get("type") == "image_url":
            parts.append(_image(str(fields(part.get("image_url")).get("url"))))
    for call in items(message.get("tool_calls")):
        function = fields(fields(call).get("function"))
        parts.append({"functionCall": {"name": str(function.get("name")), "args": {}}})
    if not parts:
        raise RowError("a message has no content")
    return parts


def _image(url: str) -> dict[str, Any]:
    head, comma, data = url.partition(",")
    if head.startswith("data:") and comma:
        return {"inlineData": {"mimeType": head.removeprefix("data:").removesuffix(";base64"), "data": data}}
    return {"fileData": {"fileUri": url}}


def _config(body: dict[str, Any]) -> dict[str, Any]:
    config = {native: body[name] for name, native in NUMBERS.items() if body.get(name) is not None}
    stop = body.get("stop")
    if stop is not None:
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    wanted = fields(body.get("response_format"))
    if wanted.get("type") in {"json_object", "json_schema"}:
        config["responseMimeType"] = "application/json"
    schema = fields(wanted.get("json_schema")).get("schema")
    if schema is not None:
        config["responseJsonSchema"] = schema
    return config


def _embed(body: dict[str, Any]) -> dict[str, Any]:
    text = body.get("input")
    texts = [text] if isinstance(text, str) else items(text)
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise RowError("a row embeds one text")
    request: dict[str, Any] = {"content": {"parts": [{"text": texts[0]}]}}
    if body.get("dimensions") is not None:
        request["outputDimensionality"] = body["dimensions"]
    return request


def _result(row: dict[str, Any], model: str, seconds: int) -> dict[str, Any]:
    key = str(row.get("key", ""))
    request_id = f"{zlib.crc32(key.encode()):08x}"
    error = fields(row.get("error"))
    status = HTTP_CODES.get(int(error.get("code", 13)), 500) if error else 200
    if error:
        name = STATUS_NAMES.get(status, "UNKNOWN")
        body: dict[str, Any] = {"error": {"code": status, "message": error.get("message", ""), "status": name}}
    else:
        body = _body(fields(row.get("response")), model, seconds)
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": f"batch_req_{request_id}", "custom_id": key, "response": response, "error": None}


def _body(response: dict[str, Any], model: str, seconds: int) -> dict[str, Any]:
    usage = fields(response.get("usageMetadata"))
    prompt, answered = int(usage.get("promptTokenCount", 0)), int(usage.get("candidatesTokenCount", 0))
    if "promptTokenCount" in usage and "candidates" not in response and "promptFeedback" not in response:
        vector = fields(response.get("embedding")).get("values", [])
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": vector}],
            "model": model,
            "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
        }
    return {
        "id": str(response.get("responseId", "")),
        "object": "chat.completion",
        "created": seconds,
        "model": str(response.get("modelVersion", model)),
        "choices": [_choice(fields(each)) for each in items(response.get("candidates"))],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered},
    }


def _choice(candidate: dict[str, Any]) -> dict[str, Any]:
    parts = [fields(part) for part in items(fields(candidate.get("content")).get("parts"))]
    texts = [str(part["text"]) for part in parts if "text" in part]
    calls = [fields(part["functionCall"]) for part in parts if "functionCall" in part]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{place}",
                "type": "function",
                "function": {
                    "name": call.get("name"),
                    "arguments": msgspec.json.encode(call.get("args", {})).decode(),
                },
            }
            for place, call in enumerate(calls)
        ]
    reason = "tool_calls" if calls else FINISH.get(str(candidate.get("finishReason")), "content_filter")
    return {"index": int(candidate.get("index", 0)), "finish_reason": reason, "message": message}
