"""The pytest plugin: the fixture `gemini_emulator`, an emulator of the Gemini Batch API for each test.

It is there as soon as gemqueue is installed. One process serves the session, and is emptied before every test; other
options come from a fixture of your own in conftest.py:

    @pytest.fixture(scope="session")
    def gemini_emulator_options():
        return {"job_s": 60, "tier": "1"}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue_adapters.emulator.process import EmulatorProcess


@pytest.fixture(scope="session")
def gemini_emulator_options() -> dict[str, Any]:
    """The options of the emulator, as on its command line; jobs end at once."""
    return {"job_s": 0}


@pytest.fixture(scope="session")
def gemini_emulator_process(
    tmp_path_factory: pytest.TempPathFactory, gemini_emulator_options: dict[str, Any]
) -> Iterator[EmulatorProcess]:
    """The process that serves the whole session."""
    from gemqueue_adapters.emulator.process import EmulatorProcess  # noqa: PLC0415 - httpx, for those who ask for it

    data = tmp_path_factory.mktemp("gemini-emulator") / "data"
    with EmulatorProcess(data, **gemini_emulator_options) as process:
        yield process


@pytest.fixture
def gemini_emulator(gemini_emulator_process: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    """An empty emulator without faults: `url`, `key`, `ledger()`, `faults([...])`, `advance(seconds)` and more.

    For the test, GOOGLE_GEMINI_BASE_URL and GEMINI_API_KEY lead the official clients to it. Virtual time only goes
    forward: a test that moves it moves it for those behind it, too.
    """
    gemini_emulator_process.reset()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", gemini_emulator_process.url)
    monkeypatch.setenv("GEMINI_API_KEY", gemini_emulator_process.key)
    return gemini_emulator_process
