"""Counters and gauges: each moves by what it says, and all of them can be read by Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gemqueue.errors import StaleFence
from gemqueue.language.lines import cancelled_line
from gemqueue.records import Lane
from gemqueue.states import Step
from gemqueue.store import codec, metrics
from gemqueue_workers.metrics import exposition
from tests.cli.command import gemqueue
from tests.worlds.processes import until
from tests.worlds.stages import LANE, Stages

pytestmark = pytest.mark.usefixtures("no_leaks")


async def moved(stages: Stages) -> dict[str, int]:
    """Every counter that is not 0."""
    return {name: n for name, n in (await metrics.read(stages.store)).counters.items() if n}


async def gauges(stages: Stages) -> dict[Any, float]:
    """Every gauge by its name, and by its label where it has one."""
    found = (await metrics.read(stages.store)).gauges
    return {(gauge.name, *gauge.labels.values()) if gauge.labels else gauge.name: gauge.value for gauge in found}


async def failures(stages: Stages, segment: str) -> list[str]:
    """The kind of each failure among a segment's outcomes."""
    (blobs,) = await stages.store.outcomes([(segment, 0)], 99)
    rows = [msgspec.json.decode(row) for blob in blobs for row in codec.expand(blob).split(b"\n")]
    return [row["failure"]["kind"] for row in rows if "failure" in row]


async def test_a_plain_life_is_counted(stages: Stages) -> None:
    """Accepted, sealed, created, submitted, answered, closed: each once, and each gauge follows."""
    await stages.submit("one", "two")
    stages.clock.advance(7)
    found = await gauges(stages)
    assert (found["pending_prompts", LANE], found["oldest_pending_seconds", LANE], found["overdue_steps"]) == (2, 7, 1)
    assert found["live_bytes"] > 0
    await stages.submitted()
    found = await gauges(stages)
    assert (found["open_batches", "submitted"], found["batched_prompts"], found["pending_prompts", LANE]) == (1, 2, 0)
    await stages.drain()
    plain = {"accepted": 2, "sealed": 1, "created": 1, "submitted": 2, "answered": 2, "closed": 1}
    assert await moved(stages) == plain | {"ended_succeeded": 1}
    assert (await gauges(stages))["open_batches", "submitted"] == 0


async def test_how_long_jobs_take_is_a_gauge(stages: Stages) -> None:
    """Percentiles by account, model and size, once a job has ended; nothing before."""
    assert not [name for name in await gauges(stages) if "turnaround" in str(name)]
    await stages.submit("one", "two")
    await stages.drain()
    found = {name[4:]: n for name, n in (await gauges(stages)).items() if name[0] == "turnaround_seconds"}
    assert list(found) == [("50",), ("90",), ("99",)]
    assert 0 < found[("50",)] <= found[("99",)]


async def test_a_lost_reply_is_counted_as_fenced_and_adopted(stages: Stages) -> None:
    """A create whose reply is lost after its effect: fenced, then adopted, never created."""
    stages.emulator.faults([{"on": "create", "do": "lost_after", "nth": [1]}])
    await stages.submit("one")
    await stages.submitted()
    await stages.drain()
    found = await moved(stages)
    assert (found["fenced"], found["adopted"], found["answered"], found.get("created")) == (1, 1, 1, None)
    assert "bought_twice" not in found


async def test_failures_retries_and_cancellations_are_counted(stages: Stages) -> None:
    """A row that the provider fails on, one that is withheld, one that comes twice, one that is cancelled."""
    segment = await stages.submit("[[fault:internal:1]]", "[[fault:blocked]]", "[[fault:doubled]]", "no")
    await stages.store.cancel(segment, 3, codec.compress(cancelled_line(f"{segment}.3")))
    await stages.submitted()
    await stages.drain()
    found = await moved(stages)
    assert (found["requeued"], found["failed"], found["quarantined"], found["cancelled"]) == (1, 1, 1, 1)
    assert found["answered"] == 2
    assert (await gauges(stages))["quarantined_rows"] == 1


async def test_dead_letters_and_returned_prompts_are_counted(stages: Stages) -> None:
    """Prompts whose jobs expire go back, and when that has happened too often they are kept among the dead."""
    stages.emulator.faults([{"on": "job", "do": "expired"}])
    await stages.submit("one", "two")
    await stages.drain()
    found = await moved(stages)
    returns = stages.settings.requeues_max
    assert (found["returned"], found["failed"], found["ended_expired"]) == (2 * returns, 2, returns + 1)
    assert (await gauges(stages))["dead_letters"] == 2


async def test_lost_answers_are_counted(stages: Stages) -> None:
    """A job that succeeded and whose results are gone: what was bought is counted as lost, and bought anew."""
    await stages.submit("one", "two", "three")
    batch = await stages.submitted()
    stages.jobs_end()
    await stages.step(Step.TRACK, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    await stages.provider.delete_job(record.job)
    await stages.provider.delete_file(record.output_file)
    await stages.drain()
    found = await moved(stages)
    assert (found["lost_answers"], found["bought_again"], found["returned"], found["answered"]) == (3, 3, 3, 3)
    assert stages.emulator.ledger()["rows_bought"] == 6


async def test_a_lost_body_fails_its_prompts_and_no_others(stages: Stages) -> None:
    """A segment whose body the server has lost fails as lost and is not bought; the rest of its batch is answered."""
    lost = await stages.submit("one", "two")
    await stages.submit("three")
    await stages.store.redis.unlink(stages.store.key("segment", lost))
    await stages.drain()
    found = await moved(stages)
    assert (found["lost_prompts"], found["failed"], found["answered"]) == (2, 2, 1)
    assert stages.emulator.ledger()["rows_bought"] == 1
    assert await failures(stages, lost) == ["lost", "lost"]


async def test_a_body_that_is_lost_while_its_job_runs_costs_only_retries(stages: Stages) -> None:
    """Answers count although their body is gone; a prompt that would have to be bought again fails as lost."""
    segment = await stages.submit("one", "[[fault:internal]]", "[[fault:invalid]]")
    await stages.submitted()
    await stages.store.redis.unlink(stages.store.key("segment", segment))
    await stages.drain()
    found = await moved(stages)
    assert (found["lost_prompts"], found["failed"], found["answered"], found["created"]) == (1, 2, 1, 1)
    assert sorted(await failures(stages, segment)) == ["invalid", "lost"]


async def test_a_row_of_a_closed_segment_is_late_and_not_foreign(stages: Stages) -> None:
    """A segment that was cancelled while its job ran is closed; its rows come all the same, and are dropped quietly."""
    segment = await stages.submit("one")
    await stages.submit("two")
    await stages.submitted()
    await stages.store.cancel(segment, 0, codec.compress(cancelled_line(f"{segment}.0")))
    await stages.drain()
    found = await moved(stages)
    assert (found["answered"], found["cancelled"], found["late"], found.get("quarantined", 0)) == (1, 1, 1, 0)


async def test_an_answer_that_comes_before_a_rescued_prompts_own_is_paid_for(stages: Stages) -> None:
    """What a batch answers of prompts that went another way counts as its lane's cost, as all else."""
    segment = await stages.submit("one", "two")
    await stages.submitted()
    await stages.store.redis.setbit(stages.store.key("moved", segment), 0, 1)
    await stages.drain()
    assert (await moved(stages))["answered"] == 2
    assert (await stages.store.spent(Lane.parse(LANE))).answers == 2


async def test_what_is_read_again_for_a_missing_row_is_counted_once(stages: Stages) -> None:
    """Results that lack a row are read several times: what came the first time is not late, and is paid for once."""
    stages.emulator.faults([{"on": "row", "do": "missing", "match": {"text_contains": "three"}, "times": 1}])
    segment = await stages.submit("one", "two", "three")
    await stages.submitted()
    await stages.store.redis.setbit(stages.store.key("moved", segment), 0, 1)
    await stages.drain()
    found = await moved(stages)
    assert (found["answered"], found["requeued"], found.get("late", 0)) == (3, 1, 0)
    assert (await stages.store.spent(Lane.parse(LANE))).answers == 3


async def test_what_a_server_loses_of_a_collection_is_read_again(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover that undoes what a resolver has just settled costs another reading, and buys nothing again."""
    await stages.submit("one", "two", "three")
    await stages.submitted()
    redis, settle, close = stages.store.redis, stages.store.settle, stages.store.close
    before: dict[str, tuple[int, bytes]] = {}

    async def settle_noted(*args: Any) -> Any:
        names: list[bytes] = [] if before else await redis.keys(f"{stages.store.prefix}:*")
        before.update({name.decode(): (await redis.pttl(name), await redis.dump(name)) for name in names})
        return await settle(*args)

    async def close_elsewhere(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await redis.delete(*await redis.keys(f"{stages.store.prefix}:*"))
        for name, (ttl_ms, value) in before.items():
            await redis.restore(name, max(0, ttl_ms), value)
        return await close(*args, **options)

    monkeypatch.setattr(stages.store, "settle", settle_noted)
    monkeypatch.setattr(stages.store, "close", close_elsewhere)
    await stages.drain()
    found = await moved(stages)
    assert (found["answered"], found["created"], found.get("requeued", 0)) == (3, 1, 0)
    assert stages.emulator.ledger()["rows_bought"] == 3


async def test_a_create_that_outlives_its_fence_is_counted_as_bought_twice(stages: Stages) -> None:
    """A create that took effect, and that the list hides for longer than ``settle_s``, is bought anew, and counted."""
    stages.emulator.faults(
        [{"on": "create", "do": "slow", "bytes_per_s": 200, "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await stages.submit("one", "two")
    batch = await stages.sealed()
    forgotten = asyncio.create_task(stages.step_of_a_sleeper(Step.SUBMIT, batch))

    async def bought() -> bool:
        return bool(stages.emulator.ledger()["jobs"])

    await until(bought, what="the first job")
    stages.clock.advance(stages.settings.lease_s + 1)
    assert await stages.step(Step.SUBMIT, batch)
    await stages.doubted(batch)
    assert (await moved(stages))["created"] == 1
    assert not forgotten.done()
    with pytest.raises(StaleFence):
        await forgotten
    assert (await moved(stages))["bought_twice"] == 2
    stages.emulator.faults([])
    await stages.drain()
    assert len(stages.emulator.ledger()["bought_twice"]) == 2


async def test_the_exposition_is_what_prometheus_reads(stages: Stages) -> None:
    """Every counter and gauge is there once, with the queue as a label, help and type; also where nothing happened."""
    await stages.submit('"quoted" \\ prompt')
    families = {
        family.name: family for family in text_string_to_metric_families((await exposition(stages.store)).decode())
    }
    reading = await metrics.read(stages.store)
    by_reason = {f"{name}_{reason}" for name, reasons in metrics.REASONS.items() for reason in reasons}
    names = {*reading.counters.keys() - by_reason, *(gauge.name for gauge in reading.gauges)}
    refused = families["gemqueue_events_refused"].samples
    assert [sample.labels["reason"] for sample in refused] == list(metrics.REASONS["events_refused"])
    assert not any("quantile" in sample.labels for family in families.values() for sample in family.samples)
    assert set(families) == {f"gemqueue_{name}" for name in names}
    assert all(sample.labels["queue"] == stages.settings.queue for f in families.values() for sample in f.samples)
    assert families["gemqueue_accepted"].type == "counter"
    assert families["gemqueue_accepted"].samples[0].value == 1
    assert families["gemqueue_bought_twice"].samples[0].value == 0
    assert families["gemqueue_pending_prompts"].type == "gauge"
    await stages.drain()


async def test_the_command_prints_the_exposition_without_a_key(stages: Stages) -> None:
    """``gemqueue admin metrics`` needs a server and no key."""
    given = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    ended = gemqueue("admin", "metrics", **given)
    assert ended.returncode == 0, ended.stderr
    assert f'gemqueue_workers{{queue="{stages.settings.queue}"}} 0.0' in ended.stdout
