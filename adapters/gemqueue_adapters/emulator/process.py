"""An emulator as a process of its own, for tests: started, asked, moved in time, killed, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import msgspec

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 60.0


class EmulatorProcess:
    """Runs `python -m gemqueue_adapters.emulator` over the folder `data`.

    Use it as a context manager, or call `start` and `stop`. `env` is added to the environment; `options` are those of
    the command line, with underscores (`job_s=0, answers="echo"`); a True one is a switch, each item of a list an
    option of its own.
    """

    key = "emulator-test-key"
    """A key for clients; any other would do, each being a project of its own."""

    def __init__(self, data: Path, *, env: dict[str, str] | None = None, **options: Any) -> None:
        self.data = data
        self.url: str = ""
        self.pid: int = 0
        self._ready = data.parent / f"{data.name}.ready"
        self._options = options
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._http = self._client()

    def start(self) -> Self:
        """Start it and wait until it accepts requests; a later start keeps the port.

        Raises:
            RuntimeError: it does not start; its standard error says why.
        """
        self._ready.unlink(missing_ok=True)
        options: dict[str, Any] = {"data": self.data, "ready_file": self._ready} | self._options
        arguments = [argument for name, value in options.items() for argument in _arguments(name, value)]
        path = os.pathsep.join(each for each in (str(ROOT), os.environ.get("PYTHONPATH")) if each)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "gemqueue_adapters.emulator", *arguments],
            env=os.environ | {"PYTHONPATH": path} | self._env,
        )
        deadline = time.monotonic() + START_S
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("the emulator did not start")
            time.sleep(0.005)
        ready = msgspec.json.decode(self._ready.read_bytes())
        self.url, self.pid = ready["url"], ready["pid"]
        self._options["port"] = httpx.URL(self.url).port
        return self

    def stop(self) -> int:
        """Ask it to stop; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kill it as a crash would (SIGKILL); `start` goes on with the same folder and port."""
        return self._end(signal.SIGKILL)

    def advance(self, seconds: float) -> None:
        """Push virtual time forward."""
        self.post("clock", {"advance_s": seconds})

    def now_ms(self) -> int:
        """Virtual time."""
        return int(self.get("clock")["now_ms"])

    def faults(self, faults: list[dict[str, Any]]) -> None:
        """Put these faults in the place of the current ones."""
        self.post("faults", faults)

    def fault_hits(self) -> list[int]:
        """How often each fault in force has fired."""
        return [fault["hits"] for fault in self.get("faults")]

    def lies(self, lies: list[dict[str, Any]]) -> None:
        """Tell these lies in the place of the current ones; their windows begin now."""
        self.post("lies", lies)

    def lies_told(self) -> list[int]:
        """How often each lie in force has been told."""
        return [lie["told"] for lie in self.get("lies")]

    def ledger(self) -> dict[str, Any]:
        """What has been bought: {"rows_bought", "bought_twice", "bought_again", "interactive", "jobs"}."""
        found: dict[str, Any] = self.get("ledger")
        return found

    def rows(self, key: str) -> list[dict[str, str]]:
        """Where a key appeared: [{"job", "outcome"}]."""
        found: list[dict[str, str]] = self.get("rows", key=key)
        return found

    def bought(self) -> dict[str, list[str]]:
        """Every key that was answered in a job that ran to its end, with the jobs in which it was."""
        found: dict[str, list[str]] = self.get("bought")
        return found

    def requests(self) -> list[dict[str, Any]]:
        """The log of the last requests."""
        found: list[dict[str, Any]] = self.get("requests")
        return found

    def deliveries(self) -> list[dict[str, Any]]:
        """The log of the last attempts to deliver webhooks."""
        found: list[dict[str, Any]] = self.get("deliveries")
        return found

    def expect(self, model: str, request: Any, kind: str = "generate") -> Any:
        """The response that this request gets; give the very bytes of it in echo mode."""
        raw = msgspec.Raw(request if isinstance(request, bytes) else msgspec.json.encode(request))
        return self.post("expect", {"model": model, "kind": kind, "request": raw})["response"]

    def reset(self) -> None:
        """Forget jobs, files, webhooks, ledger, faults, lies and logs; the clock stays."""
        self.post("reset", {})

    def get(self, name: str, **query: str) -> Any:
        """Ask /_emulator/{name}."""
        return self._http.get(f"{self.url}/_emulator/{name}", params=query).raise_for_status().json()

    def post(self, name: str, value: Any) -> Any:
        """Tell /_emulator/{name}."""
        content = msgspec.json.encode(value)
        return self._http.post(f"{self.url}/_emulator/{name}", content=content).raise_for_status().json()

    def _client(self) -> httpx.Client:
        token = self._options.get("token")
        return httpx.Client(timeout=60, headers={"Authorization": f"Bearer {token}"} if token else {}, trust_env=False)

    def _end(self, signal_number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(signal_number)
        code = self._process.wait(STOP_S)
        self._process = None
        self._http.close()
        self._http = self._client()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._http.close()


def _arguments(name: str, value: str | float | Path | list[str] | None) -> list[str]:
    """An option as the command line takes it, once for each item of a list."""
    items = value if isinstance(value, list) else [value]
    return [f"--{name.replace('_', '-')}" + ("" if item is True else f"={item}") for item in items]
