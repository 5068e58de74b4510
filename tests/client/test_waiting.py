"""Whoever waits at a terminal is told once what for, and nobody else is told anything."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gemqueue.client.waiting import Seen, words
from tests.cli.command import environment
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
PROGRAM = """
import asyncio, logging, sys
from gemqueue import Queue

async def main():
    async with Queue.connect(sys.argv[1], queue=sys.argv[2], emulate=True) as queue:
        if sys.argv[3] == "off":
            logging.getLogger("gemqueue.waiting").disabled = True
        if sys.argv[3] == "sent":
            future = await queue.submit("p", model="gemini-3.8-flash")
            while (await future.look()).state != "submitted":
                await asyncio.sleep(0.05)
            await future
        tasks = [asyncio.create_task(queue.map(["p", "q"], model="gemini-3.8-flash")) for _ in range(2)]
        await asyncio.wait(tasks, timeout=float(sys.argv[4]))
        for task in tasks:
            task.cancel()

asyncio.run(main())
"""


async def said(
    url: str, queue: str, *, how: str = "on", seconds: float = 30.0, marks: str = "", tty: bool = True
) -> str:
    """What the program says on standard error, a terminal or a pipe, until ``marks`` are there or it ends."""
    master, slave = pty.openpty() if tty else os.pipe()
    arguments = [sys.executable, "-c", PROGRAM, url, queue, how, str(seconds)]
    heard = b""
    process = subprocess.Popen(
        arguments, env=environment(GEMQUEUE_LINGER_S="0.1"), stderr=slave, stdin=subprocess.DEVNULL
    )
    os.close(slave)
    try:
        with suppress(OSError):  # the terminal's end
            while not (marks and marks.encode() in heard) and (data := await asyncio.to_thread(os.read, master, 4096)):
                heard += data
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        os.close(master)
    return heard.decode().replace("\r\n", "\n")


async def test_a_terminal_is_told_that_no_worker_runs(redis_url: str, queue_name: str) -> None:
    """Both calls' prompts are counted, where they are is said, and once."""
    heard = await said(redis_url, queue_name, seconds=7.0)
    assert heard.count("gemqueue: ") == 1
    assert heard.startswith("gemqueue: 4 prompts wait for answers: waiting to be packed; no worker runs")
    assert "`gemqueue work`" in heard
    assert "queue.lookup(name)" in heard
    assert "Traceback" not in heard


async def test_who_is_no_terminal_or_asks_for_silence_hears_nothing(redis_url: str, queue_name: str) -> None:
    """Nothing is said into a pipe, nor where ``logging`` has the name silenced."""
    both = [said(redis_url, queue_name, seconds=4.5, tty=False), said(redis_url, queue_name, seconds=4.5, how="off")]
    assert await asyncio.gather(*both) == ["", ""]


async def test_a_job_at_the_provider_is_said_with_its_time(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """What is at the provider is said to be there, and since when."""
    async with Processes(tmp_path, valkey, queue_name, {"linger_s": 0.1}, job_s=600.0) as world:
        world.start_worker()

        async def works() -> bool:
            return bool(await world.store.workers())

        await until(works, 60, "a worker")
        heard = await said(valkey.url, queue_name, how="sent", marks="finds its answer")
    assert "1 prompt waits for its answer: at the provider since " in heard
    assert "it is not known yet how long such jobs take." in heard


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ([Seen(1, "waiting to be packed")], "1 prompt waits for its answer: waiting to be packed; it is not known"),
        (
            [Seen(1_200, "at the provider", 1, NOW + timedelta(seconds=20)), Seen(2, "held (quota)", 1)],
            "1,202 prompts wait for answers: 1,200 at the provider since ",
        ),
        (
            [Seen(2, "x", 0, NOW + timedelta(seconds=20)), Seen(1, "x", 0, NOW)],
            "x; the last one is expected in about 20 s.",
        ),
        ([Seen(2, "x", 0, NOW + timedelta(hours=2))], "the last one is expected at about "),
        ([Seen(2, "x")], "how long such jobs take, at Google minutes to hours."),
    ],
)
def test_what_is_said(seen: list[Seen], line: str) -> None:
    """Numbers, places with their times, and when the last one is expected, in plain words."""
    text = words(seen, has_worker=True, emulated=False, now=NOW)
    assert line in text
    assert len(text.splitlines()) == 2
    assert "no worker" not in text


def test_only_what_the_server_has_is_said_to_be_kept() -> None:
    """What the server has not taken is not promised to outlive the program; one prompt is spoken of as one."""
    kept = {
        "They are kept": [Seen(2, "at the provider")],
        "It is kept": [Seen(1, "at the provider")],
        "What the server has taken is kept": [Seen(2, "at the provider"), Seen(1, "not taken by the server yet")],
    }
    for begins, seen in kept.items():
        second = words(seen, has_worker=True, emulated=True, now=NOW).splitlines()[1]
        assert second.startswith(f"{begins} whatever becomes of this program: ")
