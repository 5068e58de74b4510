"""What needs an extra says so where it is missing, in one sentence; everything else works without any."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gemqueue.extras import EXTRAS
from tests.cli.command import END_S_MAX, environment, real_gemqueue
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from pathlib import Path

NONE_OF_THEM = ("uvloop", "httptools", *sorted({name for names in EXTRAS.values() for name in names}))
"""Whatever an extra brings."""
_BLOCKER = """
import os, sys
for name in os.environ["WITHOUT"].split():
    sys.modules[name] = None
"""
_SEAL = """
import asyncio
from gemqueue import Queue
asyncio.run(Queue.connect("redis://127.0.0.1:1", seal=True).__aenter__())
"""
_CONNECT = """
import asyncio
from gemqueue import Queue
asyncio.run(Queue.connect(emulate=True).__aenter__())
"""


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """The environment of a process, and of all that it starts, in which no module of an extra can be imported."""
    folder = tmp_path / "blocker"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_BLOCKER)
    path = os.pathsep.join([str(folder), environment()["PYTHONPATH"]])
    return {"PYTHONPATH": path, "WITHOUT": " ".join(NONE_OF_THEM), "GEMQUEUE_DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize(
    ("argv", "needs", "env"),
    [
        ("work", "arq: pip install 'gemqueue[worker]'", {"GEMINI_API_KEY": "k"}),
        (
            "work pack --emulate",
            "arq: pip install 'gemqueue[worker]'",
            {"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"},
        ),
        ("serve", "starlette and uvicorn and prometheus_client: pip install 'gemqueue[serve]'", {}),
        ("admin metrics", "starlette and uvicorn and prometheus_client: pip install 'gemqueue[serve]'", {}),
        ("demo", "starlette and uvicorn: pip install 'gemqueue[emulator]'", {}),
        ("emulate", "starlette and uvicorn: pip install 'gemqueue[emulator]'", {}),
        ("prove -o {out}", "starlette and uvicorn: pip install 'gemqueue[emulator]'", {}),
        ("run {rows} -o {out} -m m --emulate", "starlette and uvicorn: pip install 'gemqueue[emulator]'", {}),
    ],
)
def test_a_command_says_which_extra_it_needs(
    argv: str, needs: str, env: dict[str, str], without: dict[str, str], tmp_path: Path
) -> None:
    """One line on standard error, at start and before any server is, with the line for pip; exit 2."""
    (tmp_path / "rows.jsonl").write_text('{"contents": "a"}\n')
    words = argv.format(rows=tmp_path / "rows.jsonl", out=tmp_path / "out.jsonl").split()
    ended = real_gemqueue(*words, **without, **env)
    said = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout, len(said)) == (2, "", 1)
    assert said[0].startswith("gemqueue: ")
    assert said[0].endswith(f" needs {needs}")


def test_serve_says_that_webhooks_need_an_extra(without: dict[str, str]) -> None:
    """Where webhook_url is set, ``gemqueue serve`` does not start without what verifies its events."""
    without["WITHOUT"] = "cryptography"
    ended = real_gemqueue("serve", "--port", "0", GEMQUEUE_WEBHOOK_URL="https://h.example/webhook", **without)
    assert ended.returncode == 2
    assert ended.stderr.endswith(" needs cryptography: pip install 'gemqueue[webhooks]'\n")


@pytest.mark.parametrize(
    ("argv", "extra"),
    [
        (["-c", _CONNECT], "emulator"),
        (["-c", _SEAL], "seal"),
        (["-m", "gemqueue_adapters.emulator"], "emulator"),
    ],
)
def test_a_program_says_which_extra_it_needs(argv: list[str], extra: str, without: dict[str, str]) -> None:
    """So do ``Queue.connect`` with emulate or seal, before it starts a server, and the emulator as a module."""
    ended = subprocess.run(
        [sys.executable, *argv],
        env=os.environ | without,
        capture_output=True,
        text=True,
        timeout=END_S_MAX,
        check=False,
    )
    assert ended.returncode
    assert f": pip install 'gemqueue[{extra}]'" in ended.stderr.splitlines()[-1]
    assert not os.path.lexists(without["GEMQUEUE_DATA_DIR"])


def test_the_base_answers_a_file(without: dict[str, str], tmp_path: Path) -> None:
    """Without any extra the embedded default works: a server, a worker without arq, and every row answered."""
    (tmp_path / "rows.jsonl").write_text('{"contents": "a"}\n{"contents": "b"}\n')
    with EmulatorProcess(tmp_path / "emulator", job_s=0) as emulator:
        ended = real_gemqueue(
            *("run", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "gemini-3.8-flash"),
            "--emulate",
            GOOGLE_GEMINI_BASE_URL=emulator.url,
            GEMQUEUE_LINGER_S="0.1",
            GEMQUEUE_POLL_FIRST_S="0.1",
            **without,
        )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out.jsonl").read_text().count("[emulated]") == 2


@pytest.mark.parametrize("argv", [["config"], ["status"], ["doctor"], ["admin", "batches"], ["webhooks", "list"]])
def test_the_base_has_the_other_commands(argv: list[str], without: dict[str, str]) -> None:
    """The commands that look and manage import nothing of an extra."""
    ended = real_gemqueue(*argv, GEMQUEUE_EMULATE="1", GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:1", **without)
    assert "needs" not in ended.stderr
    assert "ModuleNotFoundError" not in ended.stderr
