"""The same command on a store that does not know what OUT was begun with: it is refused before it buys a row again."""

from __future__ import annotations

import asyncio
import io
import secrets
import signal
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from gemqueue.config import Settings
from gemqueue.errors import ConfigError
from gemqueue.store.runs import RunStore
from gemqueue_workers.run.options import RunOptions, named
from gemqueue_workers.run.progress import Progress
from gemqueue_workers.run.runner import Runner
from gemqueue_workers.run.stores import Known, place_of
from tests.cli.command import start
from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

ACCOUNT = "emulated.local"
ROWS = 30


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """A queue with a worker; other queues of the same server have none, so that nothing of theirs lands."""
    with RunWorld(tmp_path_factory.mktemp("stores"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


class Place:
    """IN, OUT and the run between them, which may be started on any queue of the server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.source, self.out = folder / "in.jsonl", folder / "out.jsonl"
        self.said = io.StringIO()
        self.options = named(RunOptions(source=str(self.source), out=str(self.out), model=MODEL))
        self._url = url
        self.write(ROWS)

    def write(self, rows: int) -> None:
        """IN has so many rows."""
        lines = [msgspec.json.encode({"key": f"k{n}", "prompt": f"Say {n}"}) + b"\n" for n in range(rows)]
        self.source.write_bytes(b"".join(lines))

    @asynccontextmanager
    async def store(self, queue: str) -> AsyncGenerator[RunStore]:
        """The store of a queue."""
        store = RunStore(self._url, Settings(queue=queue, emulate=True, redis_url=self._url))
        try:
            yield store
        finally:
            await store.aclose()

    async def bought(self, queue: str) -> int:
        """The rows that the queue has taken for this run."""
        async with self.store(queue) as store:
            record = await store.run_record(ACCOUNT, self.options.name)
        return record.rows if record else 0

    async def command(self, queue: str, **given: Any) -> None:
        """``gemqueue run`` on this queue, to its end."""
        settings = Settings(queue=queue, emulate=True, redis_url=self._url, segment_prompts_max=10)
        runner = Runner(self.options, settings, lambda _: None, **given)
        await runner.run(Progress(Console(file=self.said, width=1000), MODEL))

    async def start(self, queue: str, *, until: int, **given: Any) -> None:
        """The command on this queue, until it has taken so many rows there; then it is stopped."""
        task = asyncio.create_task(self.command(queue, **given))
        while not task.done() and not (until and await self.bought(queue) >= until):
            await asyncio.wait([task], timeout=0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def refused(self, queue: str, match: str) -> None:
        """The command on this queue is refused, says so, and has taken nothing, however often it is given."""
        before = await self.bought(queue)
        for _ in range(2):
            with pytest.raises(ConfigError, match=match):
                await self.start(queue, until=0)
        assert await self.bought(queue) == before


@pytest.fixture
def place(world: RunWorld, tmp_path: Path) -> Place:
    """A place of the test's own."""
    return Place(tmp_path, world.env["GEMQUEUE_REDIS_URL"])


def a_queue() -> str:
    """The name of a queue that nobody else has."""
    return f"t{secrets.token_hex(6)}"


async def test_another_queue(world: RunWorld, place: Place) -> None:
    """The message names both queues and how many rows would be bought again; --buy-again buys them, and is said."""
    first, other = a_queue(), world.env["GEMQUEUE_QUEUE"]
    await place.start(first, until=ROWS)
    await place.refused(other, rf"begun on the queue '{first}' on unix:.*, and this is the queue '{other}' on unix:")
    said = await asyncio.to_thread(world.refused, place.source, place.out)
    assert f"{ROWS} rows that OUT lacks may have been bought there, and would be bought again" in said
    assert "--buy-again" in said
    report = await asyncio.to_thread(world.run, place.source, place.out, "--buy-again")
    assert (report["rows"], report["answered"], report["submitted"], report["bought_again"]) == (ROWS, ROWS, ROWS, ROWS)
    again = await asyncio.to_thread(world.run, place.source, place.out)
    assert (again["submitted"], again["bought_again"]) == (0, 0)


async def test_back_on_its_own_store(place: Place) -> None:
    """A refusal elsewhere changes nothing: on its own store the same command goes on, and takes nothing twice."""
    first = a_queue()
    await place.start(first, until=ROWS)
    await place.refused(a_queue(), "was begun on")
    place.write(ROWS + 10)
    await place.start(first, until=ROWS + 10)
    assert await place.bought(first) == ROWS + 10


async def test_stopped_in_its_middle(place: Place) -> None:
    """A run that was stopped before all of IN was taken goes on on its own store, and elsewhere counts every row."""
    first = a_queue()
    place.write(10)
    await place.start(first, until=10)
    place.write(ROWS)
    await place.start(first, until=ROWS)
    await place.refused(a_queue(), f"{ROWS} rows that OUT lacks")


async def test_an_emptied_store(place: Place) -> None:
    """After FLUSHALL the same place is another store; once the rows were bought again there, it is the run's own."""
    queue = a_queue()
    await place.start(queue, until=ROWS)
    async with place.store(queue) as store:
        await store.redis.delete(*await store.redis.keys(f"{store.prefix}:*"))
    await place.refused(queue, f"begun on the queue '{queue}' on .*, which was emptied since, or is another server now")
    await place.start(queue, until=ROWS, buy_again=True)
    assert f"--buy-again: {ROWS} rows that OUT lacks may be paid for a second time" in place.said.getvalue()
    place.write(ROWS + 1)
    await place.start(queue, until=ROWS + 1)
    assert await place.bought(queue) == ROWS + 1


async def test_a_run_that_its_store_has_forgotten(place: Place) -> None:
    """Purged, or kept for its time: the same store without the run's record buys no row again that OUT lacks."""
    queue = a_queue()
    await place.start(queue, until=ROWS)
    async with place.store(queue) as store:
        await forget(store, place.options.name)
    await place.refused(queue, r"which knows nothing of it any more: it was purged, or ended longer ago .*\(7 d\)")


async def forget(store: RunStore, run: str) -> None:
    """What the end of ``keep_outcome_s`` does."""
    await store.redis.delete(store.key("run", ACCOUNT, run), store.key("runlist", ACCOUNT, run))


async def test_a_store_that_went_back(place: Place) -> None:
    """A store that still knows the run, but has lost a part of its list, is no better: a restored copy, a failover."""
    queue = a_queue()
    await place.start(queue, until=ROWS)
    async with place.store(queue) as store:
        await store.redis.rpop(store.key("runlist", ACCOUNT, place.options.name))
    await place.refused(queue, "which has lost 1 segment of the run since .* 10 rows that OUT lacks")


async def test_finished_and_forgotten(world: RunWorld, place: Place) -> None:
    """Of a finished run all rows are in OUT: after its time of keeping the same command buys nothing, anywhere.

    A row that cannot be asked was never bought; rows that are added are new, and bought.
    """
    bad = b'{"key": "bad", "request": {"contents": [{"parts": [{"text": "x"}]}], "bogus": 1}}\n'
    place.source.write_bytes(place.source.read_bytes() + bad)
    report = await asyncio.to_thread(world.run, place.source, place.out, code=1)
    assert (report["answered"], report["bad_lines"]) == (ROWS, 1)
    async with place.store(world.env["GEMQUEUE_QUEUE"]) as store:
        await forget(store, place.options.name)
    report = await asyncio.to_thread(world.run, place.source, place.out, code=1)
    assert (report["answered"], report["submitted"], report["bad_lines"]) == (ROWS, 0, 1)
    async with place.store(world.env["GEMQUEUE_QUEUE"]) as store:
        await forget(store, place.options.name)
    place.write(ROWS + 5)
    report = await asyncio.to_thread(world.run, place.source, place.out)
    assert (report["answered"], report["submitted"], report["bought_again"]) == (ROWS + 5, 5, 0)
    assert len(rows_of(place.out)) == ROWS + 5


async def test_killed_before_the_first_row(world: RunWorld, place: Place) -> None:
    """What was begun is noted before anything is bought: killed between the two, it goes on here and not elsewhere."""
    ended = await asyncio.to_thread(
        world.command, "run", str(place.source), "-o", str(place.out), "-m", MODEL,
        GEMQUEUE_CRASH_AT="produce.enqueue:before:1",
    )  # fmt: skip
    assert ended.returncode == 137
    assert await place.bought(world.env["GEMQUEUE_QUEUE"]) == 0
    await place.refused(a_queue(), "would be bought again")
    assert (await asyncio.to_thread(world.run, place.source, place.out))["submitted"] == ROWS


async def test_two_commands_at_once(place: Place) -> None:
    """While a run writes OUT, the same command on another store is refused for that, and takes nothing."""
    first, other = a_queue(), a_queue()
    running = asyncio.create_task(place.command(first))
    while await place.bought(first) < ROWS:
        await asyncio.wait([running], timeout=0.02)
    await place.refused(other, "is being written by another gemqueue run")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await place.bought(first) == ROWS


def test_a_shell_without_the_url(world: RunWorld, tmp_path: Path) -> None:
    """Without GEMQUEUE_REDIS_URL the embedded store answers: the message names its folder, and where the run began."""
    place = Place(tmp_path, world.env["GEMQUEUE_REDIS_URL"])
    env = world.env | {"GEMQUEUE_QUEUE": a_queue()}
    with start("run", str(place.source), "-o", str(place.out), "-m", MODEL, "-q", **env) as process:
        end = time.monotonic() + 60
        while asyncio.run(place.bought(env["GEMQUEUE_QUEUE"])) < ROWS:
            assert time.monotonic() < end
        process.send_signal(signal.SIGINT)
        stopped = process.communicate(timeout=60)[1]
    assert "Go on: gemqueue run" in stopped
    said = world.refused(place.source, place.out, GEMQUEUE_REDIS_URL="", GEMQUEUE_DATA_DIR=str(tmp_path / "data"))
    assert f"this is the queue '{world.env['GEMQUEUE_QUEUE']}' in {tmp_path / 'data' / 'emulated'}" in said
    assert f"was begun on the queue '{env['GEMQUEUE_QUEUE']}' on {world.env['GEMQUEUE_REDIS_URL']}" in said


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Known("s", "here", "p", 5), ""),
        (Known("s", "here", "p", 6), ""),
        (Known("other", "there", "p", 5), ""),
        (Known("s", "here", "p", 4), "on here, which has lost 1 segment of the run since"),
        (Known("s", "there", "q", 5), "on there, which knows nothing of it any more"),
        (Known("other", "here", "q", 5), "on here, which was emptied since, or is another server now"),
        (Known("other", "there", "q", 5), "on here, and this is there"),
    ],
)
def test_what_a_store_has_forgotten(now: Known, words: str) -> None:
    """A store with the run's record and all of its list knows the run, wherever it is; any other has forgotten it."""
    said = Known("s", "here", "p", 5).forgotten_by(now, 60.0)
    assert said.startswith(words)
    assert bool(said) == bool(words)
    assert Known().forgotten_by(now, 60.0) == ""


def test_places_hold_no_secrets() -> None:
    """The URL's login and parameters stand in no message and not in OUT.gemqueue."""
    url = "rediss://user:secret@cache:6380/1?ssl_ca_certs=/ca.pem"
    assert place_of(Settings(redis_url=url), url) == "the queue 'default' on rediss://cache:6380/1"
