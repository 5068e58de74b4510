"""Bad options and settings end in one clear message and exit 2."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.command import gemqueue, start

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["demo", "--prompts", "0"], {}, "--prompts"),
        (["demo", "--prompt", "5"], {}, "--prompts"),
        (["demo", "--prompts", "2", "--out", "/nowhere/at/all.jsonl"], {}, "/nowhere/at/all.jsonl"),
        (["work", "fly"], {}, "'fly'"),
        (["work"], {"GEMQUEUE_REDIS_URL": "redis://localhost:1"}, "GEMINI_API_KEY"),
        (["work"], {"GEMQUEUE_EMBEDDED": "perhaps"}, "embedded"),
        (["status"], {"GEMQUEUE_REDIS_URL": "redis://user:hunter2@localhost:1"}, "GEMQUEUE_REDIS_URL"),
        (["status"], {"GEMQUEUE_REDIS_URL": "http://localhost"}, "redis_url"),
        (["status"], {"GEMQUEUE_LINGER_S": "-1"}, "linger_s must be"),
        (["status"], {"GEMQUEUE_CONFIG": "/nowhere.toml"}, "/nowhere.toml"),
        (["emulate", "--port", "70000"], {}, "--port"),
        (["nothing"], {}, "nothing"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, arguments: list[str], env: dict[str, str], said: str) -> None:
    """The message names what is wrong, on standard error, without a traceback or a password; the exit code is 2."""
    ended = gemqueue(*arguments, **({"GEMQUEUE_DATA_DIR": str(tmp_path)} | env))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


def test_emulator_says_how_to_use_it() -> None:
    """Run by hand, it prints its address once it answers there, and stops with exit 0."""
    with start("emulate") as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert url is not None
        assert httpx.get(f"{url[0]}/_emulator/health").status_code == 200
        lines = [process.stderr.readline() for _ in range(4)]
        assert f"GOOGLE_GEMINI_BASE_URL={url[0]}" in "".join(lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_emulator_refuses_a_taken_port() -> None:
    """A second one on the same port says so and exits with 2."""
    with start("emulate") as process:
        assert process.stderr is not None
        port = process.stderr.readline().strip().rpartition(":")[2]
        second = gemqueue("emulate", "--port", port)
        process.terminate()
    assert second.returncode == 2
    assert "the emulator does not start" in second.stderr
