"""Fixtures of these tests: an emulator for each module, and stages of its own for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worlds.stages import Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.emulator_process import EmulatorProcess
    from tests.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    made = start_emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.kill()


@pytest.fixture
async def stages(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    async with open_stages(valkey.url, queue_name, emulator) as stages:
        yield stages
