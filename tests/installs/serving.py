"""A server, an emulator and a worker of the checkout, for producers that are installed elsewhere."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from tests.cli.command import start
from tests.emulator_process import EmulatorProcess
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

QUEUE: Final = "installs"
QUICK: Final = {"GEMQUEUE_LINGER_S": "0.1", "GEMQUEUE_POLL_FIRST_S": "0.1", "GEMQUEUE_SWEEP_S": "0.2"}
"""Settings with which an answer takes a second."""
_END_S_MAX: Final = 60


class Serving:
    """All three, while the context lasts: ``redis_url`` and ``emulator_url`` lead to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._undo = ExitStack()
        self.redis_url = ""
        self.emulator_url = ""

    def __enter__(self) -> Self:
        """Start them."""
        self.redis_url = self._undo.enter_context(ValkeyServer()).url
        self.emulator_url = self._undo.enter_context(EmulatorProcess(self._folder / "emulator", job_s=0)).url
        env = {"GEMQUEUE_REDIS_URL": self.redis_url, "GEMQUEUE_QUEUE": QUEUE, **QUICK}
        worker = start("work", "--emulate", GOOGLE_GEMINI_BASE_URL=self.emulator_url, **env)
        self._undo.callback(_end, worker)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self._undo.close()


def _end(worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=_END_S_MAX)
