"""The clock: the machine's own, or one that a test owns."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from gemqueue.clock import Clock, FileClock, SystemClock, clock_from_env
from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_system_clock_is_the_machine_s() -> None:
    """Without a test clock, now is now, and scripts ask the server."""
    clock = clock_from_env({})
    assert isinstance(clock, SystemClock)
    assert not clock.virtual
    before_ms = int(time.time() * 1000)
    assert before_ms <= clock.now_ms() <= time.time() * 1000
    first = clock.monotonic()
    assert clock.monotonic() >= first


async def test_the_system_clock_sleeps() -> None:
    """A sleep takes its time."""
    clock: Clock = SystemClock()
    before = time.monotonic()
    await clock.sleep(0.02)
    assert time.monotonic() - before >= 0.019


def test_a_file_moves_time(tmp_path: Path) -> None:
    """All clocks on one file jump together, monotonic and wall clock alike, and run on in between."""
    file = tmp_path / "a clock"
    clocks = [clock_from_env({"GEMQUEUE_TEST_CLOCK": f"file://{tmp_path}/a%20clock"}) for _ in range(2)]
    assert all(isinstance(clock, FileClock) and clock.virtual for clock in clocks)
    before = [(clock.now_ms(), clock.monotonic()) for clock in clocks]
    file.write_text("172800.5")
    for clock, (now_ms, monotonic) in zip(clocks, before, strict=True):
        assert 172_800_500 <= clock.now_ms() - now_ms < 172_900_000
        assert 172_800.5 <= clock.monotonic() - monotonic < 172_900


def test_a_clock_that_is_just_being_written_stays(tmp_path: Path) -> None:
    """An empty file is a write under way: time does not fall back."""
    file = tmp_path / "clock"
    file.write_text("1000")
    clock = FileClock(file)
    before = clock.monotonic()
    file.write_text("")
    assert clock.monotonic() >= before
    file.write_text("2000")
    assert clock.monotonic() >= before + 1000


async def test_a_virtual_sleep_ends_when_its_time_has_come(tmp_path: Path) -> None:
    """Hours of virtual sleep end as soon as the file says so, and not before."""
    file = tmp_path / "clock"
    clock = FileClock(file)
    asleep = asyncio.create_task(clock.sleep(3600))
    done, _ = await asyncio.wait([asleep], timeout=0.05)
    assert not done
    file.write_text("3600")
    await asyncio.wait_for(asleep, 60)


@pytest.mark.parametrize("url", ["http://127.0.0.1/clock", "file://", "clock", "file://[::1/clock"])
def test_only_files_are_clocks(url: str) -> None:
    """Another URL is refused by the variable's name."""
    with pytest.raises(ConfigError, match="GEMQUEUE_TEST_CLOCK"):
        clock_from_env({"GEMQUEUE_TEST_CLOCK": url})
