"""Workers log in one form, whoever runs them: each event says whose it is, and a failure that goes on is counted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import msgspec
import pytest
import structlog

from gemqueue_workers.logs import Repeats, installed_version
from tests.cli.command import COMMAND, environment
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import until

if TYPE_CHECKING:
    from pathlib import Path

ARQ = [sys.executable, "-m", "arq", "gemqueue_workers.settings.AllSettings"]
WORK = [*COMMAND, "work"]


def env_of(redis_url: str, queue: str) -> dict[str, str]:
    """A worker's settings; the emulator is away."""
    return {
        "GEMQUEUE_REDIS_URL": redis_url,
        "GEMQUEUE_QUEUE": queue,
        "GEMQUEUE_EMULATE": "1",
        "GEMQUEUE_HEARTBEAT_S": "0.2",
        "GEMQUEUE_SWEEP_S": "0.1",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
    }


class Running:
    """A worker with its output in files; use as a context manager."""

    def __init__(self, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._argv, self._env = argv, environment(**env)

    def __enter__(self) -> Self:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(self._argv, env=self._env, stdout=out, stderr=err)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(60)

    @property
    def lines(self) -> list[str]:
        """What it has logged; nothing belongs on standard output."""
        assert self._out.read_text() == ""
        return self._err.read_text().splitlines()

    async def says(self, word: str, times: int = 1) -> None:
        """Return when it has logged this."""

        async def said() -> bool:
            assert self.process.poll() is None, self.lines
            return sum(word in line for line in self.lines) >= times

        await until(said, 60, f"{word} in the log")

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        return await asyncio.to_thread(self.process.wait, 60)


@pytest.mark.parametrize("argv", [WORK, ARQ], ids=["gemqueue", "arq"])
async def test_events_have_one_form(argv: list[str], redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """As JSON where ``log_json`` is set: all lines, arq's own too, with worker, host and version in each event."""
    env = env_of(redis_url, queue_name) | {"GEMQUEUE_LOG_JSON": "true"}
    with Running(argv, tmp_path, env) as worker:
        await worker.says("worker.started")
        worker.process.send_signal(signal.SIGTERM)
        await worker.ended()
        events: list[dict[str, Any]] = [msgspec.json.decode(line) for line in worker.lines]
    assert {"worker.started", "worker.stopped"} <= {event["event"] for event in events}
    ours = [event for event in events if event.get("logger", "gemqueue").startswith("gemqueue")]
    assert len({event["worker"] for event in ours}) == 1
    assert {(event["version"], bool(event["host"])) for event in ours} == {(installed_version(), True)}
    assert all({"level", "timestamp", "event"} <= set(event) for event in events)
    assert any(event.get("logger") == "arq.worker" for event in events) is (argv is ARQ)


@pytest.mark.parametrize("argv", [WORK, ARQ], ids=["gemqueue", "arq"])
async def test_events_are_words_else(argv: list[str], redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """The same line for a person, with time, level, worker, host and version."""
    with Running(argv, tmp_path, env_of(redis_url, queue_name)) as worker:
        await worker.says("worker.started")
        line = next(line for line in worker.lines if "worker.started" in line)
    assert all(word in line for word in ("[info", "worker=", "host=", f"version={installed_version()}"))
    assert line[4] == line[7] == "-"


async def test_a_server_that_is_away_is_no_traceback(queue_name: str, tmp_path: Path) -> None:
    """``gemqueue work`` waits, and says so once; arq's command ends, with a line."""
    away = env_of("redis://127.0.0.1:1", queue_name)
    with Running(ARQ, tmp_path, away) as worker:
        assert await worker.ended() == 1
        assert any("worker.ended" in line and "127.0.0.1:1" in line for line in worker.lines)
        assert "Traceback" not in "\n".join(worker.lines)
    with ValkeyServer() as server, Running(WORK, tmp_path, env_of(server.url, queue_name)) as worker:
        await worker.says("worker.started")
        server.kill()
        await worker.says("worker.restarts")
        server.start()
        await worker.says("worker.started", 2)
        text = "\n".join(worker.lines)
    assert "Traceback" not in text
    assert text.count("worker.restarts") == 1


def test_a_failure_that_goes_on_is_counted() -> None:
    """Said at once, then after 10, 20, 40 seconds and so on with the number left out; after a rest, at once again."""
    now_s = 0.0
    repeats = Repeats(lambda: now_s)
    said: list[tuple[float, int]] = []
    for now_s in (*(half / 2 for half in range(400)), 5_000.0):
        with suppress(structlog.DropEvent):
            event = repeats(None, "", {"level": "warning", "event": "sweep.failed", "error": f"no {now_s}"})
            said.append((now_s, event.get("repeated", 0)))
    assert said == [(0.0, 0), (10.0, 19), (30.0, 39), (70.0, 79), (150.0, 159), (5_000.0, 0)]


def test_others_are_never_left_out() -> None:
    """Events that are no failures, that are about a job, or that differ in more than numbers."""
    repeats = Repeats(lambda: 0.0)
    for _ in range(2):
        for event in (
            {"level": "info", "event": "a", "error": "e"},
            {"level": "error", "event": "a"},
            {"level": "error", "event": "a", "error": "e", "job": "batches/1"},
        ):
            assert repeats(None, "", dict(event)) == event
    for words in ("one", "other"):
        assert repeats(None, "", {"level": "error", "event": "a", "error": words})["error"] == words
