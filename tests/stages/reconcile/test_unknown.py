"""Jobs of ours that no record knows, in ordinary life: noted, compared, counted, and never cancelled."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gemqueue.policy import job_names
from gemqueue.policy.unknown import again_s, look_every_s
from gemqueue.records import NOT_HELD
from gemqueue.states import Kind, Step
from gemqueue_workers.stages.shared_polls import SHARED_FROM, UnknownJobs
from gemqueue_workers.worker.lookout import Lookout
from tests.stages.reconcile.past import all_answered_once, lose, noticed, uploaded
from tests.worlds.stages import ACCOUNT, MODEL, Stages

if TYPE_CHECKING:
    from tests.stages.reconcile.past import Past

ROW = b'{"key":"k","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n'


async def settled(stages: Stages, lossy: Past) -> None:
    """Everything since ``lossy.save()`` is lost, and a person has ended the pause."""
    await lose(stages, lossy)
    await stages.store.resume(ACCOUNT, await noticed(stages))


async def created(stages: Stages, home: str) -> str:
    """A job of a batch that no record knows, under this home's name."""
    token = job_names.job_token(home, "00b" + "a" * 20, 7) if home else f"gq-00b{'a' * 20}-7"
    file = await uploaded(stages, token.rpartition("-")[0], ROW)
    return await stages.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=token)


async def home_of(stages: Stages) -> str:
    """The home of this queue's jobs."""
    return (await stages.store.server(ACCOUNT)).home


async def taken_turns(stages: Stages, lookout: Lookout, turns: int) -> None:
    """So many turns, as far apart as a worker takes them."""
    for _ in range(turns):
        stages.clock.advance(again_s(stages.settings))
        await lookout.turn()


async def test_an_unknown_job_is_counted_once_and_holds_nothing(stages: Stages) -> None:
    """Seen twice it is an alarm and one count, however often it is seen; it runs on, and the queue works on beside."""
    await stages.submit("one")
    batch = await stages.submitted()
    job = await created(stages, await home_of(stages))
    lookout = Lookout(stages.kit)
    stages.clock.advance(look_every_s(stages.settings))
    with capture_logs() as logs:
        await lookout.turn()
        assert await stages.count("unknown_jobs") == 0
        await taken_turns(stages, lookout, 12)
    assert [log["job"] for log in logs if log["event"] == "job.unknown" and log["log_level"] == "error"] == [job]
    assert await stages.count("unknown_jobs") == 1
    (noted,) = await stages.store.unknown_jobs(ACCOUNT)
    assert (noted.job, noted.state, noted.counted, noted.is_new) == (job, "running", True, False)
    assert (await stages.provider.poll(job)).state == "running"
    assert await stages.store.held_reason(ACCOUNT) == ""
    await stages.submit("two")
    await stages.submitted()
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.state == "submitted"


async def test_a_lost_batch_is_rebuilt_in_ordinary_life(stages: Stages, lossy: Past) -> None:
    """Its job is noted while it runs, and compared again when it has ended: nothing is bought twice."""
    await stages.submit("one", "two")
    lossy.save()
    batch = await stages.submitted()
    await settled(stages, lossy)
    await created(stages, await home_of(stages))
    lookout = Lookout(stages.kit)
    stages.clock.advance(look_every_s(stages.settings))
    await lookout.turn()
    assert await stages.store.unknown_jobs(ACCOUNT) == []  # no batch is open, and nothing was noted: nobody looks
    await UnknownJobs(stages.kit).look(await stages.provider.newest())
    await taken_turns(stages, lookout, 2)
    assert await stages.count("unknown_jobs") == 2
    stages.jobs_end()
    await taken_turns(stages, lookout, 10)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts) == ("submitted", 2)
    assert [one.job for one in await stages.store.unknown_jobs(ACCOUNT)] != [record.job]
    await all_answered_once(stages)


@pytest.mark.parametrize("home", ["", "0" * 8])
async def test_another_homes_jobs_are_no_alarm(stages: Stages, home: str) -> None:
    """A job without a home (0.1.0), or with another's, is noted by nobody."""
    await created(stages, home)
    stages.clock.advance(stages.settings.settle_s + 1)
    await UnknownJobs(stages.kit).look(await stages.provider.newest())
    assert await stages.store.unknown_jobs(ACCOUNT) == []


async def test_a_young_job_may_be_about_to_be_recorded(stages: Stages) -> None:
    """Within ``settle_s`` of its creation nobody notes a job, for a worker may be between create and accept."""
    await created(stages, await home_of(stages))
    await UnknownJobs(stages.kit).look(await stages.provider.newest())
    assert await stages.store.unknown_jobs(ACCOUNT) == []
    stages.clock.advance(stages.settings.settle_s + 1)
    await UnknownJobs(stages.kit).look(await stages.provider.newest())
    assert len(await stages.store.unknown_jobs(ACCOUNT)) == 1


async def test_a_batch_that_has_forgotten_its_job_adopts_it(stages: Stages) -> None:
    """A batch waits sealed though its job runs: one look, and it adopts the job before another is created."""
    stages.emulator.faults(
        [
            {"on": "create", "do": "lost_after", "nth": [1]},
            {"on": "create", "do": "429", "nth": [1]},
            {"on": "list", "do": "lag", "seconds": 9_000},
        ]
    )
    await stages.submit("one", "two")
    batch = await stages.submitted()
    await stages.doubted(batch)
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.state == "sealed"
    stages.emulator.faults([])
    lookout = Lookout(stages.kit)
    stages.clock.advance(look_every_s(stages.settings))
    await lookout.turn()
    assert (await stages.count("adopted"), await stages.count("unknown_jobs")) == (1, 0)
    assert await stages.store.unknown_jobs(ACCOUNT) == []
    await all_answered_once(stages)


async def test_a_job_beside_another_is_counted_as_bought_twice(stages: Stages) -> None:
    """A page shows a second job of a batch: its prompts are counted as bought twice, once, and not as unknown."""
    stages.emulator.faults(
        [{"on": "create", "do": "lost_after", "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await stages.submit("one", "two")
    batch = await stages.submitted()
    await stages.doubted(batch)
    stages.emulator.faults([])
    for _ in range(3):
        stages.clock.advance(stages.settings.settle_s + 1)
        await UnknownJobs(stages.kit).look(await stages.provider.newest())
    assert (await stages.count("bought_twice"), await stages.count("unknown_jobs")) == (2, 0)


async def test_all_workers_together_list_once_in_ten_minutes(stages: Stages) -> None:
    """Three workers take a turn every minute for an hour, while a batch is open: six lists, and none in the first."""
    await stages.submit("one")
    await stages.submitted()
    workers = [Lookout(stages.kit) for _ in range(3)]
    before = len(stages.emulator.requests())
    for _ in range(65):
        stages.clock.advance(again_s(stages.settings))
        for worker in workers:
            await worker.turn()
    asked = [each["path"] for each in stages.emulator.requests()[before:]]
    assert len(asked) == 6
    assert all(path.endswith("/batches") for path in asked)


async def test_a_shared_page_is_a_look(stages: Stages) -> None:
    """With many open batches the page that they share shows an unknown job, and no list is asked for beside it."""
    batches: list[str] = []
    for n in range(SHARED_FROM):
        await stages.submit(f"prompt {n}")
        batches.append(await stages.submitted())
    job = await created(stages, await home_of(stages))
    stages.clock.advance(1000)
    assert await stages.step(Step.TRACK, batches[0])
    assert [one.job for one in await stages.store.unknown_jobs(ACCOUNT)] == [job]
    before = len(stages.emulator.requests())
    assert not await stages.store.take_look(ACCOUNT, look_every_s(stages.settings), await stages.store.server_now_ms())
    assert len(stages.emulator.requests()) == before


async def test_a_job_that_was_said_to_have_failed_is_counted_as_bought_twice(stages: Stages) -> None:
    """A provider says for minutes that a job failed, and then it has succeeded: its prompts were bought again."""
    await stages.submit("one", "two")
    batch = await stages.submitted()
    stages.emulator.lies([{"route": "get", "kind": "failed"}])
    for step in (Step.TRACK, Step.RESOLVE):
        stages.clock.advance(120)
        assert await stages.step(step, batch)
    stages.emulator.lies([])
    await stages.drain()
    assert (stages.emulator.ledger()["rows_bought"], await stages.count("bought_twice")) == (4, 0)
    for _ in range(2):
        await UnknownJobs(stages.kit).look(await stages.provider.newest())
        assert await stages.count("bought_twice") == 2


async def test_a_job_that_had_its_input_after_all_is_counted_as_bought_twice(stages: Stages) -> None:
    """One that was replaced because it was said to have missed its input, and has succeeded beside the other."""
    await stages.submit("one", "two")
    batch = await stages.submitted()
    stages.clock.advance(120)
    taken = await stages.store.claim(Step.TRACK, batch, ACCOUNT)
    assert taken is not None
    record = await stages.store.batch(batch)
    assert record is not None
    await stages.store.restart(taken[0], record.job, delay_s=0.0, hold=NOT_HELD, proven=False)
    await stages.drain()
    await UnknownJobs(stages.kit).look(await stages.provider.newest())
    assert (stages.emulator.ledger()["rows_bought"], await stages.count("bought_twice")) == (4, 2)


async def test_a_copy_of_the_queue_harms_no_job_of_the_other(stages: Stages) -> None:
    """A staging that was restored from a backup has production's home: it counts its jobs, and lets them run."""
    await stages.submit("one", "two")
    await stages.submitted()
    home = await home_of(stages)
    async with aclosing(Stages(stages.settings.redis_url, f"{stages.settings.queue}-copy", stages.emulator)) as copy:
        await copy.store.redis.hset(copy.store.key("server", ACCOUNT), "home", home)
        await copy.store.greet(ACCOUNT)
        await copy.submit("three")
        await copy.submitted()
        lookout = Lookout(copy.kit)
        copy.clock.advance(look_every_s(copy.settings))
        await taken_turns(copy, lookout, 12)
        assert await copy.count("unknown_jobs") == 1
        copy.jobs_end()
        await all_answered_once(copy)
    await all_answered_once(stages)
    states = {job["state"] for job in stages.emulator.ledger()["jobs"]}
    assert (states, stages.emulator.ledger()["rows_bought"]) == ({"SUCCEEDED"}, 3)
