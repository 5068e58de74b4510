"""The server forgets the queue under a running job, and the same prompts are asked again: what is bought, what said?

A real account, so far as anybody can tell: what stands before the emulator takes its mark away.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemqueue import Queue
from gemqueue.config import Settings
from tests.cli.command import gemqueue
from tests.proofs.contradictions.common import MODEL, Verdict, bought, let_pass, when
from tests.proofs.contradictions.proxy import MARK, proxied
from tests.stages.reconcile.past import Past
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import QUICK, Processes, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PROMPTS = 10
JOB_S = 6.0
PROD: dict[str, Any] = {"emulate": False, "account": "prod", "queue": "forgot", "watchdog_s": 0.5}
LOOK_S = 12.0
"""How long the script looks: the job ends meanwhile, and another one would."""


class World(Processes):
    """One server, one worker, a client, and an account that is real to them."""

    def __init__(self, folder: Path, server: ValkeyServer, base_url: str, emulator: Any) -> None:
        super().__init__(folder, server, PROD["queue"], lent=emulator)
        self.server = server
        known: dict[str, Any] = {"redis_url": server.url, "base_url": base_url}
        self.settings = Settings(**(QUICK | PROD | known))

    def env(self, **more: str) -> dict[str, str]:
        """For workers and commands."""
        mine = {"GEMQUEUE_EMULATE": "", "GOOGLE_API_KEY": "key-of-a-test"}
        return super().env() | mine | {"GOOGLE_GEMINI_BASE_URL": self.settings.base_url} | more

    async def command(self, *arguments: str) -> str:
        """What a command prints; the proxy goes on in this loop."""
        ended = await asyncio.to_thread(gemqueue, *arguments, **self.env())
        return ended.stdout + ended.stderr

    @property
    def rows(self) -> int:
        """That were bought, or are in jobs that run."""
        return sum(job["rows"] for job in self.emulator.ledger()["jobs"])


def _passed_on(_method: str, _path: str, _body: bytes) -> None:
    """What the proxy does to requests."""


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    """All of it, with a server that writes through."""
    from tests.emulator_process import EmulatorProcess  # noqa: PLC0415 - the conftest of others patches it

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ValkeyServer() as server:
        path = Path(folder)
        with EmulatorProcess(path / "emulator", job_s=JOB_S) as emulator:
            async with proxied(emulator.url, _passed_on, without=frozenset(MARK)) as url:
                made = World(path, server, url, emulator)
                async with made:
                    yield made


async def submit(queue: Queue) -> list[Any]:
    """The prompts, by name."""
    return [await queue.submit(f"prompt {n}", model=MODEL, name=f"doc-{n}") for n in range(PROMPTS)]


async def lose(made: World, how: str, past: Past) -> None:
    """What happens to the server."""
    redis: Any = made.store.redis
    if how == "flushall":
        await redis.flushall()
    elif how == "database":
        await redis.swapdb(0, 1)
    elif how == "backup":
        await asyncio.to_thread(past.come_back)
        await redis.connection_pool.disconnect()


async def main(how: str) -> Verdict:
    """Ask, lose, ask again."""
    logging.basicConfig(stream=sys.stdout, format="client: %(message)s", level=logging.WARNING)
    os.environ["GOOGLE_API_KEY"] = "key-of-a-test"
    async with world() as made:
        past = Past(made.server, made.folder)
        if how == "fresh":
            await made.store.redis.flushall()
        else:
            await greeted(made)
        async with Queue.connect(made.settings.redis_url, settings=made.settings) as queue:
            first = await submit(queue)
            past.save()
            made.start_worker()
            await when(lambda: made.rows == PROMPTS)
            if how != "fresh":
                await lose(made, how, past)
                print(f"{how}: lost, with a job of {made.rows} rows under way")
            again = await submit(queue) if how in {"flushall", "database"} else []
            await let_pass(LOOK_S)
            print_ends("first", first)
            print_ends("again", again)
            print("future.held_reason:", (again or first)[0].held_reason)
            await show(made)
            rows = made.rows
            if how in {"flushall", "database"}:
                await decide(made)
        settled = sum(future.done() for future in first)
        return bought(rows, PROMPTS, well=how in {"flushall", "database"} or settled == PROMPTS)


async def greeted(made: World) -> None:
    """A worker has been here long ago, and its process lives on."""
    worker = made.start_worker()
    await until(lambda: has_home(made), what="a home")
    worker.stop()


async def has_home(made: World) -> bool:
    """Whether a worker has greeted this server."""
    return bool((await made.store.server("127.0.0.1.prod")).home)


def print_ends(which: str, futures: list[Any]) -> None:
    """What became of prompts."""
    done = [future._ticket.outcome for future in futures if future.done()]
    words = {str(outcome.failure.message) if not outcome.ok else "answered" for outcome in done}
    print(f"{which}: {len(done)} of {len(futures)} have ended", *sorted(words)[:1])


async def show(made: World) -> None:
    """What workers and commands say."""
    log = (made.folder / "workers.log").read_text()
    events = re.findall(r"(?:server|reconcile|batch|job)\.(?:forgot|rehomed|held|resumed|rebuilt|adopted)[^\n]*", log)
    print("worker:", *(events[:3] or ["nothing"]), sep="\n  ")
    status = [line for line in (await made.command("status")).splitlines() if "eld" in line or "forg" in line]
    print("status:", *(status or ["nothing"]), sep="\n  ")
    doctor = [line for line in (await made.command("doctor")).splitlines() if re.search("held|twice", line)]
    print("doctor:", *(doctor or ["nothing"]), sep="\n  ")
    metrics = [
        line
        for line in (await made.command("admin", "metrics")).splitlines()
        if re.match("gemqueue_(paused|forg)", line)
    ]
    print("metrics:", *(metrics or ["nothing"]), sep="\n  ")
    print("rows bought, or in jobs:", made.rows)


async def decide(made: World) -> None:
    """An operator looks, and goes on without."""
    home = re.search(r"--home ([0-9a-f]{8})", await made.command("status"))
    if home is None:
        return
    file = made.folder / "paid.jsonl"
    print(await made.command("admin", "reconcile", "--home", home[1], "--apply", "--answers", str(file)))
    print("saved answers:", len(file.read_text().splitlines()))
    await when(lambda: made.rows == 2 * PROMPTS)
    print("then the prompts that were submitted again are bought: rows", made.rows)
