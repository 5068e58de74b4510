"""How often jobs of an hour are looked at, while webhooks tell of their ends and when they stop doing so."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from gemqueue.records import Lane
from gemqueue.states import Step
from tests.emulator_process import EmulatorProcess
from tests.worlds.stages import ACCOUNT, LANE, Shop, shop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.valkey_server import ValkeyServer

JOB_S = 3600.0
pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("looks") / "data", job_s=JOB_S) as made:
        yield made


@pytest.fixture
async def made(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Shop]:
    async with shop(valkey.url, queue_name, emulator) as made:
        yield made


async def looks(made: Shop, *, told: bool) -> tuple[int, float]:
    """Let one job live: how often it was looked at until its end was seen, and how long after it that was."""
    await made.submit("prompt")
    batch = await made.submitted()
    count, ends_ms, due = 0, made.clock.now_ms() + JOB_S * 1000 + 2000, made.store.key("due", ACCOUNT)
    while (record := await made.store.batch(batch)) is not None and record.state == "submitted":
        due_ms = float(await made.store.redis.zscore(due, f"track {batch}"))
        if told and due_ms > ends_ms > made.clock.now_ms():
            _advance(made, ends_ms)
            await made.store.announce(f"msg_{secrets.token_hex(4)}", record.job, "")
            due_ms = ends_ms
        _advance(made, due_ms)
        assert await made.step(Step.TRACK, batch)
        count += 1
    late_s = (made.clock.now_ms() - ends_ms) / 1000
    await made.drain()
    return count, late_s


def _advance(made: Shop, to_ms: float) -> None:
    seconds = max(0.0, (to_ms - made.clock.now_ms()) / 1000)
    made.clock.advance(seconds)
    made.emulator.advance(seconds)


async def test_looks_are_rarer_while_webhooks_tell_first_and_as_before_when_they_stop(made: Shop) -> None:
    """After five ends that were told a job has a fraction of its looks; the first that is not told ends that."""
    unknown, _ = await looks(made, told=False)
    plain = [await looks(made, told=False) for _ in range(3)]
    proving = [await looks(made, told=True) for _ in range(5)]
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced == 5
    proven = [await looks(made, told=True) for _ in range(3)]
    assert max(count for count, _ in proven) * 2 <= min(count for count, _ in plain)
    assert unknown > max(count for count, _ in plain)
    assert max(late_s for _, late_s in proving + proven) == 0
    lost, late_s = await looks(made, told=False)
    assert late_s <= 6 * made.settings.poll_max_s
    assert lost <= max(count for count, _ in proven) + 2
    again, late_s = await looks(made, told=False)
    assert late_s <= made.settings.poll_max_s
    assert again >= min(count for count, _ in plain) - 1
