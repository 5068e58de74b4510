"""What the emulator's model says: text, JSON for a schema, a call of a function, a small picture.

Pure functions of the decoded request and of its digest. A function is called whenever one is declared and the
request does not forbid it, until the last content is the function's response; so a test can order either.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import msgspec

from gemqueue_adapters.emulator.answers.schemas import satisfy
from gemqueue_adapters.emulator.proto import fields, items, pick

EXCERPT_CHARS = 60
CHARS_A_TOKEN = 4
PICTURE_PIXELS = 8


def spoken(value: dict[str, Any], model: str, digest: str) -> tuple[list[dict[str, Any]], str, int]:
    """The parts of an answer, its finish reason, and how many tokens it counts."""
    if call := _called(value, digest):
        return [call], "STOP", _tokens(msgspec.json.encode(call).decode())
    if "-image" in model and (pictured := _pictured(value, digest)):
        return pictured, "STOP", 1290
    text, reason = _text(value, digest), "STOP"
    most = pick(_config(value), "max_output_tokens")
    if most is not None and _tokens(text) > int(float(most)) > 0:
        text, reason = text[: int(float(most)) * CHARS_A_TOKEN], "MAX_TOKENS"
    return [{"text": text}], reason, _tokens(text)


def _tokens(text: str) -> int:
    return max(1, len(text) // CHARS_A_TOKEN)


def _config(value: dict[str, Any]) -> dict[str, Any]:
    return fields(pick(value, "generation_config"))


def _text(value: dict[str, Any], digest: str) -> str:
    config = _config(value)
    if pick(config, "response_mime_type") != "application/json":
        return f"[emulated] {digest} {_excerpt(value)}".rstrip()
    for name in ("response_schema", "response_json_schema"):
        if (schema := pick(config, name)) is not None:
            return msgspec.json.encode(satisfy(schema, digest)).decode()
    return msgspec.json.encode({"emulated": True, "digest": digest}).decode()


def asks_by_json_schema(request: bytes | msgspec.Raw) -> bool:
    """Whether a request asks for structured output by `responseJsonSchema`, and not by `responseSchema`."""
    config = _config(fields(msgspec.json.decode(request)))
    return pick(config, "response_json_schema") is not None and pick(config, "response_schema") is None


def _excerpt(value: dict[str, Any]) -> str:
    for content in reversed(items(value.get("contents"))):
        for part in items(fields(content).get("parts")):
            if text := str(fields(part).get("text") or ""):
                return f"answers: {' '.join(text[:EXCERPT_CHARS].split())}"
    return ""


def _called(value: dict[str, Any], digest: str) -> dict[str, Any] | None:
    """The call of the first function that may be called."""
    config = fields(pick(fields(pick(value, "tool_config")), "function_calling_config"))
    mode = str(config.get("mode") or "AUTO").upper()
    last = fields((items(value.get("contents")) or [None])[-1])
    replied = any(pick(fields(part), "function_response") is not None for part in items(last.get("parts")))
    if mode == "NONE" or (replied and mode != "ANY"):
        return None
    allowed = items(pick(config, "allowed_function_names"))
    for tool in items(value.get("tools")):
        for declared in items(pick(fields(tool), "function_declarations")):
            function = fields(declared)
            if not allowed or function.get("name") in allowed:
                schema = pick(function, "parameters", "parameters_json_schema")
                args: Any = {} if schema is None else satisfy(schema, digest)
                return {"functionCall": {"name": function.get("name"), "args": args}}
    return None


def _pictured(value: dict[str, Any], digest: str) -> list[dict[str, Any]]:
    wanted = [str(each).upper() for each in items(pick(_config(value), "response_modalities"))] or ["TEXT", "IMAGE"]
    if "IMAGE" not in wanted:
        return []
    blob = {"mimeType": "image/png", "data": base64.b64encode(picture(digest)).decode()}
    said = [{"text": f"[emulated] {digest} a picture"}] if "TEXT" in wanted else []
    return [*said, {"inlineData": blob}]


def picture(digest: str) -> bytes:
    """A PNG of one colour, which the digest chooses."""
    row = b"\0" + bytes.fromhex(digest[:6]) * PICTURE_PIXELS
    head = struct.pack(">IIBBBBB", PICTURE_PIXELS, PICTURE_PIXELS, 8, 2, 0, 0, 0)
    body = zlib.compress(row * PICTURE_PIXELS)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
