"""What has been bought: which keys, in which jobs, how often.

Each job leaves a file of `outcome<TAB>key` lines. Whether a key was answered in two jobs is worked out when asked, by
64-bit hashes: eight bytes a row stay in memory, in buckets, so that only one bucket at a time becomes a set.
"""

from __future__ import annotations

import mmap
from array import array
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.answers.shapes import BOUGHT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKETS = 16
MASK = (1 << 64) - 1
_BOUGHT = frozenset(outcome.encode() for outcome in BOUGHT)


class Ledger:
    """Answers questions about the rows files of jobs; all methods read, and may take a second per million rows."""

    def __init__(self) -> None:
        self._hashes: dict[Path, list[array[int]]] = {}

    def forget(self) -> None:
        """Drop what is known of all files."""
        self._hashes.clear()

    def bought(self, files: list[Path]) -> dict[str, list[Path]]:
        """Every key that was answered successfully, with the files in which it was."""
        return _holders(files, None)

    def bought_twice(self, files: list[Path]) -> dict[str, list[Path]]:
        """The keys that were answered successfully in two or more of these files, sorted, with the files."""
        for file in files:
            if file not in self._hashes:
                self._hashes[file] = _hashed(file)
        suspects: set[int] = set()
        for bucket in range(BUCKETS):
            seen: set[int] = set()
            for file in files:
                keys = set(self._hashes[file][bucket])
                suspects |= seen & keys
                seen |= keys
        found = _holders(files, suspects) if suspects else {}
        return {key: where for key, where in found.items() if len(where) > 1}

    def find(self, key: str, file: Path) -> list[str]:
        """The outcomes of the rows with this key in one file."""
        wanted = msgspec.json.encode(key)
        if not file.exists() or not file.stat().st_size:
            return []
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(_outcomes(data, b"\t" + wanted + b"\n"))


def _outcomes(data: mmap.mmap, needle: bytes) -> Iterator[str]:
    at = data.find(needle)
    while at >= 0:
        yield data[data.rfind(b"\n", 0, at) + 1 : at].decode()
        at = data.find(needle, at + 1)


def _bought_keys(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        for line in lines:
            outcome, _, key = line.partition(b"\t")
            if outcome in _BOUGHT and key != b"\n":
                yield key


def _hashed(file: Path) -> list[array[int]]:
    buckets = [array("Q") for _ in range(BUCKETS)]
    for key in _bought_keys(file):
        hashed = hash(key) & MASK
        buckets[hashed % BUCKETS].append(hashed)
    return buckets


def _holders(files: list[Path], hashes: set[int] | None) -> dict[str, list[Path]]:
    """The keys that have these hashes, or all, sorted, each with the files that hold it."""
    found: dict[bytes, dict[Path, None]] = defaultdict(dict)
    for file in files:
        for key in _bought_keys(file):
            if hashes is None or hash(key) & MASK in hashes:
                found[key][file] = None
    return dict(sorted((str(decoded(key)), list(where)) for key, where in found.items()))


def decoded(key: bytes) -> Any:
    """A key as it stands in a rows file, as its text."""
    return msgspec.json.decode(key)
