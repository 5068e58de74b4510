"""What a process imports before it works: each worker pays for a worker's start, each TAB for a command's."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from gemqueue_workers.worker.memory import imported
from tests.cli.command import END_S_MAX, environment, gemqueue

_COMMAND = """
import atexit, sys
atexit.register(lambda: print("\\n", *sys.modules))
from gemqueue_workers.start import main
main()
"""
SERVED = ("starlette", "uvicorn", "prometheus_client")
CLIENT = tuple(f"gemqueue.client.{name}" for name in ("queue", "producer", "listener", "futures", "door"))
EMULATOR = ("gemqueue_adapters.emulator", "sqlite3")
HEAVY = ("asyncio", "redis", "httpx", "arq", "rich", "structlog", "zstandard", "cryptography")


def _modules(*argv: str, **env: str) -> set[str]:
    """The modules that are there when the command has ended."""
    ended = _python(_COMMAND, *argv, **env)
    return set(ended.stdout.splitlines()[-1].split())


def _python(code: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *argv],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=END_S_MAX,
        check=False,
    )


def test_a_worker_imports_no_server_client_or_emulator() -> None:
    """A worker that has looked at its settings and is about to ask Redis has what its steps need, and nothing else."""
    there = _modules("work", GEMQUEUE_EMULATE="1", GOOGLE_GEMINI_BASE_URL="")
    assert "gemqueue_workers.stages.resolver" in there
    assert there.isdisjoint({*SERVED, *CLIENT, *EMULATOR, "gemqueue_workers.metrics"})


@pytest.mark.parametrize("argv", [["--help"], ["work", "--help"], ["run", "--help"], ["nonsense"]])
def test_help_imports_nothing_that_is_slow(argv: list[str]) -> None:
    """What only prints (help, a misspelt command, a completion) asks for no loop, no Redis, no HTTP and no colours."""
    assert _modules(*argv).isdisjoint({*HEAVY, *SERVED, *CLIENT, *EMULATOR})


def test_a_probe_imports_nothing_that_is_slow(redis_url: str, queue_name: str) -> None:
    """`gemqueue health` speaks to the server by itself: a tenth of a second of CPU is all that it may cost."""
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    there = _modules("health", **env)
    assert "gemqueue_workers.manage.health" in there
    assert there.isdisjoint({*HEAVY, *SERVED, *CLIENT, *EMULATOR})


def test_a_completion_imports_nothing_that_is_slow() -> None:
    """A TAB is answered without them, too."""
    there = _modules(_GEMQUEUE_COMPLETE="bash_complete", COMP_WORDS="gemqueue wo", COMP_CWORD="1")
    assert there.isdisjoint({*HEAVY, *SERVED, *CLIENT, *EMULATOR})


def test_the_library_imports_its_client_when_it_is_asked_for() -> None:
    """``import gemqueue`` needs no loop and no Redis; ``Queue`` brings them, and is the same class ever after."""
    code = """
import sys, gemqueue
assert set(gemqueue.__all__) <= set(dir(gemqueue))
assert "asyncio" not in sys.modules and "redis" not in sys.modules
from gemqueue import Queue
assert gemqueue.Queue is Queue is sys.modules["gemqueue.client.queue"].Queue and "redis" in sys.modules
"""
    ended = _python(code)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_unknown_name_of_the_library_is_an_attribute_error() -> None:
    """A name that gemqueue does not have is refused as any module's, with its name."""
    ended = _python("import gemqueue; gemqueue.Queu")
    assert "AttributeError: module 'gemqueue' has no attribute 'Queu'" in ended.stderr


def test_what_was_imported_is_left_alone_by_the_collector() -> None:
    """A process that came through ``main`` collects while it works, but looks through what it imported no more."""
    code = (
        "import gc; gc.disable(); from gemqueue_workers.worker.memory import imported; imported(); "
        "print(gc.isenabled(), gc.get_freeze_count() > 1_000)"
    )
    assert _python(code).stdout.split() == ["True", "True"]


def test_the_collector_of_another_program_is_its_own() -> None:
    """Where commands run inside another program, as in tests, its collector is left as it is."""
    before = gc.get_freeze_count()
    imported()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)


def test_a_command_says_what_it_did_before_it_ends() -> None:
    """What a command prints is there, and so is its exit code, though nothing is collected at its end."""
    ended = gemqueue("nonsense")
    assert ended.returncode == 2
    assert "No such command 'nonsense'" in ended.stderr
