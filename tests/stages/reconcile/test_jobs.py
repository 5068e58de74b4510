"""The provider's jobs against the records: each is adopted, rebuilt, counted, cleaned up or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy import job_names
from gemqueue.policy.reconciling import Standing
from gemqueue.records import Lane
from gemqueue.states import Kind, Step
from gemqueue_workers.worker.reconciler import Reconciler
from gemqueue_workers.worker.recovery import HELD, Aftermath
from tests.stages.reconcile.past import all_answered_once, lose, noticed, uploaded
from tests.worlds.stages import ACCOUNT, LANE, MODEL

if TYPE_CHECKING:
    from tests.stages.reconcile.past import Past
    from tests.worlds.stages import Shop


async def test_a_batch_thrown_back_to_before_its_create_adopts_the_job(made: Shop, lossy: Past) -> None:
    """The server forgets begin and accept. Nothing is submitted until the listed job has been adopted."""
    await made.submit("one", "two")
    batch = await made.sealed()
    lossy.save()
    await made.step(Step.SUBMIT, batch)
    assert await made.count("created") == 1
    await lose(made, lossy)
    made.clock.advance(made.settings.lease_s + 1)
    assert not await made.step(Step.SUBMIT, batch)
    assert await made.store.held_reason(ACCOUNT) == HELD
    made.clock.advance(made.settings.settle_s)
    assert not await Aftermath(made.kit).look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == ("submitted", made.emulator.ledger()["jobs"][0]["name"])
    assert (record.by_key, record.reserved) == (made.provider.key_print, 2)
    assert await made.store.held_reason(ACCOUNT) == ""
    await made.step(Step.TRACK, batch)
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.polls, record.slow_at) == (1, 0)  # it is as old as the job, and no older
    assert (await made.count("adopted"), await made.count("reconciled")) == (1, 1)
    await all_answered_once(made)


async def test_a_lost_record_is_rebuilt_from_the_results(made: Shop, lossy: Past) -> None:
    """The server forgets the whole batch. Packing waits while its job runs, and then it has its record again."""
    await made.submit(*(f"prompt {n}" for n in range(5)))
    await made.submit("another", "segment")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    made.clock.advance(made.settings.settle_s + 1)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    aftermath = Aftermath(made.kit)
    assert await aftermath.look()
    assert "its record is lost and it still runs" in await made.store.held_reason(ACCOUNT)
    assert not await made.step(Step.PACK)
    await made.submit("new")
    made.jobs_end()
    assert not await aftermath.look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, record.segments) == ("submitted", 7, 2)
    assert (record.by_key, record.reserved) == (made.provider.key_print, 7)
    assert 0 <= made.clock.now_ms() - record.intent_at < 600_000
    assert await made.count("rebuilt") == 1
    await all_answered_once(made)
    assert made.emulator.ledger()["rows_bought"] == 8


async def test_a_lost_batch_of_a_pool_is_rebuilt(made: Shop, lossy: Past) -> None:
    """The server forgets a batch that was packed from a pool: its segments are taken from the pool's lane."""
    made.join("emulated.pool.shared")
    await made.store.join_pool(made.kit.pool, ACCOUNT)
    await made.submit("one", "two")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    await made.submit("later")
    made.clock.advance(1)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    assert "server" in await made.store.held_reason(made.kit.pool)
    made.jobs_end()
    assert not await Aftermath(made.kit).look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, str(record.lane), record.pool) == ("submitted", 2, LANE, made.kit.pool)
    assert (await made.store.lane(Lane.parse(made.lane))).prompts == 1
    await all_answered_once(made)
    assert made.emulator.ledger()["rows_bought"] == 3


async def test_a_lost_batch_of_retries_is_rebuilt(made: Shop, lossy: Past) -> None:
    """Prompts that had moved on into a retry segment are found there, by the keys that it carries."""
    await made.submit("[[fault:internal:1]] one", "two")
    first = await made.submitted()
    made.jobs_end()
    for step in (Step.TRACK, Step.RESOLVE):
        await made.step(step, first)
    assert await made.count("requeued") == 1
    lossy.save()
    made.clock.advance(3600)
    await made.submitted()
    await lose(made, lossy)
    made.jobs_end()
    made.clock.advance(3600)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    assert not await Aftermath(made.kit).look()
    assert await made.count("rebuilt") == 1
    await all_answered_once(made)


async def test_segments_that_were_packed_anew_are_taken_back(made: Shop, lossy: Past) -> None:
    """After a backup was restored by hand the prompts stand in a new sealed batch; the ended job's batch gets them."""
    await made.submit("one", "two")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    made.jobs_end()
    await made.store.scripts.run("greet", ACCOUNT, "", 1)
    await made.store.resume(ACCOUNT, (await made.store.server(ACCOUNT)).noticed)  # as if nobody had noticed
    await made.submit("three", "four", "five")
    other = await made.sealed()
    survey = await made.compare()
    assert [(f.batch, f.standing, f.done) for f in survey.findings] == [
        (batch, Standing.KNOWN, "rebuilt with 1 segments")
    ]
    record = await made.store.batch(other)
    assert record is not None
    assert (record.prompts, record.tokens, record.segments) == (3, 3, 2)
    await all_answered_once(made)
    assert made.emulator.ledger()["rows_bought"] == 5


async def test_what_others_have_in_the_account_is_left_alone(made: Shop) -> None:
    """Jobs without a name of ours, or with that of another installation, are counted and never touched."""
    foreign_home = "0" * 8
    names = ["somebody's job", "gq-", job_names.job_token(foreign_home, "00b" + "a" * 20, 7), "gq-00bzz-1"]
    file = await uploaded(made, "not ours", b'{"key":"k","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n')
    stray = await uploaded(made, job_names.file_name(foreign_home, "00b" + "b" * 20), b"\n")
    jobs = [await made.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=name) for name in names]
    before = [(await made.provider.poll(job)).state for job in jobs]
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    survey.stray_files = await reconciler.stray_files()
    await reconciler.clean_up(survey)
    assert (survey.findings, survey.foreign, survey.stray_files) == ([], len(names), [])
    assert [(await made.provider.poll(job)).state for job in jobs] == before
    assert stray in [stored.file async for page in made.provider.files() for stored in page]


async def test_orphans_and_strays_go_only_when_asked(made: Shop, lossy: Past) -> None:
    """A running job whose prompts nobody here has, and files of batches that are over: shown, and then cleaned up."""
    lossy.save()
    await made.submit("one")
    lost = await made.submitted()
    await lose(made, lossy)
    made.keys.clear()
    await made.submit("two")
    made.clock.advance(made.settings.settle_s + 1)
    await made.store.resume(ACCOUNT, await noticed(made))
    done = await made.submitted()
    await made.drain()
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    found = {finding.batch: finding for finding in survey.findings}
    assert found[done].standing is Standing.KNOWN
    assert found[lost].standing is Standing.ORPHANED  # it ended as time went by
    survey.stray_files = await reconciler.stray_files()
    assert len(survey.stray_files) >= 1
    await reconciler.clean_up(survey)
    assert await reconciler.stray_files() == []


async def test_a_job_that_nobody_can_place_is_cancelled_only_when_asked(made: Shop, lossy: Past) -> None:
    """While it runs it keeps the pause; a person may cancel it, or lift the pause and leave it."""
    lossy.save()
    await made.submit("one")
    await made.submitted()
    await lose(made, lossy)
    made.keys.clear()
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    (finding,) = survey.findings
    assert (finding.standing, len(survey.open_questions())) == (Standing.RUNNING, 1)
    await reconciler.clean_up(survey)
    assert finding.done == "cancelled"
    made.jobs_end()
    assert (await made.compare()).open_questions() == []


async def test_a_second_job_of_a_batch_is_counted_once(made: Shop) -> None:
    """A job whose intent was proven dead and that is there all the same is counted once, however often it is seen."""
    made.emulator.faults(
        [{"on": "create", "do": "lost_after", "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await made.submit("one", "two")
    batch = await made.submitted()
    made.clock.advance(made.settings.settle_s + 1)
    await made.step(Step.SUBMIT, batch)
    assert len(made.emulator.ledger()["jobs"]) == 2
    made.emulator.faults([])
    for _ in range(3):
        survey = await made.compare()
        assert sorted(str(finding.standing) for finding in survey.findings) == ["known", "twice"]
    assert await made.count("bought_twice") == 2
    await made.drain()


async def test_a_late_job_of_a_batch_that_has_none_is_adopted(made: Shop) -> None:
    """Its intent was proven dead and nothing has been created since: adopting it is better than buying again."""
    made.emulator.faults(
        [
            {"on": "create", "do": "lost_after", "nth": [1]},
            {"on": "create", "do": "429", "nth": [1]},
            {"on": "list", "do": "lag", "seconds": 9_000},
        ]
    )
    await made.submit("one", "two")
    batch = await made.submitted()
    made.clock.advance(made.settings.settle_s + 1)
    await made.step(Step.SUBMIT, batch)
    made.emulator.faults([])
    (finding,) = (await made.compare()).findings
    assert (finding.standing, finding.done) == (Standing.KNOWN, "adopted")
    await all_answered_once(made)


@pytest.mark.parametrize("looked", [True, False])
async def test_a_batch_thrown_back_to_the_job_that_missed_its_input(made: Shop, lossy: Past, *, looked: bool) -> None:
    """The server forgets the restart and the second job, which is adopted once the first has been seen to fail."""
    made.emulator.faults([{"on": "job", "do": f"needs_input_{when}"} for when in ("pending", "running")])
    await made.submit("one", "two")
    batch = await made.submitted()
    record = await made.store.batch(batch)
    assert record is not None
    await made.provider.delete_file(record.input_file)
    made.jobs_end()
    lossy.save()
    await made.step(Step.TRACK, batch)
    await made.step(Step.SUBMIT, batch)
    assert await made.count("created") == 2
    await lose(made, lossy)
    assert not await made.step(Step.PACK)
    await noticed(made)
    made.clock.advance(made.settings.settle_s + 1)
    aftermath = Aftermath(made.kit)
    if not looked:
        assert await aftermath.look()
        assert "look again later" in await made.store.held_reason(ACCOUNT)
    await made.step(Step.TRACK, batch)
    assert not await made.step(Step.SUBMIT, batch)
    assert not await aftermath.look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == ("submitted", made.emulator.ledger()["jobs"][-1]["name"])
    await all_answered_once(made)
    assert (made.emulator.ledger()["rows_bought"], await made.count("bought_twice")) == (2, 0)
