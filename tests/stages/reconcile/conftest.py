"""Fixtures of these tests: the stages stand on a server that loses what it wrote, when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stages.reconcile.past import Past
from tests.valkey_server import ValkeyServer
from tests.worlds.stages import ACCOUNT, Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess

LOSSY = ("--appendfsync", "no")  # everysec may keep writes in memory while it syncs, and a copy would miss them


@pytest.fixture
def lossy(tmp_path: Path) -> Generator[Past]:
    with ValkeyServer(extra=LOSSY) as server:
        yield Past(server, tmp_path)


@pytest.fixture
async def stages(lossy: Past, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    async with open_stages(lossy.server.url, queue_name, emulator) as stages:
        await stages.store.greet(ACCOUNT)
        yield stages
