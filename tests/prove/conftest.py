"""Fixtures of the tests of ``gemqueue prove``: one emulator for the session, whose jobs are long enough to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator_process import EmulatorProcess
from tests.prove.command import LONG_JOB_S, Prove

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOB_S = 3.0


@pytest.fixture(scope="session")
def prove_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("prove") / "data", job_s=JOB_S) as process:
        yield process


@pytest.fixture
def prove(tmp_path: Path, prove_emulator: EmulatorProcess) -> Prove:
    """A report that is not begun, at an empty emulator."""
    prove_emulator.reset()
    return Prove(tmp_path, prove_emulator)


@pytest.fixture(scope="session")
def long_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("long") / "data", job_s=LONG_JOB_S) as process:
        yield process


@pytest.fixture
def long_prove(tmp_path: Path, long_emulator: EmulatorProcess) -> Prove:
    """The same, where jobs go on only when the test moves the clock."""
    long_emulator.reset()
    return Prove(tmp_path, long_emulator)
