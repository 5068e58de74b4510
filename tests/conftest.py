"""Fixtures for all tests: one real server for the session, a queue of its own for every test, and a check for leaks."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
from redis.asyncio import Redis

from tests.leaks import unowned_keys
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

# An example's wall time says how busy the machine is and nothing of the code: no deadline.
hypothesis.settings.register_profile("gemqueue", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)  # make check
hypothesis.settings.load_profile("gemqueue")

# Nothing that a developer has exported reaches a test: no queue of theirs, and above all no key.
for _name in [name for name in os.environ if name.startswith(("GEMQUEUE_", "GOOGLE_", "GEMINI_"))]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def valkey() -> Generator[ValkeyServer]:
    """One server for the session; a test that kills or fills its server starts one of its own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """The session's server, as ``from_url`` takes it."""
    return valkey.url


@pytest.fixture
def queue_name() -> str:
    """A queue that no other test uses."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def store_prefix(queue_name: str) -> str:
    """What every key of the test's queue begins with, before the shard."""
    return f"{{gq:{queue_name}:"


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    """A plain client on the session's server, for a test that looks inside."""
    async with cast("Any", Redis).from_url(redis_url) as client:
        yield client


@pytest.fixture
async def no_leaks(redis: Redis, queue_name: str) -> AsyncGenerator[None]:
    """After the test, every key of its queue has a TTL or an owner; for a module, ``usefixtures("no_leaks")``."""
    yield
    assert await unowned_keys(redis, queue_name) == []
