"""Media count as media, by their headers: base64 is not text."""

from __future__ import annotations

import base64
import io
import struct
import wave
from typing import TYPE_CHECKING

import pytest

from gemqueue.language.gemini.media import TILE_TOKENS, media_tokens
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import token_estimate, token_estimates

if TYPE_CHECKING:
    from collections.abc import Callable


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\0" * 100


def jpeg(width: int, height: int) -> bytes:
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width)
    return b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 12 + frame + b"\0" * 99


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 99


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size + b"\0" * 99


def wav(seconds: int) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * 16_000 * seconds)
    return made.getvalue()


def mp4(seconds: int) -> bytes:
    header = b"mvhd" + b"\0" * 12 + struct.pack(">II", 1000, 1000 * seconds)
    return b"\0\0\0\x18ftypmp42" + b"\0" * 20 + header + b"\0" * 99


def pdf(pages: int) -> bytes:
    return b"%PDF-1.7\n/Type /Pages\n" + b"<< /Type /Page >>\n" * pages


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
@pytest.mark.parametrize(("size", "tiles"), [((300, 200), 1), ((768, 768), 1), ((769, 768), 2), ((1600, 1600), 9)])
def test_a_picture_counts_by_its_tiles(make: Callable[[int, int], bytes], size: tuple[int, int], tiles: int) -> None:
    """Of every usual kind, whatever its bytes."""
    assert media_tokens("image/x", base64.b64encode(make(*size))) == tiles * TILE_TOKENS


@pytest.mark.parametrize(
    ("mime_type", "data", "tokens"),
    [
        ("audio/wav", wav(10), 321),
        ("audio/mp3", b"\xff\xfb" + b"\0" * 159_998, 321),
        ("video/mp4", mp4(10), 2631),
        ("application/pdf", pdf(7), 7 * TILE_TOKENS),
        ("application/pdf", b"%PDF-1.7" + b"\0" * 120_000, 3 * TILE_TOKENS),
        ("image/heic", b"?" * 9_999, TILE_TOKENS),
        ("text/plain", b"x" * 399, 100),
        ("image/png", b"", TILE_TOKENS),
        ("image/png", png(1, 1)[:10], TILE_TOKENS),
    ],
)
def test_media_count_by_their_kind(mime_type: str, data: bytes, tokens: int) -> None:
    """Seconds of sound and video, pages of documents; what has no such header counts as its kind mostly does."""
    assert media_tokens(mime_type, base64.b64encode(data)) == pytest.approx(tokens, abs=2)


def test_a_request_counts_its_text_and_its_media() -> None:
    """Two megabytes of a picture are a few hundred tokens, alone and among others; the text counts as ever."""
    picture = {"inlineData": {"mimeType": "image/png", "data": png(500, 500) + b"\0" * 2_000_000}}
    alone, beside = generate_request(["describe", picture]), generate_request("x" * 400)
    assert token_estimate(alone) < 2 * TILE_TOKENS
    assert token_estimates([alone, beside]) == token_estimate(alone) + len(beside) // 4 + 1
    assert token_estimates([]) == 0
