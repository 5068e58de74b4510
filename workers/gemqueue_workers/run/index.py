"""What the command knows of the rows, on disk instead of in memory: ``OUT.gemqueue``, an SQLite file beside OUT.

Its lasting part says whose OUT it is and which store the run was begun on, for each row that IN ever held a digest of
its content, its size and how it begins, and for each segment that is under way its id and its rows: if the store
forgets it, they can be sent again under the keys that a job may have them by. The rest is scratch, made anew at each
start from what counts: the run's list in the store, and OUT. Without the file contents are not compared, and a store
that has forgotten the run is not noticed.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gemqueue.errors import ConfigError
from gemqueue.store.runs import digest64

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    from gemqueue.store.runs import RunEntry

VERSION: Final = 2
BEGIN_BYTES: Final = 64
SENT, WRITTEN, TAKEN_BACK = 1, 2, 3
_VARIABLES_MAX: Final = 1000
_CACHE_KIB: Final = 49_152
_LINES: Final = 1 << 32
"""A place is a pass and a line: begins are only ever appended, so that the tree of the hashes stays small."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
  hash INTEGER PRIMARY KEY, body INTEGER NOT NULL, line INTEGER NOT NULL, pass INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS begins (place INTEGER PRIMARY KEY, size INTEGER NOT NULL, begin BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sent (segment TEXT PRIMARY KEY, entry BLOB NOT NULL);
CREATE TEMP TABLE known (hash INTEGER PRIMARY KEY, body INTEGER, state INTEGER NOT NULL);
CREATE TEMP TABLE entries (segment TEXT PRIMARY KEY, entry BLOB NOT NULL);
CREATE TEMP TABLE places (hash INTEGER PRIMARY KEY, segment TEXT NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL);
"""


class Seen(NamedTuple):
    """A row of IN as the index takes it: 64-bit digests as signed numbers, and the content's size and begin."""

    line: int
    hash: int
    body: int
    size: int = 0
    begin: bytes = b""


class Verdict(NamedTuple):
    """What the index says of a row: new, known (SENT or WRITTEN), a repetition of line ``other``, or changed.

    ``before`` is what IN held under the key when the index last saw it; of a changed row, that is the old content.
    ``begun``: an earlier start had the row to buy, and neither the store nor OUT tells of it.
    """

    state: int = 0
    other: int = 0
    changed: bool = False
    before: Seen | None = None
    begun: bool = False


def number_of(data: bytes) -> int:
    """A digest of ``data`` as the index keeps it."""
    return int.from_bytes(digest64(data), "little", signed=True)


def numbers_of(digests: bytes) -> list[int]:
    """Digests that stand one behind the other, as numbers."""
    return list(struct.unpack(f"<{len(digests) // 8}q", digests))


def digests_of(numbers: Sequence[int]) -> bytes:
    """The reverse of ``numbers_of``."""
    return struct.pack(f"<{len(numbers)}q", *numbers)


@contextmanager
def _said(path: Path | None) -> Generator[None]:
    """A disk that is full or broken, in words."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        where = path if path is not None else "the index of the rows, a temporary file,"
        raise ConfigError(
            f"{where} cannot be used: {error}; nothing is lost: make room and repeat the command"
        ) from error


class _Database(sqlite3.Connection):
    """A connection whose errors are ConfigErrors that name the file."""

    path: Path | None = None

    def execute(self, *given: Any) -> sqlite3.Cursor:
        """As in ``sqlite3.Connection``."""
        with _said(self.path):
            return super().execute(*given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        """As in ``sqlite3.Connection``."""
        with _said(self.path):
            return super().executemany(*given)


class Index:
    """See the module's text. Raises ConfigError when the file is none of ours."""

    def __init__(self, path: Path | None) -> None:
        try:
            self._db = sqlite3.connect(path or "", isolation_level=None, factory=_Database)  # "" is a temporary file
            for pragma in ("journal_mode=DELETE", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
                sqlite3.Connection.execute(self._db, f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path or 'a temporary file'} cannot be used: {error}; make room on the disk, "
                "or, if it is none of gemqueue's, choose another -o"
            ) from error
        self._db.path = path
        self._pass = int(self.get("pass") or 0)
        self._anything_known = False

    def get(self, name: str) -> str:
        """A lasting value; empty where there is none."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return found[0] if found else ""

    def set(self, name: str, value: str) -> None:
        """Keep a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Leave the file as it is."""
        self._db.close()

    # --- what was bought and written ---

    def count_entry(self) -> None:
        """The run's list in the store has one more."""
        self.set("entries", str(int(self.get("entries") or 0) + 1))

    def note_written(self, keys: Iterable[str]) -> None:
        """OUT has these."""
        rows = [(number_of(key.encode()), None, WRITTEN) for key in keys]
        self._db.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", rows)
        self._anything_known = self._anything_known or bool(rows)

    def note_entry(self, entry: RunEntry, blob: bytes) -> bytearray:
        """An entry of the run's list, the last one first; a byte for each row: whether it is still to be written."""
        hashes = [number_of(key.encode()) for key in entry.keys]
        found = self._states(hashes)
        fresh = bytearray(hash_ not in found for hash_ in hashes)
        state = SENT if entry.segment else TAKEN_BACK
        bodies: Sequence[int | None] = numbers_of(entry.digests) if entry.digests else [None] * len(hashes)
        rows = [(h, b, state) for h, b, new in zip(hashes, bodies, fresh, strict=True) if new]
        self._db.executemany("INSERT OR IGNORE INTO known VALUES (?, ?, ?)", rows)
        self._anything_known = True
        if entry.segment and any(fresh):
            self.keep_entry(entry.segment, blob)
        return fresh

    def keep_entry(self, segment: str, blob: bytes) -> None:
        """Remember a segment's rows until their outcomes come."""
        self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (segment, blob))

    def keep_sent(self, segment: str, blob: bytes) -> None:
        """The same, and lastingly: the segment is about to be registered."""
        self.keep_entry(segment, blob)
        self._db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?)", (segment, blob))

    def forget_unsent(self) -> None:
        """The store knows the run: what was about to be registered and is not in its list never was."""
        self._db.execute("DELETE FROM sent WHERE segment NOT IN (SELECT segment FROM entries)")

    def recall_sent(self, unpack: Callable[[bytes], RunEntry]) -> None:
        """The store has forgotten the run: whole segments that were under way keep their places, the last first.

        One of which OUT has a row is not whole: what it lacks is a row like any other.
        """
        for segment, blob in self._db.execute("SELECT segment, entry FROM sent ORDER BY rowid DESC").fetchall():
            hashes = [number_of(key.encode()) for key in unpack(blob).keys]
            if not self._states(hashes):
                places = [(hash_, segment, at, len(hashes)) for at, hash_ in enumerate(hashes)]
                self._db.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?, ?)", places)
        self._db.execute("DELETE FROM sent")

    def place_of(self, key: str) -> tuple[str, int, int] | None:
        """Where a row was, before the store forgot it: its segment, its index there and how many there were."""
        query = "SELECT segment, at, count FROM places WHERE hash = ?"
        found = self._db.execute(query, (number_of(key.encode()),)).fetchone()
        return None if found is None else (found[0], found[1], found[2])

    def entry(self, segment: str) -> bytes:
        """What ``keep_entry`` was given."""
        found: bytes = self._db.execute("SELECT entry FROM entries WHERE segment = ?", (segment,)).fetchone()[0]
        return found

    def drop_entry(self, segment: str) -> None:
        """All of the segment is written."""
        self._db.execute("DELETE FROM entries WHERE segment = ?", (segment,))
        self._db.execute("DELETE FROM sent WHERE segment = ?", (segment,))

    def _states(self, hashes: Sequence[int]) -> dict[int, tuple[int | None, int]]:
        if not self._anything_known:
            return {}
        found: dict[int, tuple[int | None, int]] = {}
        for start in range(0, len(hashes), _VARIABLES_MAX):
            part = hashes[start : start + _VARIABLES_MAX]
            marks = ",".join("?" * len(part))
            query = f"SELECT hash, body, state FROM known WHERE hash IN ({marks})"  # noqa: S608 - question marks
            found.update({hash_: (body, state) for hash_, body, state in self._db.execute(query, part)})
        return found

    # --- IN ---

    def begin_pass(self) -> None:
        """IN is read from its start; nothing of it lasts until ``end_pass``."""
        self._db.execute("BEGIN")
        self._pass += 1
        self.set("pass", str(self._pass))

    def end_pass(self, *, keep: bool) -> None:
        """IN has been read."""
        if keep:
            self._db.execute("DELETE FROM begins WHERE place < ?", (self._pass * _LINES,))
        self._db.execute("COMMIT" if keep else "ROLLBACK")
        if keep and self._db.path is not None:
            with _said(self._db.path), self._db.path.open("rb") as file:
                os.fsync(file.fileno())  # what follows is bought: a power cut must not forget that it began

    def judge(self, rows: Sequence[Seen]) -> list[Verdict]:
        """At most 1,000 rows of IN against those before them, and against what was bought and written."""
        hashes = [row.hash for row in rows]
        query = f"SELECT hash, body, line, pass FROM rows WHERE hash IN ({','.join('?' * len(rows))})"  # noqa: S608
        before = {hash_: rest for hash_, *rest in self._db.execute(query, hashes)}
        known = self._states(hashes)
        verdicts: list[Verdict] = []
        for row in rows:
            body, line, pass_ = before.get(row.hash, (None, 0, 0))
            if pass_ == self._pass:
                verdicts.append(Verdict(other=line))
                continue
            old_body, state = known.get(row.hash, (None, 0))
            old_body = old_body if old_body is not None else body
            state = 0 if state == TAKEN_BACK else state
            changed = bool(state) and old_body is not None and old_body != row.body
            kept = changed and body is not None and body == old_body
            seen = self._begin(pass_, Seen(line, row.hash, body or 0)) if kept else None
            verdicts.append(Verdict(state, 0, changed, seen, bool(pass_) and row.hash not in known))
            before[row.hash] = [row.body, row.line, self._pass]
        new = [row for row, verdict in zip(rows, verdicts, strict=True) if not verdict.other]
        hashed = [(row.hash, row.body, row.line, self._pass) for row in new]
        self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", hashed)
        begins = [(self._pass * _LINES + row.line, row.size, row.begin) for row in new]
        self._db.executemany("INSERT OR REPLACE INTO begins VALUES (?, ?, ?)", begins)
        return verdicts

    def _begin(self, pass_: int, row: Seen) -> Seen | None:
        """The row with its size and begin, as that pass saw them."""
        place = (pass_ * _LINES + row.line,)
        found = self._db.execute("SELECT size, begin FROM begins WHERE place = ?", place).fetchone()
        return None if found is None else row._replace(size=found[0], begin=found[1])

    # --- order ---

    def lines_of(self, keys: Sequence[str]) -> list[int]:
        """The lines of IN that these keys stand in; 0 for one that is not in IN."""
        hashes = [number_of(key.encode()) for key in keys]
        query = f"SELECT hash, line FROM rows WHERE hash IN ({','.join('?' * len(hashes))})"  # noqa: S608
        found: dict[int, int] = dict(self._db.execute(query, hashes))
        return [found.get(hash_, 0) for hash_ in hashes]
