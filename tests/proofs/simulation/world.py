"""One seed's story: workers and producers that live, die and come back, until everything is done or time is up.

First the safety phase: faults as the seed has them. Then the calm: no more faults, the dead are started again, and
everything must come to its end in bounded time. A livelock hides in the first phase and shows in the second.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
from redis.exceptions import OutOfMemoryError

from gemqueue.accounts import pool_id
from gemqueue.errors import StoreUnavailable
from gemqueue.states import Step
from gemqueue.store import base
from gemqueue.store.scripts import SCRIPTS
from gemqueue_workers import settings
from gemqueue_workers.stages import shared_polls
from gemqueue_workers.stages.loop import Kit
from tests.proofs.simulation.calls import DEADLINES_S, history
from tests.proofs.simulation.clients import MODEL, ClientProcess, Prompt
from tests.proofs.simulation.cloud import Cloud
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.events import door
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.lies import BELIEF_S
from tests.proofs.simulation.lines import REFUSED
from tests.proofs.simulation.loop import Process, Scheduler
from tests.proofs.simulation.memory import Memory
from tests.proofs.simulation.network import Network, Server
from tests.proofs.simulation.operator import LIMITED, Replays, decide_beliefs, give_back_all, limit_tenants, operate
from tests.proofs.simulation.provider import SimulatedProvider
from tests.proofs.simulation.scenes import FAILOVER, POOL, TENANTS, choose, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from gemqueue.config import Settings

CALM_S_MAX = 700.0 + 4 * BELIEF_S
"""How long the calm may last until everything is done: a few leases, settle times, polls, retries and requeues; and
some times as long as it takes to believe that results are gone."""
_AFTER_S = 120.0
connecting: Any = base
composition: Any = settings  # its private parts are used: a worker here is started as arq starts one
_NAMES = {word.encode(): name for name, of_script in SCRIPTS.items() for word in of_script}
"""By hash and by text."""
_EVALS = frozenset({b"EVALSHA", b"EVAL"})


class SimulatedClock:
    """The clock of one process."""

    virtual = False

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process

    def now_ms(self) -> int:
        """The wall clock."""
        return self._scheduler.now_ms()

    def monotonic(self) -> float:
        """Seconds."""
        return self._scheduler.now

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)


class ArqClient:
    """What arq is to the workers: jobs that some worker of the queue runs, mostly once, soon, or not at all."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self._known: set[str] = set()

    async def try_out(self, store: object, queue_name: str) -> None:
        """No server refuses anything here."""

    async def enqueue_steps(self, steps: list[tuple[str, str, str]], queue_name: str) -> None:
        """Jobs for steps, but for those that have one. Raises OutOfMemoryError, and then none of them has."""
        fates = {job_id: self._world.faults.draw("alarms") for *_, job_id in steps if job_id not in self._known}
        if "full" in fates.values():
            raise OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'.")
        for step, id_, job_id in steps:
            if job_id in fates:
                self._known.add(job_id)
                self._ring(step, id_, queue_name, {"dropped": 0, "doubled": 2}.get(fates[job_id], 1))

    def _ring(self, step: str, id_: str, queue_name: str, times: int) -> None:
        for _ in range(times):
            workers = [worker for worker in self._world.workers if worker.queue_name == queue_name]
            living = [worker for worker in workers if not worker.process.dead]
            if living:
                worker = living[int(self._world.rng.random() * len(living))]
                at = self._world.scheduler.now + 0.1 * self._world.rng.random()
                self._world.scheduler.at(at, worker.start_step, step, id_, process=worker.process)


class Worker:
    """One worker process: the real composition root, with a kit that leads into this world."""

    def __init__(self, world: SimulatedWorld, name: str, account: str) -> None:
        self._world = world
        self._account = account
        self.queue_name = f"gq:sim:all:{account}"
        # Every fourth seed has no arq: our own loop runs the steps, as on a Cluster.
        self._ctx: dict[str, Any] = {"redis": world.alarms} if world.seed % 4 else {}
        self.process = world.scheduler.process(name, self._main)

    async def _main(self) -> None:
        world, process = self._world, self.process
        clock = world.clock_of(process)
        store = CoreStore(Network(world, process), world.settings, clock)
        provider = SimulatedProvider(world, process, self._account, world.settings.create_timeout_s)
        pool = pool_id(world.settings)
        process.kit = Kit(store=store, provider=provider, settings=world.settings, clock=clock, pool=pool)
        try:
            await composition.begin(self._ctx, settings=world.settings, roles=tuple(Step), queue_name=self.queue_name)
        except StoreUnavailable:
            await world.die(process)  # and its supervisor starts it again

    def start_step(self, step: str, id_: str) -> None:
        """As arq's worker does."""
        if "sweeper" in self._ctx:
            self.process.create_task(composition._run(self._ctx, Step(step), id_))


class SimulatedWorld:
    """One seed."""

    def __init__(self, seed: int, *, trace: bool = False, lies: bool = True) -> None:
        self.seed = seed
        self.has_lies = lies
        self.rng = random.Random(seed)
        self.scheduler = Scheduler(self.rng)
        self.violations: list[str] = []
        self.history: list[str] | None = [] if trace else None
        self.faults = Faults(self.rng)
        self.scenes = choose(self.rng)
        """What this seed has beyond every seed's."""
        self.settings = settings_of(self.scenes, self.rng)
        self.owners = {"emulated.a": "a", "emulated.b": "b"} if "pool" in self.scenes else {"emulated.local": ""}
        """The accounts, and how the names of what is theirs begin at the provider."""
        self.account = pool_id(self.settings) or "emulated.local"
        """Whose lanes prompts go to."""
        if "dead" in self.scenes:
            self.faults.spoil_rows()
        if FAILOVER in self.scenes:
            self.faults.restart_often()
        self._refused = self.rng.choice(("", "", *self.owners)) if "pool" in self.scenes else ""
        self._refused_from = 40 * self.rng.random()
        self.server = Server(self, Memory(self.scheduler.now_ms))
        self.cloud = Cloud(self)
        self.shared_from = self.rng.choice((1, 2, shared_polls.SHARED_FROM))
        """Open batches from which on looks at jobs are shared: the worlds here are small."""
        self.appendfsync = "everysec" if FAILOVER in self.scenes else self.rng.choice(("always", "everysec"))
        """What the server says of itself: under the second, work is compared with the provider after every restart."""
        self.alarms = ArqClient(self)
        self.workers: list[Worker] = []
        self.journals: list[list[Prompt]] = []
        self.fences: dict[bytes, int] = {}
        self.rescued: dict[str, set[bytes]] = {}
        """By key: the segments in which it left a batch that may answer it yet."""
        self.accepted: dict[str, list[str]] = {}
        self.replays = Replays()
        self.operators: set[str] = set()
        """Those who may yet submit dead letters again."""
        self._starts: dict[Process, Callable[[], None]] = {}

    @property
    def has_deadlines(self) -> bool:
        """Whether prompts are wanted by a time, and a policy looks after that."""
        return "deadlines" in self.scenes

    def refuses(self, account: str) -> bool:
        """Whether the provider refuses the account's key: from some time on, until the calm."""
        return self.faults.on and account == self._refused and self.scheduler.now >= self._refused_from

    def clock_of(self, process: Process) -> SimulatedClock:
        """The clock as a process sees it."""
        return SimulatedClock(self.scheduler, process)

    def note(self, who: str, what: str, result: str) -> None:
        """One line of the history."""
        if self.history is not None:
            self.history.append(f"{self.scheduler.now:10.4f} {who:10} {what:60} {result}")

    def saw(self, process: Process, words: Sequence[bytes], reply: Any) -> None:
        """A command has taken effect at the server."""
        name = _NAMES.get(words[1]) if words[0] in _EVALS else None
        if name == "claim" and isinstance(reply, list) and reply[0] == b"ok":
            step, _, id_ = words[5].partition(b" ")
            self._check_fence(words[5] if step == b"rescue" else id_, reply)
        elif name == "replay" and isinstance(reply, list) and reply[0] == b"ok":
            self.replays.saw(msgspec.msgpack.decode(words[5])["id"], words[6:])
        elif name == "rescue" and isinstance(reply, list) and reply[0] == b"ok":
            self._note_rescue(words)
        if self.history is not None and words[0] != b"ZRANGEBYSCORE":
            self.note(process.name, _shown(words, name), _shown_reply(reply))

    def _check_fence(self, record: bytes, reply: Any) -> None:
        flat = reply[1]
        fence = int(dict(zip(flat[::2], flat[1::2], strict=True))[b"fence"])
        if fence <= self.fences.get(record, 0):
            self.violations.append(f"I6 the fence of {record.decode()} went from {self.fences[record]} to {fence}")
        self.fences[record] = fence

    def _note_rescue(self, words: Sequence[bytes]) -> None:
        segment: str = msgspec.msgpack.decode(words[7])["id"]
        for origin, indices in msgspec.msgpack.decode(words[9]):
            for index in indices:
                self.rescued.setdefault(f"{origin}.{index}", set()).add(segment.encode())

    # --- faults of processes ---

    async def befall(self, process: Process, fate: str) -> None:
        """What happens to a process that is about to call somebody."""
        if fate == "crash":
            await self.die(process)
        elif fate == "pause":
            self._pause(process)
            await asyncio.sleep(0)

    async def after_sending(self, process: Process, fate: str) -> None:
        """What happens to it while the call is under way."""
        if fate == "crash_sent":
            await self.die(process)
        elif fate == "pause_sent":
            self._pause(process)
            await asyncio.sleep(0)

    def _pause(self, process: Process) -> None:
        seconds = self.settings.lease_s * (0.3 + 3 * self.rng.random())
        self.note(process.name, "paused", f"{seconds:.1f} s")
        process.pause(seconds)

    async def die(self, process: Process) -> None:
        """It is killed, and started again some time later."""
        self.note(process.name, "killed", "")
        process.kill()
        again = self._starts.pop(process)
        self.scheduler.at(self.scheduler.now + 0.1 + 12 * self.rng.random(), again)
        await process.create_future()

    # --- the story ---

    def run(self) -> None:
        """All of it; ``violations`` says what went wrong."""
        rng = self.rng
        self._write_journals()
        if self.has_deadlines and rng.random() < 0.6:
            name = f"{{gq:sim:00}}:turnaround:{self.account}:{MODEL}"
            self.server.memory.data[name.encode()] = history(self.scheduler.now_ms())
        accounts = list(self.owners)
        for n in range(max(len(accounts), rng.choice((1, 2, 2, 3)))):
            self._start_worker(f"worker-{n}", accounts[n % len(accounts)])
        for n, journal in enumerate(self.journals):
            self._start_client(f"client-{n}", journal)
        if self.cloud.events.on:
            self._start_door()
        for n in range(rng.choice((1, 2)) if "dead" in self.scenes else 0):
            self._start_operator(f"operator-{n}", operate)
        if POOL in self.scenes and rng.random() < 0.5:
            self._start_operator("returner", give_back_all)
        if TENANTS in self.scenes:
            self._start_operator("limiter", limit_tenants)
        if self.has_lies and rng.random() < 0.3:
            self._start_person()
        if rng.random() < 0.5:
            self._start_watcher([prompt for journal in self.journals for prompt in journal if rng.random() < 0.5])
        calm_at = 30 + 60 * rng.random()
        self.scheduler.run(calm_at, self.drained)
        self.faults.on = False
        self.note("world", "calm", "")
        self.scheduler.run(calm_at + CALM_S_MAX, self.drained)
        for worker in self.workers:
            worker.process.kill()
        self.scheduler.run(self.scheduler.now + _AFTER_S)

    def _write_journals(self) -> None:
        rng = self.rng
        for n in range(rng.choice((1, 2, 2))):
            journal: list[Prompt] = []
            for m in range(rng.choice((2, 3, 5, 9))):
                text = f"prompt {n}.{m}" + f" {REFUSED}" * (rng.random() < 0.03)
                name = f"n{n}.{m}" if rng.random() < 0.4 else "bulk" if rng.random() < 0.3 else None
                delay_s = 30 * rng.random() if rng.random() < 0.3 else 0.0
                wish_s = rng.choice(DEADLINES_S) if self.has_deadlines and rng.random() < 0.6 else None
                cancel = rng.random() < 0.06 and FAILOVER not in self.scenes  # a lost cancel buys the prompt after all
                of = rng.choice((*LIMITED, "default")) if TENANTS in self.scenes else "default"
                priority = rng.choice((0, 0, 1)) if TENANTS in self.scenes else 0
                made = Prompt(text, name, delay_s, cancel=cancel, deadline_s=wish_s, tenant=of, priority=priority)
                journal.append(made)
            self.journals.append(journal)

    def _start_worker(self, name: str, account: str) -> None:
        worker = Worker(self, name, account)
        self.workers = [each for each in self.workers if not each.process.dead]
        self.workers.append(worker)
        self._starts[worker.process] = lambda: self._start_worker(name, account)

    def _start_client(self, name: str, journal: list[Prompt]) -> None:
        async def main() -> None:
            await ClientProcess(self, process, journal).run()

        process = self._start(name, main, lambda: self._start_client(name, journal))

    def _start_watcher(self, prompts: list[Prompt]) -> None:
        async def main() -> None:
            await ClientProcess(self, process, []).watch(prompts)

        process = self._start("watcher", main, lambda: self._start_watcher(prompts))

    def _start_operator(self, name: str, life: Callable[[SimulatedWorld, Process], Coroutine[Any, Any, None]]) -> None:
        process = self._start(name, lambda: life(self, process), lambda: self._start_operator(name, life))
        self.operators.add(name)

    def _start_person(self) -> None:
        process = self._start("person", lambda: decide_beliefs(self, process), self._start_person)

    def _start_door(self) -> None:
        process = self._start("door", lambda: door(self, process), self._start_door)

    def _start(self, name: str, main: Callable[[], Coroutine[Any, Any, None]], again: Callable[[], None]) -> Process:
        process = self.scheduler.process(name, main)
        self._starts[process] = again
        return process

    def _due_of(self) -> set[str]:
        return {self.account, *self.owners}

    def drained(self) -> bool:
        """Whether every application has what it wanted and nothing is open in the store."""
        data, prefix = self.server.memory.data, b"{gq:sim:00}:"
        open_ = prefix + b"batches" in data or any(prefix + b"due:" + of.encode() in data for of in self._due_of())
        waits = any(not prompt.finished for journal in self.journals for prompt in journal)
        if open_ or waits or self.operators or self.server.expects_late:
            return False
        counts = {name: int(value) for name, value in data.get(prefix + b"counts", {}).items()}
        return counts.get(b"accepted", 0) == sum(counts.get(name, 0) for name in (b"answered", b"failed", b"cancelled"))


def _shown(words: Sequence[bytes], name: str | None) -> str:
    arguments = words[5:] if name else words[1:]
    texts = (word[:40].decode(errors="replace") for word in arguments)
    shown = " ".join(text if text.isprintable() else "..." for text in texts)
    return f"{name or words[0].decode()} {shown}"[:110]


def _shown_reply(reply: Any) -> str:
    if isinstance(reply, list):
        return " ".join(map(_shown_item, cast("Any", reply)))[:80]
    text = reply[:60].decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    return text if text.isprintable() else "..."


def _shown_item(item: Any) -> str:
    return "[...]" if isinstance(item, list) else _shown_reply(item)


def _own_kit(_settings: Settings, _role: str = "") -> Kit:
    process: Any = asyncio.get_running_loop()
    kit: Kit = process.kit
    return kit


def _no_client(_url: str, _key: str, **_: Any) -> None:
    """A store has its line instead."""


@contextmanager
def repeatable(world: SimulatedWorld) -> Generator[None]:
    """Ids that the code draws come from the seed, a worker's kit is the one of its process, and looks are shared."""
    real, make_kit, connect = secrets.token_hex, composition.make_kit, connecting.connect
    real_pid, os.getpid = os.getpid, lambda: 1
    shared_from = shared_polls.SHARED_FROM
    sharing: Any = shared_polls
    sharing.SHARED_FROM = world.shared_from
    dice = random.Random(world.seed + 1)
    secrets.token_hex = lambda nbytes=None: dice.randbytes(nbytes or 32).hex()
    composition.make_kit = _own_kit
    connecting.connect = _no_client
    try:
        yield
    finally:
        secrets.token_hex, os.getpid = real, real_pid
        composition.make_kit = make_kit
        connecting.connect = connect
        sharing.SHARED_FROM = shared_from
