"""How many tokens a prompt counts: as many as its contents are worth, whatever the model, the seed or the JSON around.

The pieces stand in for the service's own vocabulary. Their lengths were chosen so that texts in fifteen languages, code
and JSON come within a tenth, most of them, of what the gemma3 tokenizer counts, which google-genai counts the tokens of
gemini models with (its ``_local_tokenizer_loader``). What is counted is what that client counts: texts, and the words
in tools, calls and schemas.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gemqueue_adapters.emulator.proto import fields, items, pick

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA_TOKENS = 258
"""A small image, or a page (https://ai.google.dev/gemini-api/docs/tokens); here any part that is no text."""

_PIECE = re.compile(
    r"\d"
    r"|[A-Z\u00c0-\u00de\u0100-\u024f]?[a-z\u00df-\u00ff\u1ea0-\u1eff]{1,7}"
    r"|[A-Z]{1,2}"
    r"|[\u0400-\u04ff]{1,5}"  # Cyrillic
    r"|[\u0370-\u03ff]{1,3}"  # Greek
    r"|[\u0590-\u08ff]{1,3}"  # Hebrew, Arabic
    r"|[\u0900-\u0dff]{1,4}"  # scripts of India
    r"|[\u0e00-\u0fff]{1,3}"  # Thai, Lao, Tibetan
    r"|[\u3400-\u4fff]|[\u5000-\u9fff]{1,2}"  # Han
    r"|[\u3040-\u30ff]{1,4}"  # Kana
    r"|[\uac00-\ud7af]{1,2}"  # Hangul
    r"|\n+|[ \t]{2,}| (?=\d)"
    r"|[!-/:-@\[-`{-~]{1,3}"
    r"|[^\s\w]|\w"
)
_KEYWORDS = frozenset(
    {
        "type", "properties", "items", "required", "enum", "description", "anyOf", "title", "args", "response",
        "name", "parameters", "functionDeclarations", "function_declarations", "parametersJsonSchema",
        "parameters_json_schema",
    }
)  # fmt: skip


def text_tokens(text: str) -> int:
    """The pieces of a text; white space between words belongs to them."""
    return len(_PIECE.findall(text))


def prompt_tokens(request: dict[str, Any]) -> int:
    """What a GenerateContentRequest or an EmbedContentRequest counts; at least 1."""
    contents = [*items(request.get("contents")), request.get("content"), pick(request, "system_instruction")]
    parts = [fields(part) for content in contents for part in items(fields(content).get("parts"))]
    count = sum(_part_tokens(part) for part in parts)
    count += sum(map(text_tokens, _words(request.get("tools"))))
    config = fields(pick(request, "generation_config"))
    count += sum(map(text_tokens, _words(pick(config, "response_schema", "response_json_schema"))))
    return max(1, count)


def _part_tokens(part: dict[str, Any]) -> int:
    if pick(part, "inline_data") is not None or pick(part, "file_data") is not None:
        return MEDIA_TOKENS
    calls = [pick(part, "function_call"), pick(part, "function_response")]
    return text_tokens(str(part.get("text") or "")) + sum(map(text_tokens, _words(calls)))


def _words(value: Any) -> Iterator[str]:
    """Names and texts in tools, calls and schemas; numbers and the words of the form count nothing."""
    if isinstance(value, str):
        yield value
    for each in items(value):
        yield from _words(each)
    for name, each in fields(value).items():
        if name not in _KEYWORDS:
            yield name
        yield from _words(each)
