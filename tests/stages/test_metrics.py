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
from tests.worlds.stages import LANE, Shop

pytestmark = pytest.mark.usefixtures("no_leaks")


async def moved(made: Shop) -> dict[str, int]:
    """Every counter that is not 0."""
    return {name: n for name, n in (await metrics.read(made.store)).counters.items() if n}


async def gauges(made: Shop) -> dict[Any, float]:
    """Every gauge by its name, and by its label where it has one."""
    found = (await metrics.read(made.store)).gauges
    return {(gauge.name, *gauge.labels.values()) if gauge.labels else gauge.name: gauge.value for gauge in found}


async def failures(made: Shop, segment: str) -> list[str]:
    """The kind of each failure among a segment's outcomes."""
    (blobs,) = await made.store.outcomes([(segment, 0)], 99)
    rows = [msgspec.json.decode(row) for blob in blobs for row in codec.expand(blob).split(b"\n")]
    return [row["failure"]["kind"] for row in rows if "failure" in row]


async def test_a_plain_life_is_counted(made: Shop) -> None:
    """Accepted, sealed, created, submitted, answered, closed: each once, and each gauge follows."""
    await made.submit("one", "two")
    made.clock.advance(7)
    found = await gauges(made)
    assert (found["pending_prompts", LANE], found["oldest_pending_seconds", LANE], found["overdue_steps"]) == (2, 7, 1)
    assert found["live_bytes"] > 0
    await made.submitted()
    found = await gauges(made)
    assert (found["open_batches", "submitted"], found["batched_prompts"], found["pending_prompts", LANE]) == (1, 2, 0)
    await made.drain()
    plain = {"accepted": 2, "sealed": 1, "created": 1, "submitted": 2, "answered": 2, "closed": 1}
    assert await moved(made) == plain | {"ended_succeeded": 1}
    assert (await gauges(made))["open_batches", "submitted"] == 0


async def test_how_long_jobs_take_is_a_gauge(made: Shop) -> None:
    """Percentiles by account, model and size, once a job has ended; nothing before."""
    assert not [name for name in await gauges(made) if "turnaround" in str(name)]
    await made.submit("one", "two")
    await made.drain()
    found = {name[4:]: n for name, n in (await gauges(made)).items() if name[0] == "turnaround_seconds"}
    assert list(found) == [("0.5",), ("0.9",), ("0.99",)]
    assert 0 < found[("0.5",)] <= found[("0.99",)]


async def test_a_lost_reply_is_counted_as_fenced_and_adopted(made: Shop) -> None:
    """A create whose reply is lost after its effect: fenced, then adopted, never created."""
    made.emulator.faults([{"on": "create", "do": "lost_after", "nth": [1]}])
    await made.submit("one")
    await made.submitted()
    await made.drain()
    found = await moved(made)
    assert (found["fenced"], found["adopted"], found["answered"], found.get("created")) == (1, 1, 1, None)
    assert "bought_twice" not in found


async def test_failures_retries_and_cancellations_are_counted(made: Shop) -> None:
    """A row that the provider fails on, one that is withheld, one that comes twice, one that is cancelled."""
    segment = await made.submit("[[fault:internal:1]]", "[[fault:blocked]]", "[[fault:doubled]]", "no")
    await made.store.cancel(segment, 3, codec.compress(cancelled_line(f"{segment}.3")))
    await made.submitted()
    await made.drain()
    found = await moved(made)
    assert (found["requeued"], found["failed"], found["quarantined"], found["cancelled"]) == (1, 1, 1, 1)
    assert found["answered"] == 2
    assert (await gauges(made))["quarantined_rows"] == 1


async def test_dead_letters_and_returned_prompts_are_counted(made: Shop) -> None:
    """Prompts whose jobs expire go back, and when that has happened too often they are kept among the dead."""
    made.emulator.faults([{"on": "job", "do": "expired"}])
    await made.submit("one", "two")
    await made.drain()
    found = await moved(made)
    returns = made.settings.requeues_max
    assert (found["returned"], found["failed"], found["ended_expired"]) == (2 * returns, 2, returns + 1)
    assert (await gauges(made))["dead_letters"] == 2


async def test_lost_answers_are_counted(made: Shop) -> None:
    """A job that succeeded and whose results are gone: what was bought is counted as lost, and bought anew."""
    await made.submit("one", "two", "three")
    batch = await made.submitted()
    made.jobs_end()
    await made.step(Step.TRACK, batch)
    record = await made.store.batch(batch)
    assert record is not None
    await made.provider.delete_job(record.job)
    await made.provider.delete_file(record.output_file)
    await made.drain()
    found = await moved(made)
    assert (found["lost_answers"], found["returned"], found["answered"]) == (3, 3, 3)
    assert made.emulator.ledger()["rows_bought"] == 6


async def test_a_lost_body_fails_its_prompts_and_no_others(made: Shop) -> None:
    """A segment whose body the server has lost fails as lost and is not bought; the rest of its batch is answered."""
    lost = await made.submit("one", "two")
    await made.submit("three")
    await made.store.redis.unlink(made.store.key("segment", lost))
    await made.drain()
    found = await moved(made)
    assert (found["lost_prompts"], found["failed"], found["answered"]) == (2, 2, 1)
    assert made.emulator.ledger()["rows_bought"] == 1
    assert await failures(made, lost) == ["lost", "lost"]


async def test_a_body_that_is_lost_while_its_job_runs_costs_only_retries(made: Shop) -> None:
    """Answers count although their body is gone; a prompt that would have to be bought again fails as lost."""
    segment = await made.submit("one", "[[fault:internal]]", "[[fault:invalid]]")
    await made.submitted()
    await made.store.redis.unlink(made.store.key("segment", segment))
    await made.drain()
    found = await moved(made)
    assert (found["lost_prompts"], found["failed"], found["answered"], found["created"]) == (1, 2, 1, 1)
    assert sorted(await failures(made, segment)) == ["invalid", "lost"]


async def test_a_row_of_a_closed_segment_is_late_and_not_foreign(made: Shop) -> None:
    """A segment that was cancelled while its job ran is closed; its rows come all the same, and are dropped quietly."""
    segment = await made.submit("one")
    await made.submit("two")
    await made.submitted()
    await made.store.cancel(segment, 0, codec.compress(cancelled_line(f"{segment}.0")))
    await made.drain()
    found = await moved(made)
    assert (found["answered"], found["cancelled"], found["late"], found.get("quarantined", 0)) == (1, 1, 1, 0)


async def test_an_answer_that_comes_before_a_rescued_prompts_own_is_paid_for(made: Shop) -> None:
    """What a batch answers of prompts that went another way counts as its lane's cost, as all else."""
    segment = await made.submit("one", "two")
    await made.submitted()
    await made.store.redis.setbit(made.store.key("moved", segment), 0, 1)
    await made.drain()
    assert (await moved(made))["answered"] == 2
    assert (await made.store.spent(Lane.parse(LANE))).answers == 2


async def test_what_a_server_loses_of_a_collection_is_read_again(made: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover that undoes what a resolver has just settled costs another reading, and buys nothing again."""
    await made.submit("one", "two", "three")
    await made.submitted()
    redis, settle, close = made.store.redis, made.store.settle, made.store.close
    before: dict[str, tuple[int, bytes]] = {}

    async def settle_noted(*args: Any) -> Any:
        names: list[bytes] = [] if before else await redis.keys(f"{made.store.prefix}:*")
        before.update({name.decode(): (await redis.pttl(name), await redis.dump(name)) for name in names})
        return await settle(*args)

    async def close_elsewhere(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await redis.delete(*await redis.keys(f"{made.store.prefix}:*"))
        for name, (ttl_ms, value) in before.items():
            await redis.restore(name, max(0, ttl_ms), value)
        return await close(*args, **options)

    monkeypatch.setattr(made.store, "settle", settle_noted)
    monkeypatch.setattr(made.store, "close", close_elsewhere)
    await made.drain()
    found = await moved(made)
    assert (found["answered"], found["created"], found.get("requeued", 0)) == (3, 1, 0)
    assert made.emulator.ledger()["rows_bought"] == 3


async def test_a_create_that_outlives_its_fence_is_counted_as_bought_twice(made: Shop) -> None:
    """A create that took effect, and that the list hides for longer than ``settle_s``, is bought anew, and counted."""
    made.emulator.faults(
        [{"on": "create", "do": "slow", "bytes_per_s": 200, "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await made.submit("one", "two")
    batch = await made.sealed()
    forgotten = asyncio.create_task(made.step_of_a_sleeper(Step.SUBMIT, batch))

    async def bought() -> bool:
        return bool(made.emulator.ledger()["jobs"])

    await until(bought, what="the first job")
    made.clock.advance(made.settings.lease_s + 1)
    assert await made.step(Step.SUBMIT, batch)
    made.clock.advance(made.settings.settle_s + 1)
    assert await made.step(Step.SUBMIT, batch)
    assert (await moved(made))["created"] == 1
    assert not forgotten.done()
    with pytest.raises(StaleFence):
        await forgotten
    assert (await moved(made))["bought_twice"] == 2
    made.emulator.faults([])
    await made.drain()
    assert len(made.emulator.ledger()["bought_twice"]) == 2


async def test_the_exposition_is_what_prometheus_reads(made: Shop) -> None:
    """Every counter and gauge is there once, with the queue as a label, help and type; also where nothing happened."""
    await made.submit('"quoted" \\ prompt')
    families = {
        family.name: family for family in text_string_to_metric_families((await exposition(made.store)).decode())
    }
    reading = await metrics.read(made.store)
    names = {*reading.counters, *(gauge.name for gauge in reading.gauges)}
    assert set(families) == {f"gemqueue_{name}" for name in names}
    assert all(sample.labels["queue"] == made.settings.queue for f in families.values() for sample in f.samples)
    assert families["gemqueue_accepted"].type == "counter"
    assert families["gemqueue_accepted"].samples[0].value == 1
    assert families["gemqueue_bought_twice"].samples[0].value == 0
    assert families["gemqueue_pending_prompts"].type == "gauge"
    await made.drain()


async def test_the_command_prints_the_exposition_without_a_key(made: Shop) -> None:
    """``gemqueue admin metrics`` needs a server and no key."""
    ended = gemqueue("admin", "metrics", GEMQUEUE_REDIS_URL=made.settings.redis_url, GEMQUEUE_QUEUE=made.settings.queue)
    assert ended.returncode == 0, ended.stderr
    assert f'gemqueue_workers{{queue="{made.settings.queue}"}} 0.0' in ended.stdout
