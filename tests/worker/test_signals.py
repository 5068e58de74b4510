"""How a worker is told to end: by SIGTERM, SIGINT or SIGHUP, with its server there or away."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.valkey_server import ValkeyServer
from tests.worker.test_logs import ARQ, WORK, Running, env_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture
def heard() -> Generator[None]:
    """SIGHUP does what it does by itself, whatever started these tests ignores."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("argv", [WORK, ARQ], ids=["gemqueue", "arq"])
async def test_sighup_drains(argv: list[str], redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """It ends as by SIGTERM: with goodbye."""
    with Running(argv, tmp_path, env_of(redis_url, queue_name)) as worker:
        await worker.says("worker.started")
        worker.process.send_signal(signal.SIGHUP)
        assert await worker.ended() == 0
        assert any("worker.stopped" in line for line in worker.lines)


async def test_nohup_means_it(redis_url: str, queue_name: str, tmp_path: Path) -> None:
    """Started with SIGHUP ignored, a worker goes on."""
    ignoring = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *WORK]
    with Running(ignoring, tmp_path, env_of(redis_url, queue_name)) as worker:
        await worker.says("worker.started")
        worker.process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(0.5)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert any("SIGTERM" in line for line in worker.lines)
        assert not any("SIGHUP" in line for line in worker.lines)


@pytest.mark.parametrize("away", ["gone", "mute"])
async def test_a_server_that_is_away_holds_no_end(away: str, queue_name: str, tmp_path: Path) -> None:
    """Dead or silent, it is not waited for: what is said of it has a second altogether."""
    with ValkeyServer() as server, Running(WORK, tmp_path, env_of(server.url, queue_name)) as worker:
        await worker.says("worker.started")
        if away == "gone":
            server.kill()
            await worker.says("failed")
        else:
            server.signal(signal.SIGSTOP)
        begun = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert time.monotonic() - begun < 6
        if away == "mute":
            server.signal(signal.SIGCONT)
        assert any("worker.stops" in line for line in worker.lines)
