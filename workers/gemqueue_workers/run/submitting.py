"""IN into the queue: rows become requests, requests segments, and each segment is bought once, with the run's entry.

One script registers the segment and the list's entry (``store/runs.py``), so nothing has to be written down here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.errors import ConfigError, PromptInvalid, StoreUnavailable, SubmitError
from gemqueue.ids import new_segment_id
from gemqueue.language.checks import check_kind, check_model, check_size
from gemqueue.language.gemini.configs import ConfigMode
from gemqueue.language.gemini.requests import encoder_for, identified_request, rest_request
from gemqueue.language.lines import line, token_estimate
from gemqueue.records import Lane
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.runs import RunEntry, pack_entry
from gemqueue.tasks import check_ending, end_tasks
from gemqueue_workers.run.index import digests_of, number_of
from gemqueue_workers.run.source.json_rows import why_unread
from gemqueue_workers.run.source.rows import BadLine, Request, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.config import Settings
    from gemqueue.language.gemini.requests import RequestEncoder
    from gemqueue.store.runs import RunRecord, RunStore
    from gemqueue_workers.run.collecting import Collector
    from gemqueue_workers.run.options import RunOptions
    from gemqueue_workers.run.source.rows import Prompt

_LINE_BYTES: Final = 50
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_decode: Final = msgspec.json.Decoder().decode


class RowEncoder:
    """Rows of one run as requests. Raises PromptInvalid for a config or a model that is not valid.

    ``config_mode`` is what a row's own config does to that of the run.
    """

    def __init__(self, options: RunOptions, settings: Settings) -> None:
        self.model = check_model(options.model)
        self.kind = options.kind
        check_kind(self.model, self.kind)
        self._encoder = encoder_for(options.kind, options.config, settings.schema_dialect)
        self.config_mode = options.config_mode or ConfigMode.MERGE
        self._bytes_max = settings.prompt_bytes_max
        self._dialect = settings.schema_dialect

    def encode(self, row: Row) -> bytes:
        """The row's request. Raises PromptInvalid, PromptTooLarge."""
        ask = row.ask
        if isinstance(ask, Request):
            request = rest_request(self.kind, _fields(ask), self._dialect)
        else:
            request = self._encoder_of(ask).encode(ask.contents)
        check_size(request, self._bytes_max)
        return request

    def identified(self, row: Row) -> tuple[bytes, bytes]:
        """The row's request and its identity form. Raises PromptInvalid."""
        ask = row.ask
        if isinstance(ask, Request):
            return identified_request(self.kind, _fields(ask), self._dialect)
        return self._encoder_of(ask).identified(ask.contents)

    def _encoder_of(self, ask: Prompt) -> RequestEncoder:
        if ask.config is None:
            return self._encoder
        over = self._encoder if self.config_mode == ConfigMode.MERGE else None
        return encoder_for(self.kind, ask.config, self._dialect, over=over)


def _fields(ask: Request) -> Any:
    try:
        fields: Any = _decode(ask.raw)
    except (ValueError, RecursionError) as error:  # what stands in a request is first looked at here
        raise PromptInvalid(f"request: {why_unread(error, ask.raw)}") from error
    for name in ask.drop:
        fields.pop(name, None)
    return fields


class Submitter:
    """Takes rows one by one, writes them as segments. ``held`` says why it waits, if it does."""

    def __init__(
        self,
        store: RunStore,
        run: tuple[str, str, RunRecord],
        encoder: RowEncoder,
        collector: Collector,
        revive: Callable[[], Awaitable[None]],
        *,
        deadline_at: int = 0,
    ) -> None:
        account, self._name, self._record = run
        self.lane = Lane(account, encoder.model, encoder.kind)
        self.submitted = 0
        self.held = ""
        self._store = store
        self._settings = store.settings
        self._encoder = encoder
        self._collector = collector
        self._revive = revive
        self._deadline_at = deadline_at
        self._rows: list[tuple[str, int, bytes]] = []
        self._bytes = 0
        self._flights: set[asyncio.Task[None]] = set()
        self._places: dict[str, dict[int, tuple[str, int, bytes]]] = {}

    async def put(self, row: Row) -> BadLine | None:
        """Take a row; the reason when its request is not valid. Raises what a segment's write raised."""
        try:
            request = self._encoder.encode(row)
        except SubmitError as error:
            return BadLine(row.line, row.content[:200].decode("utf-8", "replace"), str(error))
        size = len(request) + _LINE_BYTES
        if self._rows and self._bytes + size > self._settings.segment_bytes_max:
            await self._cut()
        self._rows.append((row.key, number_of(row.content), request))
        self._bytes += size
        if len(self._rows) >= self._settings.segment_prompts_max:
            await self._cut()
        return None

    async def put_back(self, row: Row, place: tuple[str, int, int]) -> BadLine | None:
        """Take a row that had this place in a segment which the store has forgotten: it goes there again.

        A job may hold it by its key. Of a segment whose rows do not all come, those that came are new ones.
        """
        segment, at, count = place
        try:
            request = self._encoder.encode(row)
        except SubmitError as error:
            return BadLine(row.line, row.content[:200].decode("utf-8", "replace"), str(error))
        rows = self._places.setdefault(segment, {})
        rows[at] = (row.key, number_of(row.content), request)
        if len(rows) == count:
            del self._places[segment]
            await self._launch([rows[n] for n in range(count)], segment)
        return None

    async def finish(self) -> None:
        """Write the rest, and wait until everything is registered."""
        for rows in self._places.values():
            await self._launch(list(rows.values()))
        self._places.clear()
        if self._rows:
            await self._cut()
        while self._flights:
            await self._wait(asyncio.ALL_COMPLETED)

    async def stop(self) -> None:
        """Give up what is under way; it is registered or not, and the run's list knows."""
        await end_tasks(self._flights)

    async def _wait(self, when: str) -> None:
        done, self._flights = await asyncio.wait(self._flights, return_when=when)
        for task in done:
            task.result()

    async def _cut(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        await self._launch(rows)

    async def _launch(self, rows: list[tuple[str, int, bytes]], segment: str = "") -> None:
        while len(self._flights) >= self._settings.flushes_max:
            await self._wait(asyncio.FIRST_COMPLETED)
        self._flights.add(asyncio.create_task(self._fly(rows, segment), name="gemqueue-run-flush"))
        await asyncio.sleep(0)

    async def _fly(self, rows: list[tuple[str, int, bytes]], segment_id: str) -> None:
        id_ = segment_id or new_segment_id()
        entry = pack_entry(RunEntry(id_, [key for key, _, _ in rows], digests_of([digest for _, digest, _ in rows])))
        lines = b"".join([line(f"{id_}.{i}", request) for i, (_, _, request) in enumerate(rows)])
        segment = SegmentWrite(
            id=id_,
            lane=str(self.lane),
            producer=self._record.producer,
            count=len(rows),
            raw_bytes=len(lines),
            tokens=sum([token_estimate(request) for _, _, request in rows]),
            deadline_at=self._deadline_at,
            run=self._name,
            epoch=self._record.epoch,
            entry=entry,
        )
        self._collector.expect(id_, bytearray(b"\1") * len(rows), entry)
        await self._register(segment, await codec.compress_async(lines))
        self._collector.registered(id_, self._store.known(self.lane.account).home)
        self.submitted += len(rows)

    async def _register(self, segment: SegmentWrite, body: bytes) -> None:
        """Until the store has it: a full queue drains, a server comes back. Raises ConfigError when the run is lost."""
        pause_s = _PAUSE_FIRST_S
        while True:
            check_ending()
            try:
                word = (await self._store.enqueue(segment, body)).word
            except StoreUnavailable as error:
                self.held = str(error)
                await self._revive()
            else:
                if word == "ok":
                    self.held = ""
                    return
                if word == "superseded":
                    raise ConfigError(
                        f"run {self._name!r} was taken over by another process, purged, or forgotten by its server; "
                        "this one stops: repeat the command to see which"
                    )
                if word == "full":
                    self.held = "the queue is full (memory_bytes_max)"
            await asyncio.sleep(pause_s)
            pause_s = min(_PAUSE_MAX_S, pause_s * 2)
