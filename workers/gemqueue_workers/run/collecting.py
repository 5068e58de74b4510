"""Outcomes out of the queue and into OUT, as they land, in memory that does not grow with the run.

Per segment there is a cursor and one byte per row; the rows' keys lie in the index on disk. Notices say where to look,
and a slow round over all open segments finds what a lost notice did not say.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.language.answers import Answer
from gemqueue.language.lines import read_lines
from gemqueue.language.outcomes import expired, outcome_of
from gemqueue.states import SegmentState
from gemqueue.store import codec
from gemqueue.store.runs import unpack_entry
from gemqueue.tasks import check_ending
from gemqueue_workers.run.results import UsageSum, left_out, result_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.language.lines import OutcomeLine
    from gemqueue.store.runs import RunStore
    from gemqueue_workers.run.index import Index
    from gemqueue_workers.run.writing import OutFile, Tally

_BLOCK_MS: Final = 500
_BLOBS_MAX: Final = 8
_SEGMENTS_A_LOOK: Final = 16
_SEGMENTS_A_ROUND: Final = 200
_SYNC_S: Final = 2.0
_PAUSE_S: Final = 0.5


class Open:
    """A segment whose outcomes are not all written; ``rows`` has a byte for each that is missing."""

    __slots__ = ("cursor", "left", "live", "rows", "unreadable")

    def __init__(self, rows: bytearray, *, live: bool) -> None:
        self.rows = rows
        self.left = rows.count(1)
        self.cursor = 0
        self.live = live
        self.unreadable = ""


class Collector:
    """See the module's text. ``answers`` and ``failures`` are where results go, which may be one file."""

    def __init__(
        self,
        store: RunStore,
        index: Index,
        files: tuple[OutFile, OutFile],
        tally: Tally,
        *,
        model: str,
        text: bool,
        forgotten: Callable[[], Awaitable[str]],
    ) -> None:
        self.tally = tally
        self.usage = UsageSum(model)
        self.open_rows = 0
        self.left_out = 0
        self._store = store
        self._index = index
        self._answers, self._failures = files
        self._text = text
        self._open: dict[str, Open] = {}
        self._news: dict[str, None] = {}
        self._written: list[str] = []
        self._synced_at = time.monotonic()
        self._emulated = store.settings.emulate
        self._home = index.get("home")
        self._forgotten = forgotten

    def expect(self, segment: str, rows: bytearray, entry: bytes | None, *, live: bool = False) -> None:
        """Outcomes of this segment will come; ``live`` says that it is registered."""
        self._open[segment] = Open(rows, live=live)
        self.open_rows += rows.count(1)
        if entry is not None:
            self._index.keep_sent(segment, entry)
        if live:
            self._news[segment] = None

    def registered(self, segment: str, home: str) -> None:
        """The store has said ok, and the home of the account's jobs, once it has one."""
        found = self._open.get(segment)
        self._index.count_entry()
        if home and home != self._home:
            self._home = home
            self._index.set("home", home)
        if found is not None:
            found.live = True

    async def run(self, producer: str, submitted: asyncio.Event, revive: Callable[[], Awaitable[None]]) -> None:
        """Collect until everything is submitted and written. Raises OutError, BrokenPipeError."""
        after, round_at, turn = "", 0.0, 0
        while self._open or not submitted.is_set():
            check_ending()
            try:
                if not after:
                    after = await self._store.open_inbox(producer)
                    self._news.update(dict.fromkeys(self._open))
                block_ms = 1 if self._news else _BLOCK_MS
                after, ids = await self._store.read_inbox(producer, after, block_ms)
                self._news.update(dict.fromkeys(id_ for id_ in ids if id_ in self._open))
                if time.monotonic() >= round_at:
                    turn = await self._round(turn)
                    await self._store.renew_inbox(producer)
                    round_at = time.monotonic() + self._store.settings.watchdog_s
                await self._collect()
                await self._sync()
            except StoreUnavailable:
                after = ""
                await revive()
                await asyncio.sleep(_PAUSE_S)
        await self._sync(last=True)

    async def _round(self, turn: int) -> int:
        """Ask for a part of the open segments, whether they have more than we have read, or are gone."""
        ids = [id_ for id_, found in self._open.items() if found.live]
        part = ids[turn : turn + _SEGMENTS_A_ROUND]
        for id_, (state, blobs) in zip(part, await self._store.outcome_counts(part), strict=True):
            found = self._open.get(id_)
            if found is None:
                continue
            if blobs > found.cursor:
                self._news[id_] = None
            elif not state or (state is SegmentState.CLOSED and blobs == found.cursor):
                if not state and (why := await self._forgotten()):
                    raise ConfigError(why)
                self._give_up(id_, found)
        return turn + _SEGMENTS_A_ROUND if turn + _SEGMENTS_A_ROUND < len(ids) else 0

    async def _collect(self) -> None:
        while self._news:
            ids = list(self._news)[:_SEGMENTS_A_LOOK]
            for id_ in ids:
                del self._news[id_]
            cursors = [(id_, self._open[id_].cursor) for id_ in ids if id_ in self._open]
            for (id_, _), blobs in zip(cursors, await self._store.outcomes(cursors, _BLOBS_MAX), strict=True):
                for blob in blobs:
                    await self._land(id_, blob)
                    await asyncio.sleep(0)
                if len(blobs) == _BLOBS_MAX and id_ in self._open:
                    self._news[id_] = None

    async def _land(self, segment: str, blob: bytes) -> None:
        found = self._open.get(segment)
        if found is None:
            return
        keys = unpack_entry(self._index.entry(segment)).keys
        self.usage.renew()
        answers: list[bytes] = []
        failures: list[bytes] = []
        for at, line in await self._lines(segment, found, blob):
            if not found.rows[at]:
                continue
            found.rows[at] = 0
            found.left -= 1
            (answers if line.response else failures).append(self._line(keys[at], line))
        found.cursor += 1
        self._write(answers, failures)
        if not found.left:
            self._close(segment)

    async def _lines(self, segment: str, found: Open, blob: bytes) -> list[tuple[int, OutcomeLine]]:
        """The lines of a blob; what cannot be read of it is noted, and its rows are failures once no more will come."""
        try:
            text = await codec.expand_async(blob)
        except ValueError as error:
            found.unreadable = str(error)
            return []
        lines, bad = read_lines(text, f"{segment}.", len(found.rows))
        if bad:
            found.unreadable = f"{bad} lines are malformed, or of others"
        return lines

    def _line(self, key: str, line: OutcomeLine) -> bytes:
        response = bytes(line.response)
        if response and not self._text:
            self.usage.add(response, line.service)
            return b'{"key":%b,"response":%b}\n' % (msgspec.json.encode(key), response)
        outcome = outcome_of(line, None, None, emulated=self._emulated)
        if isinstance(outcome, Answer):
            self.usage.add(response, line.service)
            self.left_out += bool(left_out(outcome))
        return result_line(key, outcome, text=self._text)

    def _write(self, answers: list[bytes], failures: list[bytes]) -> None:
        if answers:
            self._answers.write(b"".join(answers))
        if failures:
            self._failures.write(b"".join(failures))
        self.tally.answered += len(answers)
        self.tally.failed += len(failures)
        self.open_rows -= len(answers) + len(failures)

    def _close(self, segment: str) -> None:
        del self._open[segment]
        self._news.pop(segment, None)
        self._index.drop_entry(segment)
        self._written.append(segment)

    def _give_up(self, segment: str, found: Open) -> None:
        """No more will come: the outcomes were kept for a time, and that is over."""
        keys = unpack_entry(self._index.entry(segment)).keys
        lost = [key for key, missing in zip(keys, found.rows, strict=True) if missing]
        how = f"cannot be read ({found.unreadable})" if found.unreadable else "is no longer kept"
        why = f"its outcome {how}; `gemqueue admin retry --run` asks again, and pays again"
        self._write([], [result_line(key, expired(key, why), text=self._text) for key in lost])
        self._close(segment)

    async def _sync(self, *, last: bool = False) -> None:
        """What is safe in OUT need not be kept in the store for long."""
        if not self._written or (not last and time.monotonic() < self._synced_at + _SYNC_S):
            return
        await asyncio.to_thread(self._answers.sync)
        await asyncio.to_thread(self._failures.sync)
        self._synced_at = time.monotonic()
        written, self._written = self._written, []
        if not self._answers.stdout:
            await self._store.deliver(written)
