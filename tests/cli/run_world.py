"""One server, one emulator and one worker for the tests of ``gemqueue run`` and its siblings."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec
from redis import Redis

from gemqueue.ids import SHARD
from tests.cli.command import environment, gemqueue
from tests.emulator_process import EmulatorProcess
from tests.worlds.processes import DEADLINE_S, QUICK

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3.8-flash"


class RunWorld:
    """The environment in which commands are run; use as a context manager."""

    def __init__(self, folder: Path, redis_url: str, queue: str, job_s: float = 0.1, **emulator: Any) -> None:
        self.emulator = EmulatorProcess(folder / "emulator", job_s=job_s, **emulator)
        self.env = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in QUICK.items()}
        self.env |= {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue, "GEMQUEUE_EMULATE": "1"}
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.emulator.start()
        self.env["GOOGLE_GEMINI_BASE_URL"] = self.emulator.url
        self._worker = self.worker(self.env)
        self._await_worker()
        return self

    def _await_worker(self) -> None:
        """Until its heartbeat is there: commands look at who works."""
        end = time.monotonic() + DEADLINE_S
        with cast("Any", Redis).from_url(self.env["GEMQUEUE_REDIS_URL"]) as client:
            while not client.exists(f"{{gq:{self.env['GEMQUEUE_QUEUE']}:{SHARD}}}:workers"):
                assert time.monotonic() < end, "no heartbeat"
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.kill_worker()
        self.emulator.kill()

    def kill_worker(self) -> None:
        """As a crash would."""
        assert self._worker is not None
        self._worker.kill()
        self._worker.wait()

    @staticmethod
    def worker(env: dict[str, str]) -> subprocess.Popen[bytes]:
        """A worker of its own for another environment; whoever asks for it ends it."""
        argv = [sys.executable, "-m", "gemqueue_workers.start", "work"]
        return subprocess.Popen(argv, env=environment(**env), stderr=subprocess.DEVNULL)

    def command(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """``gemqueue ARGUMENTS`` to its end."""
        return gemqueue(*arguments, **(self.env | env))

    def run(self, source: Path, out: Path, *more: str, code: int = 0) -> dict[str, Any]:
        """``gemqueue run``; its report. Fails unless it exits with ``code``."""
        ended = self.command("run", str(source), "-o", str(out), "-m", MODEL, "--json", *more)
        assert ended.returncode == code, ended.stderr
        report: dict[str, Any] = msgspec.json.decode(ended.stdout)
        return report

    def dry_run(self, source: Path, out: Path, *more: str) -> dict[str, Any]:
        """``gemqueue run --dry-run``; what it says. Fails unless every line is good."""
        ended = self.command("run", str(source), "-o", str(out), "-m", MODEL, "--dry-run", "--json", *more)
        assert ended.returncode == 0, ended.stderr
        planned: dict[str, Any] = msgspec.json.decode(ended.stdout)
        return planned

    def refused(self, source: Path, out: Path, *more: str, **env: str) -> str:
        """``gemqueue run`` that is refused: one line that says why, exit 2, and nothing bought by it."""
        before = self.emulator.ledger()["rows_bought"]
        ended = self.command("run", str(source), "-o", str(out), "-m", MODEL, *more, **env)
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert "Traceback" not in ended.stderr
        assert self.emulator.ledger()["rows_bought"] == before
        return ended.stderr


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    """OUT by key. Fails when a key stands in it twice."""
    rows = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    found: dict[str, dict[str, Any]] = {row["key"]: row for row in rows}
    assert len(found) == len(rows)
    return found
