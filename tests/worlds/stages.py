"""The real stages in this process, over a real server and the emulator, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from gemqueue.config import Settings
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.stages.loop import Kit, Lease, run_step
from gemqueue_workers.stages.packer import Packer
from gemqueue_workers.stages.rescuer import Rescuer
from gemqueue_workers.stages.resolver import Resolver
from gemqueue_workers.stages.submitter import Submitter
from gemqueue_workers.stages.tracker import Tracker
from gemqueue_workers.worker.reconciler import Reconciler
from tests.emulator_process import EmulatorProcess
from tests.worlds.bench import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from gemqueue_workers.stages.loop import Handler
    from gemqueue_workers.worker.reconciler import Survey

MODEL = "gemini-3.8-flash"
ACCOUNT = "emulated.local"
LANE = str(Lane(ACCOUNT, MODEL, Kind.GENERATE))
JOB_S = 200.0
"""The emulator's clock goes on while a test runs: longer than any test may take."""


class MovedClock(HandClock):
    """Time that only the test moves; who sleeps wakes once it has been moved far enough."""

    def __init__(self, now_ms: int) -> None:
        super().__init__()
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return len(self._sleepers)

    @property
    def next_wake_s(self) -> float:
        """In how many seconds the first of them wakes."""
        return min((until_ms - self._now_ms for until_ms, _ in self._sleepers), default=math.inf) / 1000

    def advance(self, seconds: float) -> None:
        """Move it on, and wake whoever has slept enough."""
        super().advance(seconds)
        for until_ms, sleeper in self._sleepers:
            if until_ms <= self._now_ms and not sleeper.done():
                sleeper.set_result(None)
        self._sleepers = [each for each in self._sleepers if not each[1].done()]

    async def sleep(self, seconds: float) -> None:
        """Wait until it has been moved on by as much."""
        if seconds <= 0:
            return
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_ms + round(seconds * 1000), sleeper))
        await sleeper


class Stages:
    """One queue, its stages and an account at the provider; nothing runs unless the test says so.

    An ``account`` of another name is a real one to the queue, and the emulator's all the same.
    """

    def __init__(
        self, url: str, queue: str, emulator: EmulatorProcess, *, account: str = ACCOUNT, **settings: Any
    ) -> None:
        self.account = account
        self.clock = MovedClock(emulator.now_ms())
        chosen: dict[str, Any] = {"linger_s": 0.001, "create_timeout_s": 20.0, "delete_files": "never"} | settings
        self.settings = Settings(queue=queue, emulate=True, redis_url=url, **chosen)
        self.emulator = emulator
        self.store = Store(url, self.settings, self.clock)
        self.provider = GeminiProvider(
            api_key="emulated-local",
            account=account,
            base_url=emulator.url,
            emulate=True,
            create_timeout_s=self.settings.create_timeout_s,
        )
        self.keys: list[str] = []
        self.lane = LANE
        self.join("")

    def join(self, pool: str) -> None:
        """Take from this pool, and submit to it; empty for none."""
        self.kit = Kit(store=self.store, provider=self.provider, settings=self.settings, clock=self.clock, pool=pool)
        self.handlers: dict[Step, Handler[Any]] = {
            Step.PACK: Packer(self.kit),
            Step.SUBMIT: Submitter(self.kit),
            Step.TRACK: Tracker(self.kit),
            Step.RESOLVE: Resolver(self.kit),
            Step.RESCUE: Rescuer(self.kit),
        }
        self.lane = str(Lane(pool or self.account, MODEL, Kind.GENERATE))

    async def submit(
        self, *texts: str, deadline_at: int = 0, tenant: str = "default", priority: int = 0, id_: str = ""
    ) -> str:
        """One segment of these prompts, with a new id or the one given; its id."""
        id_ = id_ or new_segment_id()
        body = b"".join(line(f"{id_}.{n}", generate_request(text)) for n, text in enumerate(texts))
        segment = SegmentWrite(
            id=id_,
            lane=self.lane,
            producer=new_producer_id(),
            count=len(texts),
            raw_bytes=len(body),
            tokens=len(texts),
            deadline_at=deadline_at,
            tenant=tenant,
            priority=priority,
        )
        assert (await self.store.enqueue(segment, codec.compress(body))).word == "ok"
        self.keys += [f"{id_}.{n}" for n in range(len(texts))]
        return id_

    async def step(self, step: Step, id_: str = "") -> bool:
        """Claim and handle one step, if it is due; without an id the lane's."""
        return await run_step(self.kit, self.handlers[step], id_ or self.lane)

    async def compare(self, *, apply: bool = True) -> Survey:
        """Every job of the account against the records."""
        server = await self.store.server(self.account)
        return await Reconciler(self.kit, server.home, apply=apply).survey(0)

    async def reconnect(self) -> None:
        """The server was started again."""
        await self.store.redis.connection_pool.disconnect()

    async def step_of_a_sleeper(self, step: Step, id_: str) -> None:
        """A step whose holder renews nothing, as if its process were stopped whenever it waits."""
        taken = await self.store.claim(step, id_, self.account)
        assert taken is not None
        await self.handlers[step].handle(Lease(self.kit, taken[0]), taken[1])

    async def sealed(self) -> str:
        """Pack what is pending; the batch."""
        self.clock.advance(1)
        before = set(await self.store.open_batches())
        await self.step(Step.PACK)
        (batch,) = set(await self.store.open_batches()) - before
        return batch

    async def submitted(self) -> str:
        """A batch of what is pending, with its job."""
        batch = await self.sealed()
        await self.step(Step.SUBMIT, batch)
        return batch

    async def doubted(self, batch: str) -> None:
        """The two looks for the job of a create in doubt, each when it is due."""
        for _ in range(2):
            self.clock.advance(self.settings.settle_s + 1)
            assert await self.step(Step.SUBMIT, batch)

    @contextmanager
    def ticking(self) -> Generator[str]:
        """The URL of a clock for commands: theirs, which goes on while the commands run."""
        file = self.emulator.data.parent / "clock"
        started_s = time.time()
        file.write_text(repr(self.clock.now_ms() / 1000 - started_s))
        yield f"file://{file}"
        self.clock.advance(time.time() - started_s)

    def jobs_end(self) -> None:
        """As much time passes, here and at the provider, as a job takes and a little more."""
        self.clock.advance(JOB_S + 10)
        self.emulator.advance(JOB_S + 10)

    async def drain(self, rounds_max: int = 300) -> None:
        """Do whatever falls due, moving the time on, until no batch is open and nothing is pending."""
        for _ in range(rounds_max):
            pooled = await self.store.overdue(self.kit.pool, (Step.PACK,)) if self.kit.pool else []
            for member, _ in await self.store.overdue(self.account, tuple(Step)) + pooled:
                step, _, id_ = member.partition(" ")
                await self.step(Step(step), id_)
            if not await self.store.open_batches() and not await self._due():
                return
            self.jobs_end()
        raise AssertionError(f"not drained: {await self._due()}")

    async def _due(self) -> list[bytes]:
        found: list[bytes] = []
        for account in filter(None, (self.account, self.kit.pool)):
            found += await self.store.redis.zrange(self.store.key("due", account), 0, -1)
        return found

    async def count(self, name: str) -> int:
        """One counter."""
        return (await self.store.counts()).get(name, 0)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.provider.aclose()
        await self.store.aclose()


@asynccontextmanager
async def open_stages(url: str, queue: str, emulator: EmulatorProcess, **settings: Any) -> AsyncGenerator[Stages]:
    """Stages for as long as the block lasts, at an emulator that has forgotten everything before."""
    emulator.reset()
    emulator.faults([])
    made = Stages(url, queue, emulator, **settings)
    try:
        yield made
    finally:
        await made.aclose()


def start_emulator(folder: Path) -> EmulatorProcess:
    """An emulator whose jobs end when a test moves its time on, and not because the test takes long.

    The caller kills it.
    """
    emulator = EmulatorProcess(folder, job_s=JOB_S)
    emulator.start()
    return emulator
