"""A stand-in for the workers: carries every prompt through the store's own transitions and answers it by its text.

It makes no provider calls. ``"fail: <kind>"`` as a prompt ends in that failure; everything else is answered with
``echo: <text>``.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue import Queue
from gemqueue.config import Settings
from gemqueue.errors import StoreError
from gemqueue.ids import new_batch_id
from gemqueue.states import Step
from gemqueue.store import bitmap, codec
from gemqueue.store.batches import Claim, JobEnd
from gemqueue.store.groups import Landing
from gemqueue.store.store import Store
from gemqueue.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from gemqueue.client.queue import Connecting

ACCOUNT = "emulated.local"
_LOOK_S = 0.002


def answer_to(text: str) -> bytes:
    """The response to a prompt of this text, as a provider writes it."""
    parts = [{"text": f"echo: {text}"}]
    return msgspec.json.encode({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]})


def outcome_line(line: bytes) -> bytes:
    """The outcome of one line of a segment."""
    row = msgspec.json.decode(line)
    request = row["request"]
    content = request["contents"][0] if "contents" in request else request["content"]
    text = content["parts"][0]["text"]
    if text.startswith("fail: "):
        failure = {"kind": text.removeprefix("fail: "), "message": "as asked", "code": 3, "attempts": 1}
        return msgspec.json.encode({"key": row["key"], "failure": failure})
    if "content" in request:
        vector = msgspec.json.encode({"embedding": {"values": [float(len(text)), 1.0]}})
        return b'{"key":"%b","response":%b}' % (row["key"].encode(), vector)
    return b'{"response":%b,"key":"%b"}' % (answer_to(text), row["key"].encode())


class Answering:
    """Answers while ``open`` is set. ``rows_max`` settles so few rows at a time; ``shuffled`` in any order."""

    def __init__(self, url: str, queue: str, *, rows_max: int = 1_000, seed: int | None = None) -> None:
        self.store = Store(url, Settings(queue=queue, linger_s=0.001, emulate=True))
        self.open = asyncio.Event()
        self.open.set()
        self.batches = 0
        self._rows_max = rows_max
        self._random = random.Random(seed) if seed is not None else None

    async def run(self) -> None:
        """Take step after step, for ever."""
        handlers = {
            Step.PACK: self._pack,
            Step.SUBMIT: self._submit,
            Step.TRACK: self._track,
            Step.RESOLVE: self._resolve,
        }
        while True:
            await self.open.wait()
            with suppress(StoreError):
                for member, _ in await self.store.overdue(ACCOUNT, list(Step)):
                    step, _, id_ = member.partition(" ")
                    claimed = await self.store.claim(Step(step), id_, ACCOUNT)
                    if claimed is not None:
                        await handlers[Step(step)](claimed[0])
            await asyncio.sleep(_LOOK_S)

    async def _pack(self, claim: Claim) -> None:
        batch = new_batch_id()
        while (await self.store.pack(claim, batch, {}))[0] == "packing":
            pass
        await self.store.rest(claim)

    async def _submit(self, claim: Claim) -> None:
        self.batches += 1
        claim = await self.store.begin(claim, "token", "files/f")
        await self.store.accept(claim, f"batches/{claim.id}", "created", 0)

    async def _track(self, claim: Claim) -> None:
        await self.store.end(claim, JobEnd(job_state="succeeded"))

    async def _resolve(self, claim: Claim) -> None:
        for segment in await self.store.manifest(claim.id):
            await self._settle(claim, segment)
        while (await self.store.close(claim, give_back=False))[0] == "closing":
            pass

    async def _settle(self, claim: Claim, segment: str) -> None:
        body = (await self.store.bodies([segment]))[0]
        if body is None:
            return
        lines = codec.expand(body).splitlines()
        done = (await self.store.bitmaps([segment], []))[0][segment]
        indices = list(bitmap.clear_bits(done, len(lines)))
        if self._random is not None:
            self._random.shuffle(indices)
        for start in range(0, len(indices), self._rows_max):
            chunk = indices[start : start + self._rows_max]
            blob = codec.compress(b"\n".join([outcome_line(lines[i]) for i in chunk]))
            landing = Landing(segment, bitmap.of(chunk, len(lines)), len(chunk), blob)
            await self.store.settle(claim, [landing])


def connect(url: str, queue: str, **settings: Any) -> Connecting:
    """A queue on the emulated account whose prompts do not linger, with a busy watchdog."""
    given: dict[str, Any] = {"linger_s": 0.001, "watchdog_s": 0.05, "emulate": True, **settings}
    return Queue.connect(url, queue=queue, **given)


@asynccontextmanager
async def answering(
    url: str, queue: str, *, rows_max: int = 1_000, seed: int | None = None
) -> AsyncGenerator[Answering]:
    """Answer the queue's prompts for as long as the block lasts."""
    worker = Answering(url, queue, rows_max=rows_max, seed=seed)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await end_tasks([task])
        await worker.store.aclose()


async def until_counted(queue: Queue, name: str, value: int, wait_s_max: float = 60.0) -> None:
    """Return when that counter of the queue has that value; asserts that it does within the time."""
    deadline = asyncio.get_running_loop().time() + wait_s_max
    while (await queue.counts()).get(name) != value:
        assert asyncio.get_running_loop().time() < deadline, await queue.counts()
        await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool], wait_s_max: float = 60.0) -> None:
    """Return when the condition holds; asserts that it does within the time."""
    deadline = asyncio.get_running_loop().time() + wait_s_max
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
