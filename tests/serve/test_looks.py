"""How often jobs of an hour are looked at, while webhooks tell of their ends and when they stop doing so."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from gemqueue.records import Lane
from gemqueue.states import Step
from tests.emulator_process import EmulatorProcess
from tests.worlds.stages import ACCOUNT, LANE, Stages, open_stages

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
async def stages(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    async with open_stages(valkey.url, queue_name, emulator) as stages:
        yield stages


async def looks(stages: Stages, *, told: bool) -> tuple[int, float]:
    """Let one job live: how often it was looked at until its end was seen, and how long after it that was."""
    await stages.submit("prompt")
    batch = await stages.submitted()
    count, ends_ms, due = 0, stages.clock.now_ms() + JOB_S * 1000 + 2000, stages.store.key("due", ACCOUNT)
    while (record := await stages.store.batch(batch)) is not None and record.state == "submitted":
        due_ms = float(await stages.store.redis.zscore(due, f"track {batch}"))
        if told and due_ms > ends_ms > stages.clock.now_ms():
            _advance(stages, ends_ms)
            await stages.store.announce(f"msg_{secrets.token_hex(4)}", record.job, "")
            due_ms = ends_ms
        _advance(stages, due_ms)
        assert await stages.step(Step.TRACK, batch)
        count += 1
    late_s = (stages.clock.now_ms() - ends_ms) / 1000
    await stages.drain()
    return count, late_s


def _advance(stages: Stages, to_ms: float) -> None:
    seconds = max(0.0, (to_ms - stages.clock.now_ms()) / 1000)
    stages.clock.advance(seconds)
    stages.emulator.advance(seconds)


async def test_looks_are_rarer_while_webhooks_tell_first_and_as_before_when_they_stop(stages: Stages) -> None:
    """After five ends that were told a job has a fraction of its looks; the first that is not told ends that."""
    unknown, _ = await looks(stages, told=False)
    plain = [await looks(stages, told=False) for _ in range(3)]
    proving = [await looks(stages, told=True) for _ in range(5)]
    assert (await stages.store.webhook_health(Lane.parse(LANE))).announced == 5
    proven = [await looks(stages, told=True) for _ in range(3)]
    assert max(count for count, _ in proven) * 2 <= min(count for count, _ in plain)
    assert unknown > max(count for count, _ in plain)
    assert max(late_s for _, late_s in proving + proven) == 0
    lost, late_s = await looks(stages, told=False)
    assert late_s <= 6 * stages.settings.poll_max_s
    assert lost <= max(count for count, _ in proven) + 2
    again, late_s = await looks(stages, told=False)
    assert late_s <= stages.settings.poll_max_s
    assert again >= min(count for count, _ in plain) - 1
