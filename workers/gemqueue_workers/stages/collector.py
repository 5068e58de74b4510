"""One pass over a job's results: every row is judged by itself, by its key alone, and each prompt ends somewhere.

The life of a row: it is matched with what the batch still expects. Rows of nobody, rows that come twice, and rows
that are no rows are quarantined with their bytes. An answer, or a failure that is the prompt's own, is settled. A
failure that is the provider's goes on into a retry segment, and after the last attempt it is settled too, with its
body kept among the dead letters. What the stream has not brought stays open until it is believed to be missing
(``policy.beliefs``), and is then retried like a failure of the provider's. A crash anywhere is harmless: the next
pass starts again, and what is settled or moved is skipped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import ProviderError
from gemqueue.ids import split_key
from gemqueue.language.gemini.repairs import repaired
from gemqueue.language.gemini.rows import Verdict, row_verdict, text_rows
from gemqueue.language.gemini.usage import usage_of, version_of
from gemqueue.language.lines import PLAIN_END, answer_line, failure_line, repaired_end, service_end
from gemqueue.policy import backoff, resolving
from gemqueue.policy.resolving import Reading, RowFate
from gemqueue.setting_values import RetryRows
from gemqueue.states import FailureKind
from gemqueue.store.batches import QUARANTINE_ROW_BYTES_MAX
from gemqueue.store.scripts import ServerFull
from gemqueue_workers.stages.contents import lost_bodies
from gemqueue_workers.stages.expected import Arrival, Expected
from gemqueue_workers.stages.outcome_buffer import OutcomeBuffer
from gemqueue_workers.stages.retries import RetryWriter, Why
from gemqueue_workers.stages.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gemqueue.language.gemini.row_shapes import TextRow
    from gemqueue.language.gemini.rows import RowVerdict
    from gemqueue.language.gemini.usage import Usage
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
    from gemqueue_workers.stages.contents import BatchContents, Source
    from gemqueue_workers.stages.loop import Kit, Lease
    from gemqueue_workers.stages.outcome_buffer import Row

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_SAMPLES = 200
"""Answers whose token counts are read, spread over the batch."""
_CANCELLED = 1
"""The google.rpc code of a row that its job's cancellation overtook (protocol section 9.5)."""
_QUARANTINE_ROWS = 1000
_BURIAL_ROWS = 2000
_BURIAL_BYTES = 8_000_000

_ANSWERED, _GARBAGE = Verdict.ANSWERED, Verdict.GARBAGE  # a member of an enum is slow to look up
_ERRORS = frozenset({Verdict.RETRYABLE, Verdict.INVALID})
_EXPECTED, _SETTLED = Arrival.EXPECTED, Arrival.SETTLED

Lines = dict[str, tuple["Source", set[int]]]
"""By segment: the source and the numbers of its lines."""


class Collector:
    """Collects the results of one ended batch."""

    def __init__(self, kit: Kit, lease: Lease, batch: Batch, contents: BatchContents) -> None:
        self._kit = kit
        self._lease = lease
        self._batch = batch
        self._expected = Expected(contents)
        self._buffer = OutcomeBuffer(kit, lease, self._expected.wanted)
        self._retries: Lines = {}
        self._dead: list[tuple[str, int, FailureKind, str, int]] = []
        self._dead_bytes = 0
        self._answer_end = service_end(batch.lane.service)
        self._late = 0
        self._spending, self._late_spending = Spending(kit, batch), Spending(kit, batch)
        self._lost: set[str] = set()
        self._quarantined: list[tuple[str, bytes]] = []
        self._partial = resolving.came_short(batch)
        self._sample_every = max(1, batch.prompts // _SAMPLES)
        self._answered = 0
        self.token_counts: list[int] = []
        self.rows = 0
        self._errors = 0
        self._garbled = 0

    @property
    def counts(self) -> dict[str, int]:
        """What was settled, by counter; late are answers whose prompts had their outcomes already."""
        counts = self._buffer.counts
        late = counts.get("late", 0) + self._late
        return counts | ({"late": late} if late else {})

    def feed(self, line: bytes) -> None:
        """One row that came by another way than the job's results."""
        self._rows([line], again=False)

    def skip(self, key: str) -> None:
        """This prompt needs no row from here: it is settled, or goes on by itself."""
        self._expected.arrive(key)

    def doom(self, key: str, kind: FailureKind, message: str) -> None:
        """This prompt fails without a row, and may be submitted again by a person."""
        arrival, origin, index = self._expected.arrive(key)
        if arrival is _EXPECTED:
            self._doom(origin, index, kind, message, 0)

    async def land(self) -> None:
        """Settle what has come so far."""
        await self._bury()
        await self._flush(everything=True)

    async def collect(self, status: JobStatus, *, known: str = "") -> Reading:
        """Stream the results to the end, and settle what came, also where the stream breaks off.

        A download can end early and look whole (protocol section 8.4). Where prompts have not come it is read a second
        time, unless the digest of an earlier reading is ``known``; whether they are missing is for others to believe.
        Whatever the results did not bring stays open.
        """
        digest = ""
        try:
            if known:
                digest = await self._read(status, whole=True)
            else:
                await self._read(status)
                if self.missing:
                    digest = await self._read(status, whole=True, again=True)
        except ProviderError:
            await self._write_out()
            raise
        if known and known == digest:
            self._quarantined.clear()  # the same lines again, and the same late answers
            self._late_spending.forget()
        await self._write_out()
        return Reading(self.rows, self._errors, self._garbled, self.missing, digest)

    @property
    def missing(self) -> int:
        """How many prompts have not come."""
        return sum(1 for _ in self._expected.missing())

    async def _read(self, status: JobStatus, *, whole: bool = False, again: bool = False) -> str:
        """Read once; the digest of all lines where they are to be compared as a ``whole``."""
        digest = hashlib.blake2b(digest_size=8) if whole else None
        self._garbled = 0
        async for lines in self._kit.provider.results(status):
            if digest is not None:
                digest.update(b"\n".join([*lines, b""]))
            self._rows(lines, again=again)
            await self._ease()
        return digest.hexdigest() if digest is not None else ""

    async def account_for_missing(self) -> None:
        """Retry what has not come, or fail it after the last attempt; then write everything out."""
        for origin, index in self._expected.missing():
            self._provider_failed(origin, index, "missing", "the job ended without a row for it", 0)
            await self._ease()
        await self._write_out()

    async def _write_out(self) -> None:
        await self._lose_retries()
        await self._bury()
        await self._flush(everything=True)
        await self._send_quarantine()
        await self._send_retries()

    async def fail_all(self, kind: FailureKind, message: str, *, bury: bool) -> None:
        """Settle every prompt that is still expected as failed."""
        for origin, index in self._expected.missing():
            if bury:
                self._doom(origin, index, kind, message, 0)
            else:
                self._buffer.add(origin, index, failure_line(f"{origin}.{index}", kind, message), "failed")
            await self._ease()
        await self._bury()
        await self._flush(everything=True)

    async def fail_lost(self, why: Mapping[str, str]) -> None:
        """Settle every prompt that is still expected as lost: of its segment there is no body, and ``why``."""
        for origin, index in self._expected.missing():
            self._lose(origin, index, why, bought=0)
            await self._ease()
        await self._flush(everything=True)

    async def _ease(self) -> None:
        if self._buffer.full:
            await self._flush(everything=False)
        if len(self._dead) >= _BURIAL_ROWS or self._dead_bytes >= _BURIAL_BYTES:
            await self._bury()
        if len(self._quarantined) >= _QUARANTINE_ROWS:
            await self._send_quarantine()

    async def _flush(self, *, everything: bool) -> None:
        await self._buffer.flush(everything=everything)
        await self._spending.write()
        if everything:
            await self._late_spending.write()

    def _rows(self, lines: Sequence[bytes], *, again: bool) -> None:
        """Match and judge rows. Most are text, and are kept as they came, in runs of one origin."""
        run: list[Row] = []
        run_of = ""
        for line, row in zip(lines, self._short_scan(lines), strict=True):
            if row is None:
                self._row(line, None, again=again)
                continue
            arrival, origin, index = self._expected.arrive(row.key)
            if arrival is not _EXPECTED:
                self._row(line, (arrival, origin, index), again=again)
                continue
            if origin != run_of:
                self.rows += len(run)
                self._buffer.extend(run_of, run)
                run, run_of = [], origin
            run.append((index, line, "answered"))
            self._count(row.response.usage_metadata, row.response.model_version)
        self.rows += len(run)
        self._buffer.extend(run_of, run)

    def _row(self, line: bytes, arrived: tuple[Arrival, str, int] | None, *, again: bool) -> None:
        """Judge a row of any kind, of which it may be known already what its key says."""
        found, end = row_verdict(line), self._answer_end
        if found.verdict is _GARBAGE and (readable := repaired(line)) is not None:
            found, end = row_verdict(readable), repaired_end(line, self._answer_end)
        if found.key is None or found.verdict is _GARBAGE:
            # A garbled row's key may be right, but nothing else is; its prompt stays expected.
            reason = found.message or "no key"
            self._garbled += 1
        else:
            arrival, origin, index = arrived or self._expected.arrive(found.key)
            if arrival is _EXPECTED or arrival is _SETTLED:
                self.rows += 1
                self._errors += found.verdict in _ERRORS
            reason = self._arrived(arrival, origin, index, found, end)
        if reason and not again:
            self._quarantined.append((reason, line[:QUARANTINE_ROW_BYTES_MAX]))

    def _short_scan(self, lines: Sequence[bytes]) -> Sequence[TextRow | None]:
        """The rows whose lines are outcome lines as they are; where these have more to say there is none."""
        return text_rows(lines) if self._answer_end == PLAIN_END else [None] * len(lines)

    def _arrived(self, arrival: Arrival, origin: str, index: int, found: RowVerdict, end: bytes) -> str:
        """Act on a row that has a key; says why it belongs to nobody, if so."""
        if arrival is _EXPECTED:
            if found.verdict is _ANSWERED:
                self._count(usage_of(found.usage), version_of(found.version))
                self._keep(origin, index, found, end)
            else:
                self._fate(origin, index, found)
        elif arrival is _SETTLED:
            self._late_row(origin, index, found, end)
        else:
            return f"{arrival} key"
        return ""

    def _late_row(self, origin: str, index: int, found: RowVerdict, end: bytes) -> None:
        """An answer to a prompt that went on by another way counts if it is the first; else it is dropped."""
        if found.verdict is not _ANSWERED:
            return
        if self._expected.has_gone_on(origin, index):
            self._late_spending.count(usage_of(found.usage), version_of(found.version))
            self._keep(origin, index, found, end)
        else:
            self._late += 1

    def _keep(self, origin: str, index: int, found: RowVerdict, end: bytes) -> None:
        line = answer_line(f"{origin}.{index}", found.raw, end)
        self._buffer.add(origin, index, line, "answered")

    def _count(self, usage: Usage | None, version: str | None) -> None:
        self._spending.count(usage, version)
        if self._answered % self._sample_every == 0:
            self.token_counts.append((usage.prompt_token_count or 0) if usage is not None else 0)
        self._answered += 1

    def _fate(self, origin: str, index: int, found: RowVerdict) -> None:
        key = f"{origin}.{index}"
        if self._partial and found.code == _CANCELLED:
            return  # as if it had not come
        verdict = found.verdict
        if verdict is Verdict.UNUSABLE and self._kit.settings.retry_rows == RetryRows.ALL:
            verdict = Verdict.RETRYABLE
        fate, kind = resolving.row_fate(verdict, 0, self._kit.settings.attempts_max)
        if fate is RowFate.FAIL and kind is not None:
            source, _ = self._expected.origins[origin].place(index)
            line = failure_line(key, kind, found.message, found.code, source.meta.attempt + 1, row=found.raw)
            self._buffer.add(origin, index, line, "failed")
            return
        self._provider_failed(origin, index, verdict, found.message, found.code)

    def _provider_failed(self, origin: str, index: int, verdict: str, message: str, code: int) -> None:
        source, number = self._expected.origins[origin].place(index)
        fate, kind = resolving.row_fate(verdict, source.meta.attempt, self._kit.settings.attempts_max)
        if fate is RowFate.BURY and kind is not None:
            self._doom(origin, index, kind, message, code)
        else:
            self._retries.setdefault(source.meta.id, (source, set()))[1].add(number)

    def _doom(self, origin: str, index: int, kind: FailureKind, message: str, code: int) -> None:
        meta = self._expected.origins[origin].place(index)[0].meta
        self._dead.append((origin, index, kind, message, code))
        self._dead_bytes += meta.raw_bytes // max(1, meta.count)

    async def _bury(self) -> None:
        """Settle failures that are nobody's fault here, and keep what there is of their bodies for a replay."""
        dead, self._dead, self._dead_bytes = self._dead, [], 0
        parts: Lines = {}
        for origin, index, *_ in dead:
            source, number = self._expected.origins[origin].place(index)
            parts.setdefault(source.meta.id, (source, set()))[1].add(number)
        lost = await lost_bodies(self._kit.store, [source for source, _ in parts.values()])
        ordered = [(source, sorted(numbers)) for id_, (source, numbers) in parts.items() if id_ not in lost]
        lines = await RetryWriter(self._kit, self._lease, self._batch).lines(ordered)
        keys = [source.meta.key_of(number) for source, numbers in ordered for number in numbers]
        bodies = dict(zip(keys, lines, strict=True))
        if lost:
            log.error("body.lost", batch=self._batch.id, segments=lost, but="only a replay would need it")
        for origin, index, kind, message, code in dead:
            key = f"{origin}.{index}"
            source, _ = self._expected.origins[origin].place(index)
            line = failure_line(key, kind, message, code, source.meta.attempt + 1)
            self._buffer.add(origin, index, line, "failed")
            if key in bodies:
                self._buffer.bury(origin, (key, str(source.meta.lane), kind, message, bodies[key].decode()))

    async def _lose_retries(self) -> None:
        why = await lost_bodies(self._kit.store, [source for source, _ in self._retries.values()])
        for id_ in why:
            source, numbers = self._retries.pop(id_)
            for number in numbers:
                self._lose(*split_key(source.meta.key_of(number)), why, bought=1)

    def _lose(self, origin: str, index: int, why: Mapping[str, str], *, bought: int) -> None:
        """This prompt's body is gone from the server, so it cannot be asked for (again)."""
        source, _ = self._expected.origins[origin].place(index)
        said = why[source.meta.id]
        if source.meta.id not in self._lost:
            self._lost.add(source.meta.id)
            log.error("body.lost", batch=self._batch.id, segment=source.meta.id, why=said)
        message = f"{said}; submit it again"
        line = failure_line(f"{origin}.{index}", FailureKind.LOST, message, 0, source.meta.attempt + bought)
        self._buffer.add(origin, index, line, "lost")

    async def _send_quarantine(self) -> None:
        if self._quarantined:
            rows, self._quarantined = self._quarantined, []
            try:
                with effect(Effect.RESOLVE_QUARANTINE):
                    await self._kit.store.quarantine(self._batch.id, rows)
            except ServerFull as error:  # what belongs to nobody must not keep the batch from its end
                log.warning("rows.not_kept", batch=self._batch.id, rows=len(rows), error=str(error)[:300])
                return
            log.warning("rows.quarantined", batch=self._batch.id, rows=len(rows), first=rows[0][0])

    async def _send_retries(self) -> None:
        """Retry segments hold lines that share what a segment has once, and no more of them than a segment may hold."""
        groups: dict[tuple[str, int, int, int, int], list[tuple[Source, list[int]]]] = {}
        for source, numbers in self._retries.values():
            meta = source.meta
            group = groups.setdefault((meta.tenant, meta.priority, meta.deadline_at, meta.doubts, meta.attempt), [])
            group.append((source, sorted(numbers)))
        self._retries = {}
        writer = RetryWriter(self._kit, self._lease, self._batch)
        for (*_, doubts, attempt), parts in groups.items():
            for chunk in chunks(parts, self._kit.settings.segment_prompts_max, self._kit.settings.segment_bytes_max):
                id_ = self._lease.next_retry_id()
                delay_s = backoff.retry_delay_s(attempt, self._kit.settings, id_)
                why = Why(attempt=attempt + 1, requeues=0, delay_ms=int(delay_s * 1000), doubts=doubts)
                with effect(Effect.RESOLVE_REQUEUE):
                    await writer.move(id_, chunk, why)


def chunks(
    parts: Sequence[tuple[Source, list[int]]], prompts_max: int, bytes_max: int
) -> list[list[tuple[Source, list[int]]]]:
    """Cut parts into chunks of at most ``prompts_max`` lines and about ``bytes_max`` bytes (by each segment's mean)."""
    cut: list[list[tuple[Source, list[int]]]] = []
    room = room_bytes = 0
    for source, numbers in parts:
        mean = max(1, source.meta.raw_bytes // max(1, source.meta.count))
        start = 0
        while start < len(numbers):
            if room <= 0 or room_bytes < mean:
                cut.append([])
                room, room_bytes = prompts_max, max(bytes_max, mean)
            take = min(room, max(1, room_bytes // mean), len(numbers) - start)
            cut[-1].append((source, numbers[start : start + take]))
            room, room_bytes, start = room - take, room_bytes - take * mean, start + take
    return cut
