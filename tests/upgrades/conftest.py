"""A server and an emulator for records of earlier versions, and the code of 0.2.0 for workers beside ours."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.upgrades.__main__ import QUEUE
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import ROOT
from tests.worlds.stages import Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.emulator_process import EmulatorProcess

OLD_COMMIT = "201880f"


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


@pytest.fixture(scope="module")
def old_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a worker of 0.2.0 has as its PYTHONPATH; empty where this clone has no history."""
    packed = subprocess.run(["git", "archive", OLD_COMMIT], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        return ""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return os.pathsep.join(str(folder / part) for part in (".", "workers", "adapters"))
