"""Fixtures of the emulator's own tests: one process for the session, emptied before every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google import genai

from tests.emulator.plain import Plain
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator") / "data", job_s=0) as process:
        yield process


@pytest.fixture(scope="session")
def echo_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("echo") / "data", job_s=0, answers="echo") as process:
        yield process


@pytest.fixture
def emulator(emulator_process: EmulatorProcess) -> EmulatorProcess:
    """An empty emulator whose jobs end at once."""
    emulator_process.reset()
    return emulator_process


@pytest.fixture
def echo(echo_process: EmulatorProcess) -> EmulatorProcess:
    """The same in echo mode."""
    echo_process.reset()
    return echo_process


@pytest.fixture
def plain(emulator: EmulatorProcess) -> Iterator[Plain]:
    """A plain client of the emulator."""
    client = Plain(emulator.url)
    with client.http:
        yield client


@pytest.fixture
def official(emulator: EmulatorProcess) -> Iterator[genai.Client]:
    """The official client, unmodified."""
    client = genai.Client(api_key="test-key", http_options={"base_url": emulator.url})
    yield client
    client.close()
