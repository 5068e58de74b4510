"""IN as bytes, whatever it is: a file, packed or not, a pipe, standard input. What it is is seen by how it begins."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import zstandard

from gemqueue.errors import ConfigError
from gemqueue_workers.run.options import STDIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

BOM: Final = b"\xef\xbb\xbf"
_HEAD_BYTES: Final = 8
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
PACKED_SUFFIXES: Final = frozenset({".gz", ".zst", ".bz2", ".xz"})


def _zstd(path: str) -> IO[bytes]:
    file = Path(path).open("rb")  # noqa: SIM115 - the reader closes it
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
    return cast("IO[bytes]", io.BufferedReader(cast("Any", reader), 1 << 20))


_UNPACKED: Final[tuple[tuple[bytes, Callable[[str], Any]], ...]] = (
    (b"\x1f\x8b", gzip.open),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
"""By how it begins: how it is unpacked, whatever its name."""
_REFUSED: Final = (
    (b"PK\x03\x04", "is a ZIP archive (or a workbook): unpack it, and give one file of rows"),
    (b"PAR1", "is a Parquet file: write its rows as JSON lines, for example with DuckDB or pandas"),
    (b"SQLite f", "is a SQLite database: write its rows as JSON lines or CSV"),
    (b"%PDF-", "is a PDF: a run reads rows of text; a PDF goes into a row's contents as a file"),
)
"""What cannot be read as rows, and the way out."""


def open_source(path: str) -> IO[bytes]:
    """IN as bytes, unpacked. Raises ConfigError when it cannot be opened, or is of a kind that has no rows."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
        for begins, why in _REFUSED:
            if head.startswith(begins):
                raise ConfigError(f"IN {path} {why}")
        made: Callable[[str], Any] = next((made for begins, made in _UNPACKED if head.startswith(begins)), _plain)
        opened = cast("IO[bytes]", made(path))
    except OSError as error:
        raise ConfigError(f"IN {path}: {error.strerror or error}") from error
    return opened


def _plain(path: str) -> IO[bytes]:
    return Path(path).open("rb")


def refuse_wide(source: str, first: bytes) -> None:
    """Raise ConfigError for UTF-16."""
    if first.startswith(_WIDE_BOMS):
        raise ConfigError(f"IN {source} is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)")


def is_stream(path: str) -> bool:
    """Whether it is a pipe or a device, which can be read only once: ``<(command)``, a named pipe, /dev/stdin."""
    return path != STDIO and Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()


def readable_twice(source: str, stack: ExitStack) -> str:
    """IN, or a copy of it where it comes only once: standard input, a pipe. Raises ConfigError where that does not fit.

    Nothing has begun, so it waits for the other side as any command does: a signal ends it.
    """
    if source != STDIO and not is_stream(source):
        return source
    try:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="gemqueue-in-"))  # noqa: SIM115 - stack closes it
        with Path(file.name).open("wb") as copy:  # one of its own, whose closing may find no room either
            if source == STDIO:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with Path(source).open("rb") as pipe:
                    shutil.copyfileobj(pipe, copy)
    except OSError as error:
        what = "standard input" if source == STDIO else source
        raise ConfigError(
            f"{what} cannot be kept in {tempfile.gettempdir()} ({error.strerror}), and it is read twice: "
            "make room there, set TMPDIR, or give IN as a file"
        ) from error
    return file.name
