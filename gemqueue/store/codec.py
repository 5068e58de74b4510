"""Bytes at rest: zstd level 1, in a thread when there is enough of it to be worth the hop."""

from __future__ import annotations

import asyncio
import threading

import zstandard

from gemqueue.sealing.box import is_sealed

_INLINE_BYTES_MAX = 16_384
_UNTOLD_BYTES_MIN = 32_000_000
_UNTOLD_BYTES_MAX = 256_000_000
_UNTOLD_RATIO = 1_000
_local = threading.local()


def compress(data: bytes) -> bytes:
    """``data`` as one zstd frame that knows its length, with a checksum: a turned bit does not pass."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    return compressor.compress(data)


def expand(blob: bytes, bytes_max: int | None = None) -> bytes:
    """The data of one frame, at most ``bytes_max`` of it; for more nothing is allocated. Raises ValueError.

    Where no record says how much it may be: a thousand times the frame, at least 32 MB and at most 256 MB.
    """
    if bytes_max is None:
        bytes_max = min(max(_UNTOLD_BYTES_MIN, _UNTOLD_RATIO * len(blob)), _UNTOLD_BYTES_MAX)
    try:
        size = zstandard.frame_content_size(blob)
        if size < 0:
            raise ValueError("a zstd frame that does not say its length")
        if size > bytes_max:
            raise ValueError(f"a zstd frame of {size} bytes where {bytes_max} are the most")
        decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(blob, allow_extra_data=False)
    except zstandard.ZstdError as error:
        what = "sealed, and does not open: its key was destroyed, or it was changed" if is_sealed(blob) else str(error)
        raise ValueError(f"not a zstd frame: {what}") from error


async def compress_async(data: bytes) -> bytes:
    """``compress`` without holding up the event loop."""
    return compress(data) if len(data) <= _INLINE_BYTES_MAX else await asyncio.to_thread(compress, data)


async def expand_async(blob: bytes, bytes_max: int | None = None) -> bytes:
    """``expand`` without holding up the event loop."""
    if len(blob) <= _INLINE_BYTES_MAX:
        return expand(blob, bytes_max)
    return await asyncio.to_thread(expand, blob, bytes_max)
