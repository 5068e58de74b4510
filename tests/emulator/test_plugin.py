"""The pytest plugin, as somebody else's project would use it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = "gemqueue_adapters.emulator.pytest_plugin"
THEIR_TEST = """
import io
from google import genai

def test_a_batch(gemini_emulator):
    client = genai.Client()
    line = b'{"key": "a", "request": {"contents": [{"parts": [{"text": "hi"}]}]}}'
    file = client.files.upload(file=io.BytesIO(line), config={"mime_type": "jsonl"})
    gemini_emulator.faults([{"on": "create", "do": "503", "nth": [1]}])
    try:
        client.batches.create(model="gemini-3.8-flash", src=file.name)
    except genai.errors.ServerError:
        pass
    job = client.batches.create(model="gemini-3.8-flash", src=file.name)
    gemini_emulator.advance(60)
    assert client.batches.get(name=job.name).state == "JOB_STATE_SUCCEEDED"
    assert gemini_emulator.fault_hits() == [1]
    assert gemini_emulator.ledger()["rows_bought"] == 1

def test_the_next_one_starts_empty(gemini_emulator):
    assert gemini_emulator.ledger()["jobs"] == []
"""
THEIR_CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def gemini_emulator_options():
    return {"job_s": 30}
"""


def test_a_project_that_uses_the_plugin(tmp_path: Path) -> None:
    """The fixture leads the official client to an emulator with the project's options, emptied for each test."""
    (tmp_path / "test_theirs.py").write_text(THEIR_TEST)
    (tmp_path / "conftest.py").write_text(THEIR_CONFTEST)
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "adapters")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_wheel_names_the_plugin() -> None:
    """Pytest finds the plugin by the entry point of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"gemini_emulator": PLUGIN}
