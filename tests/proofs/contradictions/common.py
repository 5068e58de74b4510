"""What the scripts share: an emulator, an empty data folder, and short ways to what they print."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from gemqueue.embedded.server import acquire
from tests.emulator_process import EmulatorProcess
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from gemqueue import Outcome, Queue
    from gemqueue.store.batches import Claim
    from gemqueue.store.groups import Landing
    from gemqueue.store.store import Store

MODEL = "gemini-3.5-flash"
KEY = "emulated-local"
"""What an emulated worker calls itself by at the provider."""


class Verdict(NamedTuple):
    """What a script has to say in the end: what it is about, with its figures, and whether that held."""

    what: str
    held: bool

    def __str__(self) -> str:
        """As its last line."""
        return f"{self.what}: {'held' if self.held else 'harmed'}"


def bought(rows: int, prompts: int, *, well: bool = True) -> Verdict:
    """Of a script about buying: each row is bought once, and all that must hold besides does (``well``)."""
    return Verdict(f"rows bought {rows}, prompts {prompts}", well and rows == prompts)


async def within(seconds: float, asked: asyncio.Task[list[Outcome]], prompts: int) -> int:
    """How many of these prompts were answered in this time; those that are still awaited are given up."""
    await asyncio.wait({asked}, timeout=seconds)
    if asked.done():
        answered = sum(outcome.ok for outcome in asked.result())
        print(f"answered: {answered} of {prompts}, awaited: 0")
        return answered
    print(f"answered: not all of {prompts} after {seconds:.0f} s, the rest is awaited")
    return 0


async def give_up(asked: asyncio.Task[list[Outcome]]) -> None:
    """Nobody waits for them any longer."""
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


@contextmanager
def data_folder() -> Generator[Path]:
    """An empty folder, with the embedded server's data inside."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["GEMQUEUE_DATA_DIR"] = f"{folder}/data"
        yield Path(folder)


@contextmanager
def at_emulator(**options: Any) -> Generator[EmulatorProcess]:
    """An emulator beside an empty data folder."""
    with data_folder() as folder, EmulatorProcess(folder / "emulator", **options) as emulator:
        yield emulator


@asynccontextmanager
async def embedded_url() -> AsyncGenerator[str]:
    """An embedded server of one's own."""
    with data_folder() as folder:
        server = await acquire(folder / "data")
        try:
            yield server.url
        finally:
            await server.release()


def ask(emulator: EmulatorProcess, path: str, key: str = KEY) -> Any:
    """What the provider says at this path."""
    reply = httpx.get(emulator.url + path, headers={"x-goog-api-key": key}, timeout=60, trust_env=False)
    return reply.raise_for_status().json()


def jobs_of(emulator: EmulatorProcess) -> list[dict[str, Any]]:
    """The jobs in the provider's list."""
    found: list[dict[str, Any]] = ask(emulator, "/v1beta/batches?pageSize=100").get("operations", [])
    return found


def rows_in_jobs(emulator: EmulatorProcess) -> int:
    """Rows of all jobs that exist at the provider: they are paid for when the jobs end."""
    return sum(int(job["metadata"]["batchStats"]["requestCount"]) for job in jobs_of(emulator))


async def some_counts(queue: Queue, *names: str) -> dict[str, int]:
    """These counters."""
    counts = await queue.counts()
    return {name: counts.get(name, 0) for name in names}


async def when(condition: Callable[[], object]) -> None:
    """Wait until it holds."""

    async def holds() -> bool:
        return bool(condition())

    await until(holds)


async def let_pass(seconds: float) -> None:
    """What these scripts show takes its time: nothing says when it is over."""
    await asyncio.sleep(seconds)


async def land(store: Store, claim: Claim, landings: list[Landing]) -> None:
    """These outcomes are answers."""
    await store.settle(claim, landings)
