"""Bitmaps over the prompts of a segment, bit for bit as Redis's SETBIT has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_ONE = ord("1")


def has_bit(bits: bytes | bytearray, index: int) -> bool:
    """Whether a bit is set; beyond the map's end none is."""
    at = index >> 3
    return at < len(bits) and bool(bits[at] & (0x80 >> (index & 7)))


def of(indices: Iterable[int], count: int) -> bytes:
    """The map of ``count`` bits with ``indices`` set."""
    size = (count + 7) // 8
    digits = bytearray(b"0") * (8 * size)
    for index in indices:
        digits[index] = _ONE
    return int(digits, 2).to_bytes(size, "big") if size else b""


def clear_bits(bits: bytes | bytearray, count: int) -> Iterator[int]:
    """The indices below ``count`` that are not set."""
    for index in range(count):
        if not has_bit(bits, index):
            yield index


def any_of(bits: bytes | bytearray) -> bool:
    """Whether any bit is set."""
    return any(bits)
