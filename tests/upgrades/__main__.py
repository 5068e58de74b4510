"""Records of a version in every state, as text.

    python -m tests.upgrades --write FOLDER        with the code of that version on the path
    python -m tests.upgrades --old REF             old and new workers side by side (needs git and the REF)

``--write`` runs the code that it finds to each state and writes what lies in Redis: plain structures, with bytes in
base64, and the whole in zlib and base64 where it is long. ``tests/upgrades/<version>/`` was written so at that
version's tag; ``test_upgrades.py`` loads each into a fresh server, and the current code finishes it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from gemqueue import Queue
from gemqueue.config import Settings
from gemqueue.ids import new_batch_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store import bitmap, codec
from gemqueue.store.batches import Claim, JobEnd, RetrySegment
from gemqueue.store.groups import Landing
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.runs import RunEntry, RunStore, digest64, pack_entry
from tests.upgrades import asking
from tests.valkey_server import ValkeyServer
from tests.worlds.bench import HandClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[2]
QUEUE = "upgrade"
ACCOUNT = "emulated.local"
LANE = str(Lane(ACCOUNT, "gemini-3.5-flash", Kind.GENERATE))
JOB, FILE, OUTPUT = "batches/placeholder", "files/placeholder", "files/batch-placeholder"
"""What the loader puts real ones in the place of."""
LONG_BYTES = 40_000
MANY = 501
"""Segments of a batch that pack and close handle in more than one call."""


class Writer:
    """One queue on its way to a state."""

    def __init__(self, url: str, folder: Path = Path()) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.clock.advance(-100_000_000)  # some years ago: later than nothing that is loaded
        settings = Settings(queue=QUEUE, emulate=True, linger_s=0.001)
        self._settings = settings
        self.store = RunStore(url, settings, self.clock)
        self.segments = 0

    def reconnect(self) -> None:
        """A store of its own again, after a client has closed it."""
        self.store = RunStore(self.store.url, self._settings, self.clock)

    async def segment(self, count: int = 3, **more: Any) -> str:
        """One segment with real lines; its id."""
        id_ = f"00{self.segments:020x}"
        self.segments += 1
        body = b"".join(line(f"{id_}.{n}", generate_request(f"upgrade {self.segments} {n}")) for n in range(count))
        given: dict[str, Any] = {"id": id_, "lane": LANE, "producer": "00pold", "count": count}
        given |= {"raw_bytes": len(body), "tokens": count} | more
        write = SegmentWrite(**given)
        assert (await self.store.enqueue(write, codec.compress(body))).word == "ok"
        return id_

    async def claim(self, step: Step, id_: str = LANE) -> Claim:
        """The step, as soon as it is due."""
        for _ in range(3):
            taken = await self.store.claim(step, id_, ACCOUNT)
            if taken is not None:
                return taken[0]
            self.clock.advance(61)
        raise AssertionError(f"{step} {id_} is not due")

    def crash(self) -> None:
        """The lease runs out."""
        self.clock.advance(self.store.settings.lease_s + 1)

    async def sealed(self) -> str:
        """A batch of what is pending."""
        claim, batch, word = await self.claim(Step.PACK), new_batch_id(), "packing"
        while word == "packing":
            word, _, _ = await self.store.pack(claim, batch, {})
        await self.store.rest(claim)
        return batch

    async def begun(self) -> Claim:
        """A batch with an intent."""
        claim = await self.claim(Step.SUBMIT, await self.sealed())
        return await self.store.begin(claim, f"gq-{claim.id}-{claim.fence}", FILE)

    async def submitted(self) -> str:
        """A batch with a job."""
        claim = await self.begun()
        await self.store.accept(claim, JOB, "created", 0)
        return claim.id

    async def ended(self) -> Claim:
        """A batch whose job has ended, held by a resolver."""
        claim = await self.claim(Step.TRACK, await self.submitted())
        await self.store.end(claim, JobEnd(job_state="succeeded", output_file=OUTPUT))
        return await self.claim(Step.RESOLVE, claim.id)

    async def answer(self, claim: Claim, segment: str, indices: list[int]) -> None:
        """Some outcomes of a segment land."""
        lines = [b'{"key":"%b.%d","response":{}}' % (segment.encode(), n) for n in indices]
        bits = bitmap.of(indices, max(indices) + 1)
        blob = codec.compress(b"\n".join(lines))
        await self.store.settle(claim, [Landing(segment, bits, len(indices), blob)])


async def _pending(writer: Writer) -> None:
    await writer.segment(2)
    await writer.segment(1, tenant="other", priority=3)
    await writer.segment(1, names=[(0, "doc-1", "digest")])


async def _packing(writer: Writer) -> None:
    for _ in range(MANY):
        await writer.segment(1)
    claim = await writer.claim(Step.PACK)
    assert (await writer.store.pack(claim, new_batch_id(), {}))[0] == "packing"


async def _sealed(writer: Writer) -> None:
    await _pending(writer)
    await writer.sealed()


async def _intent(writer: Writer) -> None:
    await writer.segment()
    await writer.begun()
    writer.crash()


async def _fenced(writer: Writer) -> None:
    await writer.segment()
    await writer.store.fence(await writer.begun(), 1)


async def _submitted(writer: Writer) -> None:
    await _pending(writer)
    await writer.submitted()


async def _ended(writer: Writer) -> None:
    await _pending(writer)
    await writer.ended()
    writer.crash()


async def _half_settled(writer: Writer) -> None:
    segment = await writer.segment(4)
    claim = await writer.ended()
    await writer.answer(claim, segment, [0, 2])
    writer.crash()


async def _later(writer: Writer) -> None:
    segment = await writer.segment(3)
    claim = await writer.ended()
    await writer.answer(claim, segment, [0])
    body = b"".join(line(f"{segment}.{n}", generate_request(f"upgrade 1 {n}")) for n in (1, 2))
    retry = RetrySegment(
        id=f"{claim.id}r{claim.fence}-0", lane=Lane.parse(LANE), tenant="default", priority=0, count=2,
        raw_bytes=len(body), tokens=2, attempt=1, requeues=0, delay_ms=3_600_000, keys=[(segment, [1, 2])],
        moves=[(segment, bitmap.of([1, 2], 3))],
    )  # fmt: skip
    await writer.store.requeue(claim, retry, codec.compress(body))
    assert (await writer.store.close(claim, give_back=False))[0] == "closed"


async def _closing(writer: Writer) -> None:
    segments = [await writer.segment(1) for _ in range(MANY)]
    claim = await writer.ended()
    for segment in segments:
        await writer.answer(claim, segment, [0])
    assert (await writer.store.close(claim, give_back=False))[0] == "closing"
    writer.crash()


async def _closed(writer: Writer) -> None:
    segment = await writer.segment(2)
    claim = await writer.ended()
    await writer.answer(claim, segment, [0, 1])
    assert (await writer.store.close(claim, give_back=False))[0] == "closed"


async def _run(writer: Writer) -> None:
    await writer.store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    record = await writer.store.run_record(ACCOUNT, "nightly")
    assert record is not None
    entry = RunEntry("00" + "0" * 20, ["a", "b"], digest64(b"a") + digest64(b"b"))
    await writer.segment(2, run="nightly", epoch=record.epoch, entry=pack_entry(entry))


async def _accepted(writer: Writer, count: int) -> None:
    for _ in range(2000):
        if (await writer.store.counts()).get("accepted", 0) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{count} prompts are not accepted")


async def _answer_all(writer: Writer) -> None:
    """What waits in the lane is answered and closed."""
    pending = await writer.store.redis.zrange(writer.store.key("pending", LANE, "default"), 0, -1)
    claim = await writer.ended()
    for segment in pending:
        meta = await writer.store.redis.hgetall(writer.store.key("segmeta", segment.decode()))
        await writer.answer(claim, segment.decode(), list(range(int(meta[b"count"]))))
    assert (await writer.store.close(claim, give_back=False))[0] == "closed"


async def _named(writer: Writer) -> None:
    queue = Queue(writer.store, ACCOUNT, None)
    await queue.open()
    calls = asking.ask(queue)
    await _accepted(writer, len(calls))
    await queue.aclose()
    await asyncio.gather(*calls.values(), return_exceptions=True)
    writer.reconnect()


async def _named_answered(writer: Writer) -> None:
    await _named(writer)
    await _answer_all(writer)


async def _run_middle(writer: Writer) -> None:
    """Half of the run's rows are in OUT, the others wait; its files stand beside the records."""
    os.chdir(writer.folder)  # so that the run's command holds no path of this machine

    def opened(url: str, settings: Settings) -> RunStore:
        return RunStore(url, settings, writer.clock)

    def started(rows: int) -> asyncio.Task[Any]:
        Path("in.jsonl").write_text("".join(map(asking.row, range(rows))))
        return asyncio.create_task(asking.run(writer.store.url, QUEUE, Path(), io.StringIO()))

    with mock.patch("gemqueue_workers.run.connection.RunStore", opened):
        first = started(3)
        await _accepted(writer, 3)
        await _answer_all(writer)
        await first
        second = started(6)
        await _accepted(writer, 6)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


STATES: dict[str, Callable[[Writer], Awaitable[None]]] = {
    "pending": _pending,
    "packing": _packing,
    "sealed": _sealed,
    "intent": _intent,
    "fenced": _fenced,
    "submitted": _submitted,
    "ended": _ended,
    "half_settled": _half_settled,
    "later": _later,
    "closing": _closing,
    "closed": _closed,
    "run": _run,
}

LATER_STATES: dict[str, Callable[[Writer], Awaitable[None]]] = {
    "named": _named,
    "named_answered": _named_answered,
    "run_middle": _run_middle,
}
"""What versions since 0.2.0 have, too."""
FILES = ("in.jsonl", "out.jsonl", "out.jsonl.gemqueue")

_READERS = {"string": "GET", "hash": "HGETALL", "list": "LRANGE {} 0 -1", "set": "SMEMBERS", "stream": "XRANGE {} - +"}
_READERS["zset"] = "ZRANGE {} 0 -1 WITHSCORES"


def plain(value: Any) -> Any:
    """Text where it is text, else base64 under a mark."""
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
        return text
    if isinstance(value, dict):
        pairs = list(cast("dict[object, Any]", value).items())
        return [plain(each) for pair in pairs for each in pair]
    if isinstance(value, list | tuple | set):
        found = list(cast("list[object]", value))
        return [plain(each) for each in found]
    return value


async def dump(client: Any) -> dict[str, Any]:
    """Every key: its type, what is left of its life in ms, and its value as plain structures."""
    found: dict[str, Any] = {}
    for name in sorted(await client.keys("*")):
        kind = (await client.type(name)).decode()
        words = _READERS[kind] if "{}" in _READERS[kind] else _READERS[kind] + " {}"
        value = await client.execute_command(*[name if word == "{}" else word for word in words.split()])
        found[name.decode()] = {"type": kind, "pttl": await client.pttl(name), "value": plain(value)}
    return found


async def write(folder: Path) -> None:
    """One file per state."""
    with ValkeyServer() as server, tempfile.TemporaryDirectory() as files:
        for name, reach in (STATES | LATER_STATES).items():
            writer = Writer(server.url, Path(files))
            await writer.store.redis.flushall()
            await reach(writer)
            text = json.dumps(await dump(writer.store.redis), indent=1, sort_keys=True)
            if len(text) > LONG_BYTES:
                text = json.dumps({"zlib": base64.b64encode(zlib.compress(text.encode(), 9)).decode()})
            await asyncio.to_thread((folder / f"{name}.json").write_text, text + "\n")
            await writer.store.aclose()
        found = {name: (Path(files) / name).read_bytes() for name in FILES}
    text = json.dumps(
        {name: base64.b64encode(zlib.compress(data, 9)).decode() for name, data in found.items()}, indent=1
    )
    await asyncio.to_thread((folder / "files" / "run_middle.json").write_text, text + "\n")


def side_by_side(ref: str) -> int:
    """Unpack REF and let workers of both versions drain one queue; the exit code of that test."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "archive", ref], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        test = ["-m", "pytest", "-q", "tests/upgrades/test_side_by_side.py", "--timeout", "170"]
        environ = os.environ | {"UPGRADE_FROM": folder}
        return subprocess.run([sys.executable, *test], cwd=ROOT, env=environ, check=False).returncode


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.upgrades")
    parser.add_argument("--write", type=Path, help="write the records of the code on the path here")
    parser.add_argument("--old", metavar="REF", help="drain a queue with workers of REF and of this tree")
    options = parser.parse_args()
    if options.write:
        (options.write / "files").mkdir(parents=True, exist_ok=True)
        asyncio.run(write(options.write.resolve()))
        return 0
    if not options.old:
        parser.error("give --write FOLDER or --old REF")
    return side_by_side(options.old)


if __name__ == "__main__":
    sys.exit(main())
