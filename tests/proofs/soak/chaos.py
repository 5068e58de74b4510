"""The soak: real producers and workers, a real server behind a proxy, an emulator; and everything that can go wrong.

First a phase in which disturbances follow each other, drawn from the seed. Then all faults end, and everything must
come to its end within bounds. Then the checker judges.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.language.gemini.requests import generate_request
from gemqueue_adapters.emulator.answers.answers import answer
from tests.leaks import leftovers
from tests.proofs.soak.checker import Verdict, check
from tests.proofs.soak.disturbances import LIES_SETTINGS, SETTINGS, disturbances, some_faults, some_lies
from tests.proofs.soak.history import read
from tests.proofs.soak.producer import MODEL
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import ROOT, Processes, until
from tests.worlds.proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worlds.processes import WorkerProcess

BOUGHT_AGAIN = ("bought_twice", "bought_again")
"""The counters of prompts that the queue itself says it bought once more than it had to."""
_TIDY_S_MAX = 20.0
_STOP_S = (2.5, 5.0)
"""Longer than the lease, so that whoever wakes up has been overtaken."""


class Options(msgspec.Struct, frozen=True):
    """How long the disturbances last, and how much there is to disturb."""

    seconds: float = 60.0
    seed: int = 1
    producers: int = 3
    workers: int = 3
    per_s: float = 40.0
    """Prompts a second and producer, about."""
    pause_s: float = 1.2
    """Between two disturbances, on average."""
    end_s_max: float = 320.0
    """How long everything may take to end once nothing disturbs it: longer than a whole belief."""
    lies: bool = False
    """Whether the provider also tells what is not so."""


class Report(msgspec.Struct, frozen=True):
    """What ``--json`` holds."""

    seed: int
    seconds: float
    verdict: Verdict
    done: dict[str, int]
    """Disturbances by kind."""
    faults: dict[str, int]
    """Faults of the provider that fired, by kind."""
    lies: dict[str, int]
    """Lies that it told, by kind."""
    resets: int
    leaked: list[str]
    counts: dict[str, int]
    rows_bought: int
    jobs: int

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return self.verdict.holds and not self.leaked


class Producer:
    """A client process, under one name for all its lives."""

    def __init__(self, name: str, folder: Path, options: Options, env: dict[str, str]) -> None:
        self.log = folder / f"{name}.jsonl"
        self._name = name
        self._folder = folder
        self._options = options
        self._env = env
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = self._options
        path = os.pathsep.join((str(ROOT), str(ROOT / "workers"), str(ROOT / "adapters")))
        with (self._folder / "producers.log").open("ab") as out:
            return subprocess.Popen(
                [
                    sys.executable, "-m", "tests.proofs.soak.producer", "--name", self._name, "--log", str(self.log),
                    "--stop", str(self._folder / "stop"), "--seed", str(options.seed), "--per-s", str(options.per_s),
                ],
                env=os.environ | {"PYTHONPATH": path} | self._env,
                stdin=subprocess.DEVNULL,
                stderr=out,
                cwd=ROOT,
            )  # fmt: skip

    def kill_and_restart(self) -> None:
        """As a crash, and its supervisor."""
        self.kill()
        self.process = self._start()

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()


class Chaos:
    """One run in one world."""

    def __init__(self, world: Processes, server: ValkeyServer, proxy: TcpProxy, options: Options) -> None:
        self._world = world
        self._server = server
        self._proxy = proxy
        self._options = options
        self._dice = random.Random(options.seed)
        self._done: Counter[str] = Counter()
        self._fired: Counter[str] = Counter()
        self._in_force: list[dict[str, Any]] = []
        self._told: Counter[str] = Counter()
        self._wakers: set[asyncio.Task[None]] = set()
        self._workers: list[WorkerProcess] = []
        self._producers: list[Producer] = []

    async def run(self) -> Report:
        """Disturb, let end, judge."""
        options, folder = self._options, self._world.folder
        self._workers = [self._world.start_worker() for _ in range(options.workers)]
        env = self._world.env()
        self._producers = [Producer(f"p{n}", folder, options, env) for n in range(options.producers)]
        try:
            await until(self._begun, options.end_s_max, "the first prompt accepted")
            started = time.monotonic()
            await self._disturb(started + options.seconds)
            await self._let_end()
            return await self._judge(time.monotonic() - started)
        finally:
            for producer in self._producers:
                producer.kill()

    async def _begun(self) -> bool:
        return (await self._world.store.counts()).get("accepted", 0) > 0

    async def _disturb(self, until_s: float) -> None:
        for what in disturbances(self._dice, lies=self._options.lies):
            await asyncio.sleep(self._dice.uniform(0.1, 2 * self._options.pause_s))
            if time.monotonic() > until_s:
                return
            await getattr(self, f"_{what}")()
            self._done[what] += 1

    async def _kill_worker(self) -> None:
        n = self._dice.randrange(len(self._workers))
        self._workers[n].kill()
        self._world.workers.remove(self._workers[n])
        self._workers[n] = self._world.start_worker()

    async def _stop_worker(self) -> None:
        self._pause(self._dice.choice(self._workers).process)

    async def _kill_producer(self) -> None:
        self._dice.choice(self._producers).kill_and_restart()

    async def _stop_producer(self) -> None:
        self._pause(self._dice.choice(self._producers).process)

    def _pause(self, process: subprocess.Popen[bytes]) -> None:
        """SIGSTOP now, SIGCONT later; nothing happens to one that has been killed in between."""
        process.send_signal(signal.SIGSTOP)

        async def wake(after_s: float) -> None:
            try:
                await asyncio.sleep(after_s)
            finally:
                process.send_signal(signal.SIGCONT)

        task = asyncio.create_task(wake(self._dice.uniform(*_STOP_S)))
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _kill_server(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(self._dice.uniform(0, 0.5))
        await asyncio.to_thread(self._server.start)

    async def _drop_arq(self) -> None:
        redis: Any = self._world.store.redis
        keys = [*await redis.keys("arq:*"), *await redis.keys(f"gq:{self._world.settings.queue}:*")]
        if keys:
            await redis.delete(*keys)

    async def _flush_scripts(self) -> None:
        await self._world.store.redis.script_flush()

    async def _lose_replies(self) -> None:
        self._proxy.lose_replies(self._dice.randint(1, 5))

    async def _faults(self) -> None:
        await asyncio.to_thread(self._set_faults, some_faults(self._dice))

    def _set_faults(self, faults: list[dict[str, Any]]) -> None:
        for fault, hits in zip(self._in_force, self._world.emulator.fault_hits(), strict=True):
            self._fired[f"{fault['on']}: {fault['do']}"] += hits
        self._world.emulator.faults(faults)
        self._in_force = faults

    async def _lies(self) -> None:
        await asyncio.to_thread(self._tell, some_lies(self._dice))

    def _tell(self, lies: list[dict[str, Any]]) -> None:
        for lie in self._world.emulator.get("lies"):
            self._told[f"{lie['route']}: {lie['kind']}"] += lie["told"]
        self._world.emulator.lies(lies)

    async def _let_end(self) -> None:
        """No more faults, and nothing but the truth: everything that was submitted must come to its end."""
        await asyncio.to_thread(self._set_faults, [])
        await asyncio.to_thread(self._tell, [])
        self._proxy.lose_replies(0)
        await asyncio.gather(*self._wakers)
        (self._world.folder / "stop").touch()

        async def ended() -> bool:
            return all(producer.process.poll() is not None for producer in self._producers)

        await until(ended, self._options.end_s_max, "every producer at its end")
        errors = (self._world.folder / "producers.log").read_text()
        assert [producer.process.returncode for producer in self._producers] == [0] * len(self._producers), errors
        await until(self._world.finished, self._options.end_s_max, "everything accepted settled, every batch closed")
        log = (self._world.folder / "workers.log").read_text()
        assert all(worker.alive for worker in self._workers), f"a worker ended by itself: {log[-4000:]}"

    async def _leaked(self) -> list[str]:
        """What is still there when the workers have had time to put away their last steps."""
        world, deadline = self._world, time.monotonic() + _TIDY_S_MAX
        while found := await leftovers(world.store.redis, world.settings.queue):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        return found

    async def _judge(self, seconds: float) -> Report:
        world = self._world
        counts = await world.store.counts()
        ledger = await asyncio.to_thread(world.emulator.ledger)
        histories = {producer.log.stem: read(producer.log) for producer in self._producers}
        verdict = check(
            histories,
            bought_twice=ledger["bought_twice"],
            bought_again=ledger["bought_again"],
            counted=sum(counts.get(name, 0) for name in BOUGHT_AGAIN) if self._options.lies else 0,
            accepted=counts["accepted"],
            expected=expected_text,
        )
        return Report(
            seed=self._options.seed,
            seconds=round(seconds, 1),
            verdict=verdict,
            done=dict(sorted(self._done.items())),
            faults=dict(sorted((kind, n) for kind, n in self._fired.items() if n)),
            lies=dict(sorted((kind, n) for kind, n in self._told.items() if n)),
            resets=self._proxy.resets,
            leaked=await self._leaked(),
            counts=counts,
            rows_bought=ledger["rows_bought"],
            jobs=len(ledger["jobs"]),
        )


def expected_text(prompt: str) -> str:
    """What the emulator answers to this prompt, by its published function."""
    response: Any = msgspec.json.decode(answer("generate", "full", MODEL, generate_request(prompt)))
    return "".join(part["text"] for part in response["candidates"][0]["content"]["parts"])


async def soak(folder: Path, options: Options) -> Report:
    """A run of its own in ``folder``. Raises AssertionError when something does not come to its end."""
    async with AsyncExitStack() as stack:
        server = ValkeyServer(port=free_port())
        stack.push_async_callback(asyncio.to_thread, server.remove)
        await asyncio.to_thread(server.start)
        proxy = await stack.enter_async_context(TcpProxy(server.port))
        settings = SETTINGS | (LIES_SETTINGS if options.lies else {})
        world = Processes(folder, proxy, f"soak{options.seed}", settings, job_s=0.5)
        await stack.enter_async_context(world)
        return await Chaos(world, server, proxy, options).run()
