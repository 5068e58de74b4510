"""A small world for end-to-end tests: a server, an emulator and worker processes, all real, with short times.

Prompts go in through the store and their outcomes are read from it, so that what is judged is what lies in Redis, not
what some client made of it. ``judge`` holds a finished world against the four promises: every prompt has exactly one
outcome, nothing was bought twice, every answer is the one that the emulator publishes for its request, and no key is
left without a TTL or an owner.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from gemqueue.config import Settings
from gemqueue.errors import StoreUnavailable
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import embed_request, generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store
from gemqueue_adapters.interactive import interactive_request
from tests.emulator_process import EmulatorProcess
from tests.leaks import leftovers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from gemqueue.clock import Clock

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {
    "linger_s": 0.05,
    "lease_s": 2.0,
    "create_timeout_s": 1.0,
    "call_timeout_s": 5.0,
    "settle_s": 1.2,
    "drain_s": 5.0,
    "backoff_first_s": 0.1,
    "backoff_max_s": 0.5,
    "quota_backoff_s": 0.2,
    "poll_first_s": 0.1,
    "poll_max_s": 0.5,
    "cancel_settle_s": 0.2,
    "belief_s": 4.0,
    "retry_first_s": 0.1,
    "retry_max_s": 0.3,
    "sweep_s": 0.1,
    "heartbeat_s": 0.5,
}
MODEL = "gemini-3.8-flash"
EMBED_MODEL = "gemini-embedding-2"
DEADLINE_S = 60.0
ENTRY = "gemqueue_workers.start"
"""Where the command starts; that of earlier versions is elsewhere."""


async def until(condition: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S, what: str = "") -> None:
    """Wait until ``condition`` holds; fail after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not await condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(0.02)


class WorkerProcess:
    """``gemqueue work`` as a process; ``entry`` is the module whose ``main`` it is."""

    def __init__(
        self, env: dict[str, str], roles: Sequence[str] = (), log: Path | None = None, entry: str = ENTRY
    ) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "workers"), str(ROOT / "adapters")])
        out = log.open("ab") if log else None
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {entry} import main; main()", "work", *roles],
            env=os.environ | {"PYTHONPATH": path} | env,
            stdin=subprocess.DEVNULL,
            stderr=out,
        )
        if out:
            out.close()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, wait_s: float = DEADLINE_S) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(wait_s)


class HasUrl(Protocol):
    """A server, or several of them behind one URL."""

    @property
    def url(self) -> str:
        """What ``redis_url`` takes."""
        ...


class Processes:
    """See the module's text. Use as an async context manager. An emulator that is lent is emptied and goes on."""

    def __init__(
        self,
        folder: Path,
        valkey: HasUrl,
        queue: str,
        settings: dict[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        emulator_env: dict[str, str] | None = None,
        lent: EmulatorProcess | None = None,
        **emulator: Any,
    ) -> None:
        self.folder = folder
        self.settings = Settings(queue=queue, emulate=True, redis_url=valkey.url, **(QUICK | (settings or {})))
        self._lent = lent is not None
        self.emulator = lent or EmulatorProcess(folder / "emulator", env=emulator_env, **({"job_s": 0.2} | emulator))
        self.store = Store(valkey.url, self.settings, clock)
        self.workers: list[WorkerProcess] = []
        self.requests: dict[str, tuple[Kind, bytes]] = {}
        self._producer = new_producer_id()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.emulator.reset if self._lent else self.emulator.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        if not self._lent:
            self.emulator.kill()
        await self.store.aclose()

    def env(self, **more: str) -> dict[str, str]:
        """What a process needs to join this world."""
        named = msgspec.structs.asdict(self.settings)
        given = {name: named[name] for name in ("queue", "redis_url", *QUICK) if name in named}
        variables = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in given.items()}
        changed = {k: v for k, v in named.items() if v != getattr(Settings(), k) and k not in ("base_url", "emulate")}
        variables |= {f"GEMQUEUE_{name.upper()}": str(value) for name, value in changed.items()}
        return variables | {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": self.emulator.url} | more

    def start_worker(self, *roles: str, entry: str = ENTRY, **env: str) -> WorkerProcess:
        """One more worker process."""
        worker = WorkerProcess(self.env(**env), roles, self.folder / "workers.log", entry)
        self.workers.append(worker)
        return worker

    async def submit(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = Kind.GENERATE,
        model: str = "",
        segment_prompts: int = 1000,
        deadline_s: float = 0.0,
    ) -> list[str]:
        """Enqueue prompts; their keys, in order."""
        model = model or (MODEL if kind is Kind.GENERATE else EMBED_MODEL)
        lane = str(Lane("emulated.local", model, kind))
        keys: list[str] = []
        deadline_at = self.store.clock.now_ms() + int(deadline_s * 1000) if deadline_s else 0
        for start in range(0, len(texts), segment_prompts):
            id_ = new_segment_id()
            part = texts[start : start + segment_prompts]
            for n, text in enumerate(part):
                request = generate_request(text) if kind is Kind.GENERATE else embed_request(text)
                self.requests[f"{id_}.{n}"] = (kind, request)
                keys.append(f"{id_}.{n}")
            body = b"".join(line(key, self.requests[key][1]) for key in keys[start:])
            segment = SegmentWrite(
                id=id_,
                lane=lane,
                producer=self._producer,
                count=len(part),
                raw_bytes=len(body),
                tokens=len(body) // 4 + 1,
                deadline_at=deadline_at,
            )
            await self._enqueue(segment, codec.compress(body))
        return keys

    async def _enqueue(self, segment: SegmentWrite, blob: bytes) -> None:
        """As a producer does: the same segment again, until the store has said ok."""

        async def taken() -> bool:
            try:
                return (await self.store.enqueue(segment, blob)).word == "ok"
            except StoreUnavailable:
                return False

        await until(taken, what="enqueued")

    async def finished(self) -> bool:
        """Whether every accepted prompt has its outcome and every batch is closed."""
        counts = await self.store.counts()
        outcomes = sum(counts.get(name, 0) for name in ("answered", "failed", "cancelled"))
        return outcomes == counts.get("accepted", 0) and not await self.store.open_batches()

    async def drained(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until everything is finished."""
        await until(self.finished, deadline_s, "drained")
        await until(self._idle, deadline_s, "idle")

    async def _idle(self) -> bool:
        return await leftovers(self.store.redis, self.settings.queue) == []

    async def outcomes(self) -> dict[str, dict[str, Any]]:
        """Every outcome by key. Fails when a key has two."""
        found: dict[str, dict[str, Any]] = {}
        segments = sorted({key.rpartition(".")[0] for key in self.requests})
        for blobs in await self.store.outcomes([(segment, 0) for segment in segments], 1_000_000):
            for blob in blobs:
                for row in codec.expand(blob).strip(b"\n").split(b"\n"):
                    outcome = msgspec.json.decode(row)
                    assert outcome["key"] not in found, f"two outcomes for {outcome['key']}"
                    found[outcome["key"]] = outcome
        return found

    async def judge(self) -> dict[str, dict[str, Any]]:
        """Hold the finished world against the promises; returns the outcomes by key."""
        found = await self.outcomes()
        assert set(found) == set(self.requests), f"{len(set(self.requests) - set(found))} prompts without outcome"
        assert self.emulator.ledger()["bought_twice"] == []
        for key, outcome in found.items():
            if "response" in outcome:
                kind, request = self.requests[key]
                model = MODEL if kind is Kind.GENERATE else EMBED_MODEL
                if "service" in outcome:
                    request = interactive_request(line(key, request), kind, outcome["service"])
                assert outcome["response"] == self.emulator.expect(model, request, str(kind)), key
        assert await leftovers(self.store.redis, self.settings.queue) == []
        return found
