"""Virtual days: the real stages over a real server and the emulator, driven by the due index alone.

Nothing waits: the time moves to whatever is due next. Before each move a day's own check looks at the records, so what
is claimed of every step is looked at in every step.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.ids import new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import BatchState, Kind, Step
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from tests.emulator_process import EmulatorProcess
from tests.leaks import unowned_keys
from tests.worlds.stages import ACCOUNT, Stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    from gemqueue.policy.quota import Ledger

HOUR_S = 3600.0


class OpenBatch(msgspec.Struct, frozen=True):
    """What the days look at in every step."""

    id: str
    state: BatchState
    tokens: int
    reserved: int
    ended_at: int
    slow_at: int
    cancel_at: int


def int_(text: str) -> int:
    """A field of a record as a number."""
    return int(text or 0)


class Day:
    """Stages whose time is driven."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.started_ms = stages.clock.now_ms()
        self.steps = 0
        self.polls = 0
        self._number = 0

    @property
    def now_s(self) -> float:
        """Seconds since the day began."""
        return (self.stages.clock.now_ms() - self.started_ms) / 1000

    async def submit(self, model: str, prompts: int, text_bytes: int) -> list[str]:
        """One segment of prompts of about this size; their keys."""
        id_ = new_segment_id()
        keys = [f"{id_}.{n}" for n in range(prompts)]
        self._number += 1
        texts = [f"{self._number}.{n} ".ljust(text_bytes, "x") for n in range(prompts)]
        body = b"".join(line(key, generate_request(text)) for key, text in zip(keys, texts, strict=True))
        segment = SegmentWrite(
            id=id_,
            lane=str(Lane(ACCOUNT, model, Kind.GENERATE)),
            producer="00pday",
            count=prompts,
            raw_bytes=len(body),
            tokens=len(body) // 4,
        )
        assert (await self.stages.store.enqueue(segment, codec.compress(body))).word == "ok"
        return keys

    async def run(self, until_s: float, each: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Carry on whatever is due, until so many seconds since the day began; ``each`` looks after every step."""
        store = self.stages.store
        while True:
            for member, _ in await store.overdue(ACCOUNT, tuple(Step)):
                step, _, id_ = member.partition(" ")
                if await self.stages.step(Step(step), id_):
                    self.steps += 1
                    self.polls += step == Step.TRACK
                    for look in each:
                        await look()
            left_s = until_s - self.now_s
            if left_s <= 0:
                return
            first: Any = await store.redis.zrange(store.key("due", ACCOUNT), 0, 0, withscores=True)
            due_s = (first[0][1] - self.stages.clock.now_ms()) / 1000 if first else left_s
            self.advance(min(left_s, max(0.05, due_s)))

    def advance(self, seconds: float) -> None:
        """Time passes, here and at the provider."""
        self.stages.emulator.advance(seconds)
        self.stages.clock.advance(seconds)

    async def open(self) -> list[OpenBatch]:
        """The batches that are not closed."""
        store = self.stages.store
        ids = await store.open_batches()
        pipe = store.redis.pipeline(transaction=False)
        for id_ in ids:
            pipe.hmget(store.key("batch", id_), *OpenBatch.__struct_fields__[1:])
        rows = [[(value or b"").decode() for value in row] for row in await pipe.execute()] if ids else []
        found = [OpenBatch(id_, BatchState(row[0]), *map(int_, row[1:])) for id_, row in zip(ids, rows, strict=True)]
        return [batch for batch in found if batch.state is not BatchState.CLOSED]

    async def ledger_adds_up(self) -> Ledger:
        """The ledger is exactly the sum of the batches that hold a reservation, and each job has one."""
        ledger, open_ = await self.stages.store.ledger(ACCOUNT), await self.open()
        held = {one.batch: one.tokens for one in ledger.reservations if one.until == 0}
        assert held == {batch.id: batch.reserved for batch in open_ if batch.reserved}
        jobs = {batch.id for batch in open_ if batch.state in {BatchState.SUBMITTING, BatchState.SUBMITTED}}
        assert jobs <= set(held), "a job without a reservation"
        return ledger

    async def no_leaks(self) -> None:
        """Every key has a TTL or an owner."""
        assert await unowned_keys(self.stages.store.redis, self.stages.settings.queue) == []


@asynccontextmanager
async def day(url: str, folder: Path, settings: dict[str, Any], **emulator: Any) -> AsyncGenerator[Day]:
    """A day with an emulator of its own."""
    made = EmulatorProcess(folder, **emulator)
    made.start()
    stages = Stages(url, f"d{secrets.token_hex(6)}", made, **settings)
    try:
        yield Day(stages)
    finally:
        await stages.aclose()
        made.kill()
