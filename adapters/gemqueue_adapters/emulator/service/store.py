"""Records on disk: one small JSON file each, written beside and renamed, so that a killed emulator goes on.

What was acknowledged is in the page cache at least, which outlives the process (not the machine).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Record = TypeVar("Record", bound=msgspec.Struct)


class Store:
    """A folder of records of one type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, suffix: str) -> Path:
        """Where the data with this suffix that belongs to a record lives."""
        return self.folder / f"{name}.{suffix}"

    def put(self, name: str, record: msgspec.Struct) -> None:
        """Write a record, whole or not at all."""
        draft = self.path(name, f"{os.getpid()}.tmp")
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(self.path(name, "json"))

    def drop(self, name: str, *suffixes: str) -> None:
        """Remove files of a record; missing ones are fine."""
        for suffix in suffixes:
            self.path(name, suffix).unlink(missing_ok=True)

    def load(self, kind: type[Record]) -> Iterator[tuple[str, Record]]:
        """All records, in no particular order; drafts that a killed process left are removed."""
        decoder = msgspec.json.Decoder(kind)
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".tmp":
                path.unlink()
            elif path.suffix == ".json":
                yield path.stem, decoder.decode(path.read_bytes())

    def clear(self) -> None:
        """Remove everything."""
        for path in self.folder.iterdir():
            path.unlink()
