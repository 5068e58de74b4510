"""How many tokens the media of a request count, by what stands in their headers. An estimate, for packing. Pure.

Counted as the provider's guide does (https://ai.google.dev/gemini-api/docs/tokens): 258 tokens for each tile of a
picture and each page of a document, 32 for each second of sound and 263 for each of video. Their base64 would be a
hundred times that, and fill a batch with a handful of pictures.
"""

from __future__ import annotations

import base64
import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TILE_TOKENS: Final = 258
_TILE_PIXELS: Final = 768
_SOUND_TOKENS_A_S: Final = 32
_VIDEO_TOKENS_A_S: Final = 263
_HEAD_BYTES: Final = 65_536
_PDF_BYTES: Final = 4_000_000
_PAGE_BYTES: Final = 50_000
_MP3_BYTES_A_S: Final = 16_000
_WAV_BYTES_A_S: Final = 32_000
_VIDEO_BYTES_A_S: Final = 250_000
_INLINE: Final = re.compile(
    rb'"inlineData":\{"data":"([A-Za-z0-9+/_=-]*)"(?:,"displayName":"(?:[^"\\]|\\.)*")?,"mimeType":"([^"]*)"'
)
_JPEG_SIZE: Final = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..\x08(..)(..)", re.DOTALL)
_PDF_PAGE: Final = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
MARK: Final = b'"inlineData"'
"""What a request with media of its own holds."""


def tokens_with_media(request: bytes) -> int:
    """The estimate for a request in its canonical form: four bytes a token, and its inline media by their headers."""
    found = list(_INLINE.finditer(request))
    text_bytes = len(request) - sum(len(match[1]) for match in found)
    return text_bytes // 4 + 1 + sum(media_tokens(match[2].decode("ascii", "replace"), match[1]) for match in found)


def media_tokens(mime_type: str, data: bytes) -> int:
    """What one medium counts, of which ``data`` is the base64."""
    size_bytes = len(data) * 3 // 4
    kind = mime_type.partition("/")[0]
    if mime_type == "application/pdf":
        return TILE_TOKENS * _pages(_decoded(data, _PDF_BYTES), size_bytes)
    if kind == "image":
        return TILE_TOKENS * _tiles(_decoded(data, _HEAD_BYTES))
    if kind == "audio":
        return round(_SOUND_TOKENS_A_S * _sound_s(_decoded(data, _HEAD_BYTES), size_bytes)) + 1
    if kind == "video":
        return round(_VIDEO_TOKENS_A_S * _video_s(_decoded(data, _HEAD_BYTES), size_bytes)) + 1
    return size_bytes // 4 + 1


def _decoded(data: bytes, bytes_max: int) -> bytes:
    """The first bytes of it; base64 in either alphabet."""
    head = data[: bytes_max // 3 * 4].translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(head[: len(head) // 4 * 4])


def _pages(head: bytes, size_bytes: int) -> int:
    return len(_PDF_PAGE.findall(head)) or max(1, -(-size_bytes // _PAGE_BYTES))


def _tiles(head: bytes) -> int:
    for magic, size in _PICTURES.items():
        if head.startswith(magic) and (found := size(head)) is not None:
            width, height = found
            return max(1, -(-width // _TILE_PIXELS)) * max(1, -(-height // _TILE_PIXELS))
    return 1


def _at(head: bytes, form: str, offset: int) -> tuple[int, int] | None:
    return struct.unpack_from(form, head, offset) if len(head) >= offset + struct.calcsize(form) else None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    found = _JPEG_SIZE.search(head)
    return (int.from_bytes(found[2]), int.from_bytes(found[1])) if found else None


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8X" and len(head) >= 30:
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    size = _at(head, "<HH", 26) if head[12:16] == b"VP8 " else None
    return (size[0] & 0x3FFF, size[1] & 0x3FFF) if size else None


_PICTURES: Final[dict[bytes, Callable[[bytes], tuple[int, int] | None]]] = {
    b"\x89PNG\r\n\x1a\n": lambda head: _at(head, ">II", 16),
    b"GIF8": lambda head: _at(head, "<HH", 6),
    b"\xff\xd8": _jpeg,
    b"RIFF": _webp,
}


def _sound_s(head: bytes, size_bytes: int) -> float:
    a_second = _MP3_BYTES_A_S
    if head.startswith(b"RIFF"):
        a_second = int.from_bytes(head[28:32], "little") or _WAV_BYTES_A_S
    return size_bytes / a_second


def _video_s(head: bytes, size_bytes: int) -> float:
    at = head.find(b"mvhd")
    if at >= 0 and len(head) >= at + 24 and head[at + 4] == 0:
        scale, duration = int.from_bytes(head[at + 16 : at + 20]), int.from_bytes(head[at + 20 : at + 24])
        if scale and duration:
            return duration / scale
    return size_bytes / _VIDEO_BYTES_A_S
