"""A server and an emulator for records of earlier versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.upgrades.__main__ import QUEUE
from tests.valkey_server import ValkeyServer
from tests.worlds.stages import Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.emulator_process import EmulatorProcess


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    made = start_emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def server() -> Generator[ValkeyServer]:
    """A server of its own: the records carry their queue's name."""
    with ValkeyServer() as made:
        yield made


@pytest.fixture
async def stages(server: ValkeyServer, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    async with open_stages(server.url, QUEUE, emulator) as stages:
        await stages.store.redis.flushall()
        yield stages
