"""Fixtures of these tests: an emulator, and stages of a sealed queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worlds.sealed import Holder, sealed_stages
from tests.worlds.stages import Stages, start_emulator

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
def holder() -> Holder:
    """The wrapping keys of the test's queue."""
    return Holder("a")


@pytest.fixture
async def stages(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess, holder: Holder
) -> AsyncGenerator[Stages]:
    async with sealed_stages(valkey.url, queue_name, emulator, holder) as made:
        yield made
