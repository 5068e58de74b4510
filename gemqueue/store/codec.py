"""Bytes at rest: zstd level 1, in a thread when there is enough of it to be worth the hop."""

from __future__ import annotations

import asyncio
import threading

import zstandard

_INLINE_BYTES_MAX = 16_384
_EXPANDED_BYTES_MAX = 256_000_000
_local = threading.local()


def compress(data: bytes) -> bytes:
    """``data`` as one zstd frame that knows its length."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=1)
    return compressor.compress(data)


def expand(blob: bytes) -> bytes:
    """The data of one frame. Raises ValueError on anything else, or over 256 MB."""
    try:
        size = zstandard.frame_content_size(blob)
        if not 0 <= size <= _EXPANDED_BYTES_MAX:
            raise ValueError(f"a frame of {size} bytes")
        decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(blob)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error


async def compress_async(data: bytes) -> bytes:
    """``compress`` without holding up the event loop."""
    return compress(data) if len(data) <= _INLINE_BYTES_MAX else await asyncio.to_thread(compress, data)


async def expand_async(blob: bytes) -> bytes:
    """``expand`` without holding up the event loop."""
    return expand(blob) if len(blob) <= _INLINE_BYTES_MAX else await asyncio.to_thread(expand, blob)
