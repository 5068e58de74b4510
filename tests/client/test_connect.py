"""Connecting: what is refused, with which words, and how fast."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

import gemqueue
from gemqueue import ConfigError, GemqueueError, Queue, Settings, StoreUnavailable
from gemqueue.client import connect as connect_module
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from pathlib import Path


async def refusal(connecting: Any) -> GemqueueError:
    """What connecting raises, within a few seconds."""
    async with asyncio.timeout(60):
        with pytest.raises(GemqueueError) as caught:
            await connecting
    return caught.value


async def test_awaited_or_entered(redis_url: str, queue_name: str) -> None:
    """``connect`` may be awaited or entered, and what it gives may be entered too; settings win in their order."""
    settings = Settings(redis_url="redis://nowhere", queue="other", emulate=True, flush_ms=7)
    async with Queue.connect(redis_url, queue=queue_name, settings=settings, watchdog_s=3) as queue:
        assert (queue.settings.flush_ms, queue.settings.watchdog_s, queue.settings.queue) == (7, 3, queue_name)
        assert queue.account == "emulated.local"
    async with await Queue.connect(redis_url, queue=queue_name, account="mine") as queue:
        assert queue.account == "generativelanguage.googleapis.com.mine"


@pytest.mark.parametrize("url", ["redis://:hush@127.0.0.1:1/0", "unix://:hush@/nowhere/valkey.sock"])
async def test_an_unreachable_server(url: str) -> None:
    """A server that is not there is StoreUnavailable with its address, and never with its password."""
    error = await refusal(Queue.connect(url, emulate=True))
    assert isinstance(error, StoreUnavailable)
    assert "GEMQUEUE_REDIS_URL" in str(error)
    assert url.replace(":hush@", "") in str(error)
    assert "hush" not in str(error)


async def test_a_mute_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing is StoreUnavailable too."""
    monkeypatch.setattr(connect_module, "_CONNECT_S_MAX", 0.1)
    hanging: list[asyncio.StreamWriter] = []
    with tempfile.TemporaryDirectory(prefix="gqm-", dir="/tmp") as folder:
        server = await asyncio.start_unix_server(lambda _, writer: hanging.append(writer), f"{folder}/mute.sock")
        error = await refusal(Queue.connect(f"unix://{folder}/mute.sock", emulate=True))
        server.close()
        for writer in hanging:
            writer.close()
            await writer.wait_closed()
    assert isinstance(error, StoreUnavailable)
    assert "says nothing" in str(error)


async def test_a_wrong_password() -> None:
    """A server that refuses the login is an error that says so, without the password that was tried."""
    with ValkeyServer() as server:
        async with Queue.connect(server.url, emulate=True) as queue:
            await queue._store.redis.config_set("requirepass", "right")
            error = await refusal(Queue.connect(f"unix://:wrong-one@{server.socket_path}", emulate=True))
    assert "invalid username-password" in str(error)
    assert "wrong-one" not in str(error)


async def test_a_server_that_forgets(caplog: pytest.LogCaptureFixture) -> None:
    """A server without append-only file, or one that evicts, is used with a warning."""
    with ValkeyServer() as server, caplog.at_level(logging.WARNING, "gemqueue"):
        async with Queue.connect(server.url, emulate=True) as queue:
            for name, value in (("appendonly", "no"), ("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")):
                await queue._store.redis.config_set(name, value)
        assert caplog.text == ""
        async with Queue.connect(server.url, emulate=True):
            pass
    assert "append-only" in caplog.text
    assert "evict" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"emulate": False}, "GEMINI_API_KEY"),
        ({"emulate": False, "account": "mine"}, "GEMINI_API_KEY"),
        ({"emulate": True, "embedded": False}, "GEMQUEUE_REDIS_URL"),
        ({"emulate": True, "queue": "No Name"}, "queue"),
        ({"emulate": True, "flush_msec": 1}, "flush_ms"),
        ({"emulate": True, "flush_ms": -1}, "flush_ms"),
        ({"emulate": True, "url": "http://x"}, "redis://"),
    ],
)
async def test_settings_that_cannot_be(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A setting, a key or a URL that is missing or wrong is ConfigError that names it; nothing is started."""
    error = await refusal(Queue.connect(data_dir=str(tmp_path / "data"), **given))
    assert isinstance(error, ConfigError)
    assert words in str(error)
    assert not (tmp_path / "data").exists()


_FORGETFUL = """
import asyncio, sys
from gemqueue import Queue

async def main():
    queue = await Queue.connect(sys.argv[1], queue=sys.argv[2], emulate=True)
    waiting = asyncio.create_task(queue.generate("p", model="gemini-3.8-flash"))
    future = await queue.submit("q", model="gemini-3.8-flash")
    print(future.key)

asyncio.run(main())
"""


def test_a_program_that_forgets_to_close(redis_url: str, queue_name: str) -> None:
    """A program that ends without closing its queue ends at once and says nothing about it."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", _FORGETFUL, redis_url, queue_name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("00")


def test_the_face() -> None:
    """What ``gemqueue`` gives out is what ``__all__`` says, sorted, and nothing else is public but modules."""
    assert gemqueue.__all__ == sorted(gemqueue.__all__)
    assert all(hasattr(gemqueue, name) for name in gemqueue.__all__)


@pytest.mark.parametrize(
    "url",
    [
        "unix:///nowhere.sock?password=hunter2",
        "redis://user:hunter2@127.0.0.1:1/0",
        "redis://:hunter2#x@127.0.0.1:1/0",
        "redis://user:hunter2/x@127.0.0.1:1",
    ],
)
async def test_no_error_shows_the_password(url: str, queue_name: str) -> None:
    """Wherever the password stands in the URL, and however the URL is broken, no message repeats a piece of it."""
    error = await refusal(Queue.connect(url, queue=queue_name, emulate=True))
    assert "hunter2" not in str(error)
