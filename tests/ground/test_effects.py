"""A process dies where it is told to, and a wrong word for the place is refused at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemqueue.effects import CRASH_EXIT_CODE, Effect, effect

ROOT = Path(__file__).parents[2]
PROGRAM = """
from gemqueue.effects import Effect, effect
for n in range(3):
    with effect(Effect.PACK_PACK):
        print("effect", n, flush=True)
    with effect(Effect.PACK_CLAIM):
        pass
try:
    with effect(Effect.SUBMIT_CREATE):
        raise ValueError("it did not happen")
except ValueError:
    print("failed", flush=True)
"""


def run(crash_at: str) -> subprocess.CompletedProcess[str]:
    """A process with three effects and one that fails."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "GEMQUEUE_CRASH_AT": crash_at}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)


CASES = [
    ("", 0, 3),
    ("pack.pack:before:1", CRASH_EXIT_CODE, 0),
    ("pack.pack:after:1", CRASH_EXIT_CODE, 1),
    ("pack.pack:before", CRASH_EXIT_CODE, 0),
    ("pack.pack:before:3", CRASH_EXIT_CODE, 2),
    ("pack.pack:after:3", CRASH_EXIT_CODE, 3),
    ("pack.pack:after:4", 0, 3),
    ("track.end:after:1", 0, 3),
    ("submit.create:after:1", 0, 3),
    ("submit.create:before:1", CRASH_EXIT_CODE, 3),
]


@pytest.mark.parametrize(("crash_at", "code", "effects"), CASES)
def test_a_process_dies_exactly_there(crash_at: str, code: int, effects: int) -> None:
    """It dies before or after the n-th time, without a word, and not after an effect that failed."""
    result = run(crash_at)
    assert (result.returncode, result.stdout.count("effect")) == (code, effects)
    assert result.stderr == ""


@pytest.mark.parametrize(
    "crash_at", ["pack", "pack.pack", "pack.pack:soon", "nothing:before:1", "pack.pack:after:x", "pack.pack:after:0"]
)
def test_a_place_that_does_not_exist_is_refused(crash_at: str) -> None:
    """A misspelt place would be a test that tests nothing: it is a ConfigError that lists the effects."""
    result = run(crash_at)
    assert result.returncode not in (0, CRASH_EXIT_CODE)
    assert "ConfigError: GEMQUEUE_CRASH_AT: expected <effect>:<before|after>:<nth" in result.stderr
    assert "submit.create" in result.stderr


def test_effects_are_named_by_role_and_verb() -> None:
    """Every effect is ``role.verb``, once; and marking one changes nothing by itself."""
    assert all(name.count(".") == 1 for name in Effect)
    with effect(Effect.PACK_PACK):
        pass
