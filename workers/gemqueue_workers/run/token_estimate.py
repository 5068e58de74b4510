"""How many tokens a request will be charged for, before it is sent: weights for classes of characters.

The weights were fitted to the gemma3 tokenizer, with which google-genai counts the tokens of gemini models
(``_local_tokenizer_loader``): 11,373 texts in twenty languages, code, JSON and emoji. Their sum came within a tenth of
it, and so did most languages; Finnish is estimated a third too low. Four bytes a token, the rule of thumb, is a
quarter too low over all of them, and half for JSON and numbers. What is counted is what that client counts: texts,
and the words in tools, calls and schemas.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEDIA_TOKENS: Final = 258
"""A small image, or a page of a document (https://ai.google.dev/gemini-api/docs/tokens)."""


class Tokens(NamedTuple):
    """An estimate, not rounded, so that sums are right; ``media`` parts, MEDIA_TOKENS each, may be many times that."""

    total: float
    media: int = 0


_A, _GAP = 0x61, 0x20
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS: Final = frozenset(b"0123456789")
_MARKS: Final = frozenset(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def _runs(kept: Iterable[int]) -> bytes:
    """A table for ``translate``: what is not kept becomes a gap, so that ``split`` counts the runs."""
    return bytes(_A if byte in frozenset(kept) else _GAP for byte in range(256))


def _all_but(kept: frozenset[int]) -> bytes:
    return bytes(byte for byte in range(256) if byte not in kept)


_WORDS, _MARK_RUNS, _LINE_ENDS = _runs(_LETTERS), _runs(_MARKS), _runs(b"\n")
_NO_LETTERS, _NO_DIGITS = _all_but(_LETTERS), _all_but(_DIGITS)
_BLANKS: Final = re.compile(r"[ \t]{2,}|(?<=\S) (?=\d)")
_HUMPS: Final = re.compile(r"(?<=[A-Za-z])[A-Z]")
_LATIN: Final = re.compile(r"[\u00c0-\u024f\u1e00-\u1eff]")

# By the high byte of a UTF-16 unit: the first and the last of a range, and what a character of it weighs.
_BLOCKS: Final = (
    (0x01, 0x02, 0.40),  # Latin, extended
    (0x03, 0x03, 0.38),  # Greek
    (0x04, 0x04, 0.30),  # Cyrillic
    (0x05, 0x08, 0.40),  # Hebrew, Arabic
    (0x09, 0x0D, 0.33),  # scripts of India
    (0x0E, 0x0F, 0.33),  # Thai, Lao, Tibetan
    (0x10, 0x1D, 0.33),
    (0x1F, 0x1F, 0.38),
    (0x20, 0x2F, 0.80),  # symbols
    (0x30, 0x30, 0.46),  # Kana
    (0x31, 0x9F, 0.66),  # Han
    (0xA0, 0xAB, 0.33),
    (0xAC, 0xD7, 0.66),  # Hangul
    (0xD8, 0xDB, 1.10),  # the first half of an emoji; the second weighs nothing
    (0xE0, 0xFF, 0.90),  # full-width forms, variation selectors
)


def text_tokens(text: str) -> float:
    """The estimate for one text."""
    count = 0.0
    if not text.isascii():
        high = text.encode("utf-16-be", "surrogatepass")[::2]
        count += sum(weight * len(high.translate(None, others)) for others, weight in _CLASSES)
        text, letters = _LATIN.subn("x", text)  # they are letters of words like the others
        count += 0.08 * letters
    raw = text.encode("utf-8", "replace")
    count += 0.72 * len(raw.translate(_WORDS).split()) + 0.085 * len(raw.translate(None, _NO_LETTERS))
    count += 0.3 * len(_HUMPS.findall(text)) + len(raw.translate(None, _NO_DIGITS))
    count += 0.97 * len(raw.translate(_MARK_RUNS).split()) + len(raw.translate(_LINE_ENDS).split())
    return count + len(_BLANKS.findall(text))


_CLASSES: Final = tuple((_all_but(frozenset(range(first, last + 1))), weight) for first, last, weight in _BLOCKS)
_KEYWORDS: Final = frozenset(
    {
        "type", "properties", "items", "required", "enum", "description", "anyOf", "title", "args", "response",
        "name", "parameters", "functionDeclarations", "parametersJsonSchema",
    }
)  # fmt: skip
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def request_tokens(request: bytes) -> Tokens:
    """What a request in the REST form will count; at least 1."""
    fields = _decode(request)
    contents: list[Any] = [*fields.get("contents", ()), fields.get("content"), fields.get("systemInstruction")]
    parts: list[dict[str, Any]] = [part for content in contents if content for part in content.get("parts", ())]
    media = sum("inlineData" in part or "fileData" in part for part in parts)
    count = sum(text_tokens(part["text"]) for part in parts if part.get("text"))
    config: dict[str, Any] = fields.get("generationConfig") or {}
    words = [part.get(name) for part in parts for name in ("functionCall", "functionResponse")]
    words += [fields.get("tools"), config.get("responseSchema"), config.get("responseJsonSchema")]
    count += sum(map(text_tokens, _words(words)))
    return Tokens(max(1.0, count + media * MEDIA_TOKENS), media)


def _words(value: object) -> Iterator[str]:
    """Names and texts in tools, calls and schemas; numbers and the words of the form count nothing."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _words(each)
    elif isinstance(value, dict):
        for name, each in cast("dict[str, object]", value).items():
            if name not in _KEYWORDS:
                yield name
            yield from _words(each)
