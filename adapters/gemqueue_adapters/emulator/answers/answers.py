"""The emulator's answers: pure functions of the request, the model and the seed.

The job runner, the interactive endpoints and `POST /_emulator/expect` call the same functions, so a test can always
say which answer a prompt must get. Every text begins with "[emulated]" and carries a digest of the whole request, so
that a wrong answer never passes for the right one.

Mode "full" decodes the request; the digest covers its JSON value. Mode "echo" is for benchmarks: nothing is decoded,
and the digest is a checksum of the request's bytes, so `expect` must be given the very bytes that the row held. Words
follow it until the answer is about as long as its request.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gemqueue_adapters.emulator.answers.parts import spoken
from gemqueue_adapters.emulator.answers.tokens import prompt_tokens
from gemqueue_adapters.emulator.proto import fields, pick

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue_adapters.emulator.rows import Kind

Mode = Literal["full", "echo"]
Buffer = bytes | msgspec.Raw

DIMENSIONS_DEFAULT = 3072
DIMENSIONS_MAX = 8192

_ECHO_HEAD = b'{"candidates":[{"content":{"parts":[{"text":"[emulated] '
_ECHO_TAIL = (
    b'"}],"role":"model"},"finishReason":"STOP",'
    b'"index":0}],"usageMetadata":{"promptTokenCount":%d,"candidatesTokenCount":%d,"totalTokenCount":%d},'
    b'"modelVersion":"emulator/%b","responseId":"'
)
_ECHO_FRAME_BYTES = 260
_SIZES_MAX = 10_000
_TEXT_WORDS = 300_000
_ECHO_EMBED = b'{"embedding":{"values":[%.9f,%.9f]},"usageMetadata":{"promptTokenCount":%d,"totalTokenCount":%d}}'


def answer(kind: Kind, mode: Mode, model: str, request: Buffer, seed: int = 0) -> bytes:
    """The response, as JSON, that a request gets from `model` (a bare id)."""
    return answerer(kind, mode, model, seed)(request)


def answerer(kind: Kind, mode: Mode, model: str, seed: int = 0) -> Callable[[Buffer], bytes]:
    """The function from a request's bytes to its response's, for all rows of one job."""
    make = {
        ("generate", "full"): generate_answer,
        ("generate", "echo"): generate_echo,
        ("embed", "full"): embed_answer,
        ("embed", "echo"): embed_echo,
    }[kind, mode]
    return make(model, seed)


def generate_answer(model: str, seed: int) -> Callable[[Buffer], bytes]:
    """Answers of generateContent: text, or what else the request asks for."""
    encode = msgspec.json.Encoder().encode

    def respond(request: Buffer) -> bytes:
        """The response to one request, as JSON."""
        value = msgspec.json.decode(request)
        digest, asked_tokens = digest_of(value, model, seed), prompt_tokens(value)
        said = [spoken(value, model, each) for each in _digests(digest, value)]
        answer_tokens = sum(tokens for *_, tokens in said)
        return encode(
            {
                "candidates": [
                    {"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": index}
                    for index, (parts, reason, _) in enumerate(said)
                ],
                "usageMetadata": {
                    "promptTokenCount": asked_tokens,
                    "candidatesTokenCount": answer_tokens,
                    "totalTokenCount": asked_tokens + answer_tokens,
                },
                "modelVersion": f"emulator/{model}",
                "responseId": digest,
            }
        )

    return respond


def embed_answer(model: str, seed: int) -> Callable[[Buffer], bytes]:
    """Answers of embedContent: a vector of the asked dimension and of unit length."""
    encode = msgspec.json.Encoder().encode

    def respond(request: Buffer) -> bytes:
        value = msgspec.json.decode(request)
        digest, tokens = digest_of(value, model, seed), prompt_tokens(value)
        usage = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        return encode({"embedding": {"values": _vector(digest, _dimensions(value))}, "usageMetadata": usage})

    return respond


def generate_echo(model: str, _seed: int) -> Callable[[Buffer], bytes]:
    """Answers of generateContent that cost about a microsecond: the text is a checksum of the request's bytes."""
    name, text, crc32 = model.encode(), _words_to_say(), zlib.crc32
    by_size: dict[int, tuple[bytes, int]] = {}  # what all requests of one length have in common

    def common(size_bytes: int) -> tuple[bytes, int]:
        if len(by_size) > _SIZES_MAX:
            by_size.clear()
        prompt, answered = echo_tokens(size_bytes)
        tail = _ECHO_TAIL % (prompt, answered, prompt + answered, name)
        by_size[size_bytes] = found = tail, size_bytes - _ECHO_FRAME_BYTES
        return found

    def respond(request: Buffer) -> bytes:
        size_bytes = len(request)
        tail, words_bytes = by_size.get(size_bytes) or common(size_bytes)
        checksum = crc32(request)
        digest = b"%08x" % checksum
        return b"".join((_ECHO_HEAD, digest, _words(text, checksum, words_bytes), tail, digest, b'"}'))

    return respond


def echo_tokens(request_bytes: int) -> tuple[int, int]:
    """What a request of this length counts in echo mode, and what its answer of generateContent counts."""
    return request_bytes // 4 + 1, max(0, request_bytes - _ECHO_FRAME_BYTES) // 4 + 5


@cache
def _words_to_say() -> bytes:
    """A long text of made-up words, which compresses about as well as ordinary text."""
    dice = random.Random(0)
    syllables = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(dice.choices(syllables, k=1 + n % 4)) for n in range(1_500)]
    return (" " + " ".join(dice.choices(words, k=_TEXT_WORDS))).encode()


def _words(text: bytes, checksum: int, size_bytes: int) -> bytes:
    """Words of this length, from another place of the text for another checksum."""
    if size_bytes <= 0:
        return b""
    start = checksum % len(text)
    words = text[start : start + size_bytes]
    while len(words) < size_bytes:
        words += text[: size_bytes - len(words)]
    return words


def embed_echo(_model: str, _seed: int) -> Callable[[Buffer], bytes]:
    """Answers of embedContent that cost little: two dimensions, of unit length, made of a checksum."""

    def respond(request: Buffer) -> bytes:
        sine = zlib.crc32(request) / 0xFFFFFFFF
        tokens = len(request) // 4 + 1
        return _ECHO_EMBED % (sine, math.sqrt(1 - sine * sine), tokens, tokens)

    return respond


def digest_of(value: Any, model: str, seed: int) -> str:
    """What tells this request from all others, however its JSON was spaced."""
    canonical = msgspec.json.encode([value, model, seed], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _digests(digest: str, value: dict[str, Any]) -> list[str]:
    """What tells the candidates from each other; the first has the request's own digest."""
    count = int(float(pick(fields(pick(value, "generation_config")), "candidate_count") or 1))
    return [digest, *(f"{digest}-{number}" for number in range(2, count + 1))]


def _dimensions(value: dict[str, Any]) -> int:
    config = fields(pick(value, "embed_content_config"))
    asked = float(pick(value, "output_dimensionality") or pick(config, "output_dimensionality") or DIMENSIONS_DEFAULT)
    return max(1, min(int(asked), DIMENSIONS_MAX))


def _vector(digest: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_128(digest.encode()).digest(2 * dimensions)
    values = [2 * each + 1 for each in struct.unpack(f"<{dimensions}h", raw)]
    length = math.sqrt(sum(each * each for each in values))
    return [each / length for each in values]
