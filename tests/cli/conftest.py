"""Fixtures of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue import Queue
from gemqueue.config import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.cli.run_world import RunWorld


@pytest.fixture
async def queue(world: RunWorld) -> AsyncGenerator[Queue]:
    """A client of the world's queue."""
    settings = Settings(redis_url=world.env["GEMQUEUE_REDIS_URL"], queue=world.env["GEMQUEUE_QUEUE"], emulate=True)
    async with Queue.connect(settings=settings) as queue:
        yield queue
