"""The line splitter and the upload's re-chunker under arbitrary cuts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue_adapters import upload
from gemqueue_adapters.lines import LineSplitter, LineTooLong
from gemqueue_adapters.upload import rechunk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CUT_BYTES = st.lists(st.binary(max_size=12).map(lambda raw: raw.translate(bytes(b"\n\r a"[b % 4] for b in range(256)))))


def split(pieces: list[bytes], line_bytes_max: int = 1000) -> list[bytes]:
    splitter = LineSplitter(line_bytes_max)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()


async def rechunked(pieces: list[bytes], size_bytes: int, chunk_bytes: int) -> list[list[bytes]]:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [chunk async for chunk in rechunk(source(), size_bytes=size_bytes, chunk_bytes=chunk_bytes)]


@given(CUT_BYTES)
def test_cuts_do_not_matter(pieces: list[bytes]) -> None:
    """However the stream is cut, the lines are those of the whole: without line ends, none empty."""
    whole = (line.removesuffix(b"\r") for line in b"".join(pieces).split(b"\n"))
    assert split(pieces) == [line for line in whole if line]


@given(CUT_BYTES, st.integers(1, 8))
def test_a_long_line_is_refused_wherever_the_cuts_are(pieces: list[bytes], line_bytes_max: int) -> None:
    """A line over the limit is refused by its number, and nothing else is."""
    whole = b"".join(pieces).split(b"\n")
    too_long = [number for number, line in enumerate(whole, 1) if len(line) > line_bytes_max]
    if not too_long:
        split(pieces, line_bytes_max)
        return
    with pytest.raises(LineTooLong) as caught:
        split(pieces, line_bytes_max)
    assert caught.value.number == too_long[0]


def test_other_line_separators_stay_in_the_line() -> None:
    """Only a newline ends a line: U+2028, form feeds and lone carriage returns are text."""
    assert split([b'"\xe2\x80\xa8\x0c"\r"x"\n']) == [b'"\xe2\x80\xa8\x0c"\r"x"']


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_rechunking_keeps_the_bytes_and_the_sizes(pieces: list[bytes], chunk_bytes: int) -> None:
    """Every chunk but the last is full, the last is not empty (unless all is), and the bytes are the same."""
    whole = b"".join(pieces)
    lots = asyncio.run(rechunked(pieces, len(whole), chunk_bytes))
    assert all(all(lot) for lot in lots)
    chunks = list(map(b"".join, lots))
    assert b"".join(chunks) == whole
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= chunk_bytes or not whole


@pytest.mark.parametrize("announced", [3, 5])
async def test_a_wrong_size_never_gets_its_last_chunk(announced: int) -> None:
    """An input longer or shorter than announced raises before the chunk that would finish the file."""
    with pytest.raises(ValueError, match="announced"):
        await rechunked([b"ab", b"cd"], announced, 8)


@given(st.lists(st.binary(max_size=9)), st.integers(1, 7), st.integers(0, 60))
def test_pieces_are_what_follows_the_skipped_bytes(parts: list[bytes], piece_bytes: int, skip: int) -> None:
    """However a lot is cut and wherever a resumed upload goes on, its pieces are the rest, none empty or too large."""

    async def gathered() -> list[bytes]:
        return [piece async for piece in upload.pieces_of(parts, skip)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload, "PIECE_BYTES", piece_bytes)
        pieces = asyncio.run(gathered())
    assert b"".join(pieces) == b"".join(parts)[skip:]
    assert all(0 < len(piece) <= piece_bytes for piece in pieces)
