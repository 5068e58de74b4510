"""What a step makes sure of before it spends money, or keeps in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.language.lines import cancelled_line
from gemqueue.policy.deadlines import Service
from gemqueue.records import Lane
from gemqueue.states import BatchState, Cause, Step
from gemqueue.store import codec
from gemqueue_workers.stages import collector
from gemqueue_workers.stages.collector import Collector
from tests.worlds.lying import KINDS, LyingTransport
from tests.worlds.stages import LANE, Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

    from gemqueue.provider import JobStatus
    from gemqueue.store.batches import Claim
    from tests.emulator_process import EmulatorProcess


async def test_a_create_that_may_outlive_its_lease_is_not_sent(stages: Stages) -> None:
    """Where less of the lease is left than a create may take, the intent is given up, and the next one is sent."""
    begin = stages.store.begin

    async def slowly(claim: Claim, token: str, file: str, by_key: str = "") -> Claim:
        begun = await begin(claim, token, file, by_key)
        stages.clock.advance(stages.settings.lease_s - stages.settings.create_timeout_s + 1)
        return begun

    stages.store.begin = slowly  # type: ignore[method-assign]
    await stages.submit("one")
    batch = await stages.submitted()
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == (BatchState.SEALED, "")
    assert stages.emulator.ledger()["jobs"] == []
    stages.store.begin = begin  # type: ignore[method-assign]
    await stages.step(Step.SUBMIT, batch)
    await stages.drain()
    ledger = stages.emulator.ledger()
    assert (len(ledger["jobs"]), ledger["rows_bought"]) == (1, 1)


async def test_a_job_that_is_denied_is_still_awaited(stages: Stages) -> None:
    """The provider's word that it does not know a job ends nothing within the job's life: it is looked at again."""
    await stages.submit("one")
    batch = await stages.submitted()
    lying = LyingTransport.before(stages.provider, stages.clock.monotonic)
    lying.tell("poll:1", KINDS["poll"]["denied"], 40 * 3600.0)
    for hours in (1, 19, 19):
        stages.clock.advance(hours * 3600)
        await stages.step(Step.TRACK, batch)
        record = await stages.store.batch(batch)
        assert record is not None
        assert (record.state, record.held_cause) == (BatchState.SUBMITTED, Cause.DOUBT)
    stages.clock.advance(2 * 3600)
    await stages.drain()
    assert stages.emulator.ledger()["rows_bought"] == 1


async def test_a_prompt_that_has_its_outcome_is_not_asked_for(
    redis_url: str, queue_name: str, emulator: EmulatorProcess
) -> None:
    """One that is settled while it waits for its turn at an interactive service costs no call."""
    policy: dict[str, Any] = {"deadline_policy": "flex", "interactive_calls_max": 1}
    async with open_stages(redis_url, queue_name, emulator, **policy) as stages:
        stages.lane = str(Lane.parse(LANE).of(Service.FLEX))
        segment = await stages.submit("one", "two")

        async def cancelled_meanwhile(account: str, service: str) -> float:  # noqa: ARG001 - the store's
            await stages.store.cancel(segment, 1, codec.compress(cancelled_line(f"{segment}.1")))
            return 0.0

        stages.store.permit_s = cancelled_meanwhile  # type: ignore[method-assign]
        batch = await stages.sealed()
        await stages.step(Step.SUBMIT, batch)
        await stages.step(Step.RESOLVE, batch)
        assert emulator.ledger()["interactive"]["calls"] == 1
        assert (await stages.count("answered"), await stages.count("cancelled")) == (1, 1)


async def test_dead_letters_are_written_out_as_they_come(
    redis_url: str, queue_name: str, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many prompts of a batch fail for good, no more of them are kept in memory than are written at once."""
    monkeypatch.setattr(collector, "_BURIAL_ROWS", 2)
    most = 0
    whole: Any = Collector
    bury = whole._bury

    async def counted(self: Any) -> None:
        nonlocal most
        most = max(most, len(self._dead))
        await bury(self)

    monkeypatch.setattr(Collector, "_bury", counted)
    async with open_stages(redis_url, queue_name, emulator, attempts_max=1) as stages:
        results = stages.provider.results

        async def one_by_one(status: JobStatus) -> AsyncGenerator[list[bytes], None]:
            async for lines in results(status):
                for line in lines:
                    yield [line]

        stages.provider.results = one_by_one  # type: ignore[method-assign]
        await stages.submit(*(f"[[fault:internal]] {n}" for n in range(9)))
        await stages.submitted()
        await stages.drain()
        assert (most, await stages.count("failed")) == (2, 9)
