"""Fixtures of the tests of ``gemqueue prove``: one emulator for the session, whose jobs are long enough to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator_process import EmulatorProcess
from tests.prove.command import Prove

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
