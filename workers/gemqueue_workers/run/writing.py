"""OUT: whole lines only, appended as answers land, and read again when a run goes on.

A line is written by one call, so that a kill leaves at most one torn line, the last; it is cut off at the next start.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.errors import ConfigError
from gemqueue_workers.run.options import STDIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gemqueue_workers.run.index import Index

_CHUNK_BYTES: Final = 1 << 20
_ROWS_A_LOOK: Final = 1000
_SORT_SCHEMA: Final = "CREATE TEMP TABLE places (line INTEGER, at INTEGER, length INTEGER)"


class OutError(ConfigError):
    """OUT cannot be written; the message says why and that it can be gone on with."""


class OutFullError(OutError):
    """OUT takes no more, after whole lines."""


class WrittenLine(msgspec.Struct):
    """What is read of a line of OUT."""

    key: str
    error: msgspec.Raw = msgspec.Raw()


decode_written = msgspec.json.Decoder(WrittenLine).decode


def is_plain(path: str) -> bool:
    """Whether it is a file that can be read again, or could become one."""
    return path != STDIO and (Path(path).is_file() or not Path(path).exists())


class OutFile:
    """A file that results are appended to, locked against a second writer; ``-`` is standard output."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stdout = path == STDIO or not is_plain(path)
        """Whether it is a pipe or a device: nothing can be read back from it."""
        try:
            self._fd = 1 if path == STDIO else os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutError(f"{path} cannot be written: {error.strerror}") from error
        if not self.stdout:
            self._lock()
            self._cut_torn_line()
        self._size_bytes = 0 if self.stdout else os.fstat(self._fd).st_size

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise OutError(f"{self.path} is being written by another gemqueue run: wait for it, or stop it") from error

    def _cut_torn_line(self) -> None:
        end = os.fstat(self._fd).st_size
        at = end
        while at > 0:
            start = max(0, at - _CHUNK_BYTES)
            found = os.pread(self._fd, at - start, start).rfind(b"\n")
            if found >= 0:
                at = start + found + 1
                break
            at = start
        if at != end:
            os.ftruncate(self._fd, at)

    @property
    def empty(self) -> bool:
        """Whether nothing has been written to it."""
        return self._size_bytes == 0

    def write(self, lines: bytes) -> None:
        """Append whole lines. Raises OutError, with nothing but whole lines in the file; BrokenPipeError."""
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self.stdout:
                os.ftruncate(self._fd, self._size_bytes)
            raise self._unwritable(error) from error
        self._size_bytes += len(lines)

    def _unwritable(self, error: OSError) -> OutFullError:
        why = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror
        path = "standard output" if self.path == STDIO else self.path
        way_out = "go on into a file" if self.stdout else "make room and repeat the command"
        return OutFullError(f"{path}: {why}; what is there is whole, nothing is lost: {way_out}")

    def sync(self) -> None:
        """What was written survives a loss of power. Raises OutError."""
        if not self.stdout:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise self._unwritable(error) from error

    def lines(self) -> Iterator[bytes]:
        """The lines that are there."""
        if self.stdout:
            return
        with Path(self.path).open("rb") as file:
            yield from file

    def replace(self, lines: Iterator[bytes]) -> None:
        """Put these lines in the place of all that are there, at once or not at all."""
        temporary = Path(f"{self.path}.new")
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
            with os.fdopen(os.dup(fd), "wb", _CHUNK_BYTES) as file:
                file.writelines(lines)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(fd)
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutError(f"{self.path} cannot be rewritten: {error.strerror}; it is as it was") from error
        os.close(self._fd)
        self._fd = fd
        self._size_bytes = os.fstat(fd).st_size

    def remove(self) -> None:
        """Take the file away, unless it is no plain one."""
        if Path(self.path).is_file():
            Path(self.path).unlink()

    def close(self) -> None:
        """Let go of it."""
        if not self.stdout:
            os.close(self._fd)


class Tally(msgspec.Struct):
    """How many lines of each sort."""

    answered: int = 0
    failed: int = 0


def note_written(file: OutFile, index: Index, tally: Tally) -> None:
    """Tell the index what the file has. Raises ConfigError for a line that no run wrote."""
    keys: list[str] = []
    for number, line in enumerate(file.lines(), 1):
        try:
            written = decode_written(line)
        except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former
            raise ConfigError(f"{file.path} line {number} is no result line ({error}): is it another file?") from error
        if written.error:
            tally.failed += 1
        else:
            tally.answered += 1
        keys.append(written.key)
        if len(keys) == _ROWS_A_LOOK:
            index.note_written(keys)
            keys.clear()
    index.note_written(keys)


def sort_by_input(file: OutFile, index: Index) -> None:
    """Put the lines of OUT into IN's order."""
    file.replace(_in_order(file, index))


def _in_order(file: OutFile, index: Index) -> Iterator[bytes]:
    import sqlite3  # noqa: PLC0415 - only who sorts needs it

    places = sqlite3.connect("", isolation_level=None)  # a temporary file once it is large
    places.execute(_SORT_SCHEMA)
    places.execute("BEGIN")
    at = 0
    batch: list[tuple[str, int, int]] = []

    def flush() -> None:
        numbers = index.lines_of([key for key, _, _ in batch])
        rows = [(number, start, length) for number, (_, start, length) in zip(numbers, batch, strict=True)]
        places.executemany("INSERT INTO places VALUES (?, ?, ?)", rows)
        batch.clear()

    for line in file.lines():
        batch.append((decode_written(line).key, at, len(line)))
        at += len(line)
        if len(batch) == _ROWS_A_LOOK:
            flush()
    flush()
    with Path(file.path).open("rb") as source:
        for start, length in places.execute("SELECT at, length FROM places ORDER BY line, at"):
            source.seek(start)
            yield source.read(length)
    places.close()


def without_failures(file: OutFile, on_failed: Callable[[str], None]) -> Iterator[bytes]:
    """The lines of OUT that are answers; the keys of the others go to ``on_failed``."""
    for line in file.lines():
        written: Any = decode_written(line)
        if written.error:
            on_failed(written.key)
        else:
            yield line
