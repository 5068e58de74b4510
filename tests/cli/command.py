"""The command line as a process, for tests: what it printed, where, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.worlds import forks

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gemqueue_workers.start"]
END_S_MAX = 120.0


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with the sources on the path, and ``extra``."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "workers"), str(ROOT / "adapters")])
    return os.environ | {"PYTHONPATH": path} | extra


def gemqueue(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``gemqueue ARGUMENTS`` to its end, in a fork of a process that has imported it, or else by itself."""
    return gemqueue_within(END_S_MAX, *arguments, **env)


def gemqueue_within(end_s_max: float, /, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same, killed after ``end_s_max``. Raises TimeoutExpired."""
    environ = environment(**env)
    if forks.takes(environ):
        return forks.run(*arguments, env=environ, timeout_s=end_s_max)
    return _by_itself(end_s_max, arguments, environ)


def real_gemqueue(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``gemqueue ARGUMENTS`` to its end in an interpreter of its own."""
    return _by_itself(END_S_MAX, arguments, environment(**env))


def _by_itself(end_s_max: float, arguments: tuple[str, ...], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=end_s_max, check=False
    )


def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start ``gemqueue ARGUMENTS``, with its output in pipes, and Ctrl-C as a terminal's program has it."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread in the tests
    )


def processes_with(word: str) -> list[int]:
    """The processes with ``word`` in their environment or arguments, where the system tells (Linux).

    A server that shows its address in its title has written it over its environment.
    """
    found: set[int] = set()
    for file in (file for name in ("environ", "cmdline") for file in Path("/proc").glob(f"[0-9]*/{name}")):
        try:
            if word.encode() in file.read_bytes():
                found.add(int(file.parent.name))
        except OSError:
            continue  # it has ended, or it is somebody else's
    return sorted(found)
