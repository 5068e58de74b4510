"""``gemqueue prove`` as a process against an emulator, and what it says of each assumption."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from tests.cli.command import gemqueue, start
from tests.emulator.plain import Plain

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess

PROJECT = "emulated-local"
"""The key that a run without a real one has, and so its project at the emulator."""
OTHER = "key-of-another-project"
SETTLE_S = 2.5
DEADLINE_S = 60.0
LONG_JOB_S = 600.0
"""How long the jobs take that only the test's own clock moves on."""
ENV = {
    "GEMQUEUE_LEASE_S": "4",
    "GEMQUEUE_CREATE_TIMEOUT_S": "2.4",
    "GEMQUEUE_SETTLE_S": str(SETTLE_S),
    "GEMQUEUE_DRAIN_S": "5",
    "OTHER_KEY": OTHER,
}


class Prove:
    """One report in a folder, over one emulator."""

    def __init__(self, folder: Path, emulator: EmulatorProcess) -> None:
        self.folder = folder
        self.emulator = emulator
        self.arguments = ["prove", "--base-url", emulator.url, "-o", str(folder / "report")]

    def run(self, *more: str, code: int | None = None, **env: str) -> dict[str, Any]:
        """The command to its end; its report. Fails unless it exits with ``code``, where one is given."""
        ended = gemqueue(*self.arguments, "--json", *more, **(ENV | env))
        assert ended.returncode in ((0, 1) if code is None else (code,)), ended.stderr
        report: dict[str, Any] = msgspec.json.decode(ended.stdout)
        return report

    def refused(self, *more: str, **env: str) -> str:
        """The command that is refused; what it says."""
        ended = gemqueue(*self.arguments, *more, **(ENV | env))
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
        return ended.stderr

    def clean(self) -> int:
        """The command with --clean; its exit code."""
        return gemqueue(*self.arguments, "--clean", **ENV).returncode

    def start(self, *more: str, **env: str) -> subprocess.Popen[str]:
        """The command, under way."""
        return start(*self.arguments, *more, **(ENV | env))

    def play(self, *more: str, code: int, **env: str) -> dict[str, Any]:
        """The whole command to its end, over long jobs: time passes as soon as it has seen what there is to see."""
        command = self.start("--json", *more, **env)
        self.until(lambda state: made(state, "pending", "gone_to") and made(state, "rows", "job"))
        self.emulator.advance(0.4 * LONG_JOB_S)
        self.until(lambda state: made(state, "running", "gone_to"))
        self.emulator.advance(LONG_JOB_S)
        self.until(lambda state: "done" in state or made(state, "rows", "mute_ms"))
        self.emulator.advance(LONG_JOB_S)
        stdout, stderr = command.communicate(timeout=DEADLINE_S)
        assert command.returncode == code, stderr
        report: dict[str, Any] = msgspec.json.decode(stdout)
        return report

    @property
    def state(self) -> dict[str, Any]:
        """What the run has written down; nothing before it has."""
        file = self.folder / "report.state.json"
        found: dict[str, Any] = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
        return found

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the written state is so."""
        end = time.monotonic() + DEADLINE_S
        while not condition(self.state):
            assert time.monotonic() < end, self.state
            time.sleep(0.002)

    def left(self) -> list[str]:
        """What is at the provider: names of jobs and files."""
        with Plain(self.emulator.url, key=PROJECT).http as http:
            jobs = http.get("/v1beta/batches?pageSize=100").raise_for_status().json().get("operations", [])
            files = http.get("/v1beta/files?pageSize=100").raise_for_status().json().get("files", [])
        return [each["name"] for each in (*jobs, *files)]


def made(state: dict[str, Any], slot: str, field: str) -> bool:
    """Whether something is written down of a trial's job."""
    return bool(state.get("jobs", {}).get(slot, {}).get(field))


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    """The verdict on each assumption."""
    return {line["name"]: line["verdict"] for line in report["assumptions"]}


def said(report: dict[str, Any], name: str) -> dict[str, Any]:
    """What is said of one assumption."""
    (line,) = (line for line in report["assumptions"] if line["name"] == name)
    return dict(line)
