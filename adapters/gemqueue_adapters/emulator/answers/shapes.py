"""What a faulty row looks like in a result file, in the shapes of protocol section 9.3."""

from __future__ import annotations

from typing import Any

import msgspec

from gemqueue_adapters.emulator.faults import ROW_ERRORS

ANSWERED = "answered"
REROUTED = "gemini-3.6-flash"
"""The model that a row's fault "rerouted" has answered by, where it names none."""
BOUGHT = frozenset({ANSWERED, "doubled", "max_tokens", "rerouted", "wrong_shape"})
"""Outcomes that hold an answer with text in it: what the ledger counts as bought."""


def error(name: str, code: int, message: str | None) -> bytes:
    """The error of a failed row, as JSON: a google.rpc.Status, whose empty message is left out."""
    known_code, known_message = ROW_ERRORS.get(name, (code, "Error."))
    text = known_message if message is None else message
    return msgspec.json.encode({"code": known_code, "message": text} if text else {"code": known_code})


def reshaped(name: str, response: bytes, model: str = "") -> bytes:
    """The response of a row that is a success without a usable answer, or is said to be another model's, `model`.

    Unchanged for faults that are none of these.
    """
    if name == "rerouted":
        return msgspec.json.encode(msgspec.json.decode(response) | {"modelVersion": f"emulator/{model or REROUTED}"})
    if name not in _SHAPES:
        return response
    value: dict[str, Any] = msgspec.json.decode(response)
    if "candidates" in value:
        _SHAPES[name](value)
    elif name != "max_tokens":
        del value["embedding"]
    return msgspec.json.encode(value)


def _blocked(value: dict[str, Any]) -> None:
    del value["candidates"]
    value["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    _count(value, 0)


def _withheld(reason: str) -> Any:
    def shape(value: dict[str, Any]) -> None:
        value["candidates"] = [{"finishReason": reason, "index": 0}]
        _count(value, 0)

    return shape


def _cut(value: dict[str, Any]) -> None:
    candidate = value["candidates"][0]
    candidate["finishReason"] = "MAX_TOKENS"
    part = candidate["content"]["parts"][0]
    text = part.get("text", "")
    candidate["content"]["parts"] = [{"text": text[: max(10, len(text) // 2)]}]
    _count(value, max(1, len(text) // 8))


def _empty(value: dict[str, Any]) -> None:
    value["candidates"][0]["content"] = {"role": "model"}
    _count(value, 0)


def _misshapen(value: dict[str, Any]) -> None:
    part = value["candidates"][0]["content"]["parts"][0]
    try:
        given = msgspec.json.decode(part.get("text", ""))
    except msgspec.DecodeError:
        return  # cut short, or no JSON at all
    # No list where an object is asked, no object of that name where anything else is.
    part["text"] = msgspec.json.encode([given] if isinstance(given, dict) else {"answer": given}).decode()


def _count(value: dict[str, Any], answer_tokens: int) -> None:
    usage = value["usageMetadata"]
    usage.pop("candidatesTokenCount", None)
    if answer_tokens:
        usage["candidatesTokenCount"] = answer_tokens
    usage["totalTokenCount"] = usage["promptTokenCount"] + answer_tokens


_SHAPES = {
    "blocked": _blocked,
    "safety": _withheld("SAFETY"),
    "recitation": _withheld("RECITATION"),
    "max_tokens": _cut,
    "max_tokens_empty": _withheld("MAX_TOKENS"),
    "empty": _empty,
    "wrong_shape": _misshapen,
}
