"""Runs one job: reads its input in blocks, answers each row, writes the results in shuffled order.

Memory is flat: a block is about 1 MiB of input, blocks are taken in a shuffled order, rows are shuffled within their
block, and what they become is written at once. Runs in a thread; looks at `aborted` every few rows.
"""

from __future__ import annotations

import os
import random
import re
import zlib
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from gemqueue_adapters.emulator.answers import shapes
from gemqueue_adapters.emulator.answers.answers import Buffer, Mode, answerer, echo_tokens
from gemqueue_adapters.emulator.answers.parts import asks_by_json_schema
from gemqueue_adapters.emulator.faults import ROW_ERRORS, Faults, Occurrence, marker
from gemqueue_adapters.emulator.rows import HEAD, MARKER, Block, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_ROWS = 128
_HEAD = b'{"key":"'
_MIDDLE = b'","request":'
USAGE = re.compile(rb'"promptTokenCount":(\d+)(?:,"candidatesTokenCount":(\d+))?')
NOTHING = msgspec.Raw()
_NULL = msgspec.Raw(b"null")


class Aborted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop; what it wrote is to be thrown away."""


class Plan(msgspec.Struct, frozen=True):
    """Everything that the outcome of a run depends on."""

    kind: Kind
    mode: Mode
    model: str
    seed: int
    number: int
    rows: int
    blocks: list[Block]
    half: bool
    """Only the first half of the rows is answered; the rest ends with code 1, as after a late cancel."""
    inline_input: bool
    inline_output: bool
    shuffled: bool


class Tally(msgspec.Struct):
    """What came of a run: rows failed and bought, keys whose counted marker was at work, tokens paid, and to whom."""

    failed: int = 0
    bought: int = 0
    seen: list[str] = []
    prompt_tokens: int = 0
    answer_tokens: int = 0
    model: str = ""

    def count(self, results: bytes) -> None:
        """Add the tokens that these result lines report."""
        for prompt, answered in USAGE.findall(results):
            self.prompt_tokens += int(prompt)
            self.answer_tokens += int(answered or 0)


class _Row(msgspec.Struct, gc=False):
    """A row with what befalls it."""

    tag: bytes
    key: bytes
    request: Buffer
    fault: str = shapes.ANSWERED
    error: bytes = b""
    model: str = ""


class _Line(msgspec.Struct, gc=False):
    request: msgspec.Raw = NOTHING
    key: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING


class _Metadata(msgspec.Struct, gc=False):
    key: msgspec.Raw = NOTHING


_line = msgspec.json.Decoder(_Line).decode
_metadata = msgspec.json.Decoder(_Metadata).decode


class Runner:
    """One run; `seen` counts, across all jobs, how often a key with a counted marker has been answered."""

    def __init__(self, plan: Plan, faults: Faults, seen: Counter[str], aborted: Callable[[], bool]) -> None:
        self._plan = plan
        self._faults = faults
        self._seen = seen
        self._aborted = aborted
        self._dice = random.Random(f"{plan.seed}:{plan.number}")
        self._answer = answerer(plan.kind, plan.mode, plan.model, plan.seed)
        self._tally = Tally(model=plan.model)
        self._quick = plan.mode == "echo" and not plan.inline_output

    def run(self, source: Path, results: Path, rows: Path) -> Tally:
        """Answer every row of `source` into `results`, and note each outcome and key in `rows`.

        Raises:
            Aborted: as soon as `aborted` says so.
        """
        blocks = list(self._plan.blocks)
        if self._plan.shuffled:
            self._dice.shuffle(blocks)
        with source.open("rb", buffering=0) as file, results.open("wb") as out, rows.open("wb") as notes:
            for block in blocks:
                data = os.pread(file.fileno(), block.length, block.offset)
                lines = [line for line in data.split(b"\n") if line and not line.isspace()]
                if self._plan.half or self._faults.touch_rows or block.marked:
                    self._careful(block, lines, out, notes)
                elif self._quick:
                    self._echo(lines, out, notes)
                else:
                    self._plain(lines, out, notes)
        self._seen.update(self._tally.seen)
        return self._tally

    def _plain(self, lines: list[bytes], out: BinaryIO, notes: BinaryIO) -> None:
        """The short way, for blocks in which no row can have a fault."""
        if self._plan.shuffled:
            self._dice.shuffle(lines)
        answer, cut = self._answer, self._cut
        for chunk in self._chunks(lines):
            rows = [cut(line) for line in chunk]
            results = b"".join([_result(tag, b'"response":' + answer(request)) for tag, _, request in rows])
            out.write(results)
            self._tally.count(results)
            notes.write(b"".join([b"answered\t%b\n" % key for _, key, _ in rows]))
        self._tally.bought += len(lines)

    def _echo(self, lines: list[bytes], out: BinaryIO, notes: BinaryIO) -> None:
        """The shortest way: in echo mode nothing of a row but its key is read, and tokens follow from lengths."""
        if self._plan.shuffled:
            lines = _interleaved(lines, self._dice)
        answer, cut, sizes = self._answer, self._cut, Counter[int]()
        for chunk in self._chunks(lines):
            rows = [cut(line) for line in chunk]
            out.write(b"".join([_echoed(tag, answer(request)) for tag, _, request in rows]))
            sizes.update([len(request) for _, _, request in rows])
            notes.write(b"answered\t" + b"\nanswered\t".join([key for _, key, _ in rows]) + b"\n")
        for size_bytes, count in sizes.items():
            prompt, answered = echo_tokens(size_bytes)
            self._tally.prompt_tokens += prompt * count
            self._tally.answer_tokens += answered * count if self._plan.kind == "generate" else 0
        self._tally.bought += len(lines)

    def _careful(self, block: Block, lines: list[bytes], out: BinaryIO, notes: BinaryIO) -> None:
        rows = [self._judged(index, line) for index, line in enumerate(lines, block.first_row)]
        if self._plan.shuffled:
            self._dice.shuffle(rows)
        swapped = [row for row in rows if row.fault == "swapped"]
        tags = [row.tag for row in swapped]
        for row, tag in zip(swapped, tags[1:] + tags[:1], strict=True):
            row.tag = tag
        again: list[bytes] = []
        for chunk in self._chunks(rows):
            for row in chunk:
                result = self._faulty(row)
                out.write(result)
                self._tally.count(result)
                again.extend([result] if row.fault == "doubled" else ())
                notes.write(b"%b\t%b\n" % (row.fault.encode(), row.key))
                self._tally.bought += row.fault in shapes.BOUGHT
                self._tally.failed += bool(row.error) or row.fault == "missing"
        out.writelines(again)

    def _chunks(self, items: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, len(items), CHUNK_ROWS):
            if self._aborted():
                raise Aborted
            yield items[start : start + CHUNK_ROWS]

    def _cut(self, line: bytes) -> tuple[bytes, bytes, Buffer]:
        """What the result is matched by, the key, the undecoded request; echo mode parses no further than the key."""
        if self._quick and line.startswith(_HEAD) and line.endswith(b"}"):  # as most rows are written
            end = line.find(_MIDDLE, len(_HEAD), 200)
            if end > 0 and b"\\" not in line[:end]:
                key = line[len(_HEAD) - 1 : end + 1]
                return b'"key":' + key, key, line[end + len(_MIDDLE) : -1]
        if self._quick and (head := HEAD.match(line)):
            key = head[1]
            return b'"key":' + key, key, line[head.end() : line.rindex(b"}")].rstrip()
        value = _line(line)
        request = bytes(value.request) or line
        key = b"" if value.key == _NULL else bytes(value.key)
        if self._plan.inline_input:
            metadata = bytes(value.metadata)
            key = bytes(_metadata(metadata).key) if metadata else b""
            return b'"metadata":' + metadata if metadata else b"", key, request
        if self._plan.inline_output:
            return b'"metadata":{"key":%b}' % (key or b'""'), key, request
        return b'"key":' + key if key else b"", key, request

    def _judged(self, index: int, line: bytes) -> _Row:
        """The row, with the fault that befalls it: by the job, by its own marker, or by the engine."""
        row = _Row(*self._cut(line))
        if self._plan.half and index >= self._plan.rows // 2:
            row.fault, row.error = "cancelled", shapes.error("cancelled", 1, None)
            return row
        code, message = 13, None
        if found := self._marked(row.key, line):
            row.fault = found
        elif fault := self._faults.at_row(Occurrence(key=row.key.strip(b'"'), index=index, line=line)):
            row.fault, row.model, code, message = fault.do, fault.model, fault.code, fault.message
        if row.fault == "wrong_shape" and not asks_by_json_schema(row.request):
            row.fault = shapes.ANSWERED
        if row.fault == "error" or row.fault in ROW_ERRORS:
            row.error = shapes.error(row.fault, code, message)
        return row

    def _marked(self, key: bytes, line: bytes) -> str | None:
        found = marker(line) if MARKER in line else None
        if found is None:
            return None
        name, times = found
        if times is None:
            return name
        text = key.decode(errors="replace")
        if self._seen[text] >= times:
            return None
        self._tally.seen.append(text)
        return name

    def _faulty(self, row: _Row) -> bytes:
        """The line or lines of the result file that the row becomes."""
        if row.error:
            return _result(row.tag, b'"error":' + row.error)
        body = b'"response":' + shapes.reshaped(row.fault, self._answer(row.request), row.model)
        if row.fault == "foreign":
            foreign = b'"foreign-%08x"' % zlib.crc32(row.key)
            named = self._plan.inline_input or self._plan.inline_output
            row.tag = b'"metadata":{"key":%b}' % foreign if named else b'"key":' + foreign
        result = _result(row.tag, body)
        broken = {
            "missing": b"",
            "malformed": result[: len(result) * 2 // 3] + b"\n",
            "not_utf8": result.replace(b"emulat", b"emul\xff\xfe", 1),
        }
        if self._plan.inline_input or self._plan.inline_output:
            # An operation with such a row in it would not be JSON at all.
            broken["malformed"] = broken["not_utf8"] = b""
        return broken.get(row.fault, result)


def _interleaved(lines: list[bytes], dice: random.Random) -> list[bytes]:
    """In another order, cheaper than a shuffle: every nth line, then every nth from the second on, and so on."""
    step = dice.randint(2, 50)
    return list(chain.from_iterable(lines[start::step] for start in range(step)))


def _echoed(tag: bytes, response: bytes) -> bytes:
    """As `_result`, with less copying."""
    if not tag:
        return b'{"response":%b}\n' % response
    if len(response) & 1:
        return b'{"response":%b,%b}\n' % (response, tag)
    return b'{%b,"response":%b}\n' % (tag, response)


def _result(tag: bytes, body: bytes) -> bytes:
    """A result line. The service does not keep to one order of its fields (protocol section 9.3)."""
    if not tag:
        return b"{%b}\n" % body
    return b"{%b,%b}\n" % ((tag, body) if len(body) & 1 else (body, tag))
