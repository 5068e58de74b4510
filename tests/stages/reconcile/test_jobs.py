"""The provider's jobs against the records: each is adopted, rebuilt, counted, cleaned up or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.policy import job_names
from gemqueue.policy.reconciling import Standing
from gemqueue.records import Known, Lane
from gemqueue.states import Kind, Step
from gemqueue.store import calls
from gemqueue_adapters import gemini
from gemqueue_workers.worker.reconciler import Reconciler
from gemqueue_workers.worker.recovery import HELD, Recovery
from tests.stages.reconcile.past import all_answered_once, goes_on, lose, noticed, uploaded
from tests.worlds.stages import ACCOUNT, LANE, MODEL

if TYPE_CHECKING:
    from tests.stages.reconcile.past import Past
    from tests.worlds.stages import Stages


async def test_a_batch_thrown_back_to_before_its_create_adopts_the_job(stages: Stages, lossy: Past) -> None:
    """The server forgets begin and accept. Nothing is submitted until the listed job has been adopted."""
    await stages.submit("one", "two")
    batch = await stages.sealed()
    lossy.save()
    await stages.step(Step.SUBMIT, batch)
    assert await stages.count("created") == 1
    await lose(stages, lossy)
    stages.clock.advance(stages.settings.lease_s + 1)
    assert not await stages.step(Step.SUBMIT, batch)
    assert await stages.store.held_reason(ACCOUNT) == HELD
    stages.clock.advance(stages.settings.settle_s)
    assert not await goes_on(stages)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == ("submitted", stages.emulator.ledger()["jobs"][0]["name"])
    assert (record.by_key, record.reserved) == (stages.provider.key_print, 2)
    assert await stages.store.held_reason(ACCOUNT) == ""
    await stages.step(Step.TRACK, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.polls, record.slow_at) == (1, 0)  # it is as old as the job, and no older
    assert (await stages.count("adopted"), await stages.count("reconciled")) == (1, 1)
    await all_answered_once(stages)


async def test_a_lost_record_is_rebuilt_from_the_results(stages: Stages, lossy: Past) -> None:
    """The server forgets the whole batch. Packing waits while its job runs, and then it has its record again."""
    await stages.submit(*(f"prompt {n}" for n in range(5)))
    await stages.submit("another", "segment")
    lossy.save()
    batch = await stages.submitted()
    await lose(stages, lossy)
    stages.clock.advance(stages.settings.settle_s + 1)
    assert not await stages.step(Step.PACK)
    stages.clock.advance(stages.settings.settle_s + 1)
    recovery = Recovery(stages.kit)
    assert await recovery.check()
    assert "its record is lost and it still runs" in await stages.store.held_reason(ACCOUNT)
    assert not await stages.step(Step.PACK)
    await stages.submit("new")
    stages.jobs_end()
    assert not await goes_on(stages, recovery)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, record.segments) == ("submitted", 7, 2)
    assert (record.by_key, record.reserved) == (stages.provider.key_print, 7)
    assert 0 <= stages.clock.now_ms() - record.intent_at < 600_000
    assert await stages.count("rebuilt") == 1
    await all_answered_once(stages)
    assert stages.emulator.ledger()["rows_bought"] == 8


async def test_a_lost_batch_of_a_pool_is_rebuilt(stages: Stages, lossy: Past) -> None:
    """The server forgets a batch that was packed from a pool: its segments are taken from the pool's lane."""
    stages.join("emulated.pool.shared")
    await stages.store.join_pool(stages.kit.pool, ACCOUNT)
    await stages.submit("one", "two")
    lossy.save()
    batch = await stages.submitted()
    await lose(stages, lossy)
    await stages.submit("later")
    stages.clock.advance(1)
    assert not await stages.step(Step.PACK)
    stages.clock.advance(stages.settings.settle_s + 1)
    assert "server" in await stages.store.held_reason(stages.kit.pool)
    stages.jobs_end()
    assert not await goes_on(stages)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, str(record.lane), record.pool) == ("submitted", 2, LANE, stages.kit.pool)
    assert (await stages.store.lane(Lane.parse(stages.lane))).prompts == 1
    await all_answered_once(stages)
    assert stages.emulator.ledger()["rows_bought"] == 3


async def test_a_lost_batch_of_retries_is_rebuilt(stages: Stages, lossy: Past) -> None:
    """Prompts that had moved on into a retry segment are found there, by the keys that it carries."""
    await stages.submit("[[fault:internal:1]] one", "two")
    first = await stages.submitted()
    stages.jobs_end()
    for step in (Step.TRACK, Step.RESOLVE):
        await stages.step(step, first)
    assert await stages.count("requeued") == 1
    lossy.save()
    stages.clock.advance(3600)
    await stages.submitted()
    await lose(stages, lossy)
    stages.jobs_end()
    stages.clock.advance(3600)
    assert not await stages.step(Step.PACK)
    stages.clock.advance(stages.settings.settle_s + 1)
    assert not await goes_on(stages)
    assert await stages.count("rebuilt") == 1
    await all_answered_once(stages)


async def test_segments_that_were_packed_anew_are_taken_back(stages: Stages, lossy: Past) -> None:
    """After a backup was restored by hand the prompts stand in a new sealed batch; the ended job's batch gets them."""
    await stages.submit("one", "two")
    lossy.save()
    batch = await stages.submitted()
    await lose(stages, lossy)
    stages.jobs_end()
    await stages.store.scripts.run(calls.Greet(ACCOUNT, "", 1, Known().packed()))
    await stages.store.resume(ACCOUNT, (await stages.store.server(ACCOUNT)).noticed)  # as if nobody had noticed
    await stages.submit("three", "four", "five")
    other = await stages.sealed()
    survey = await stages.compare()
    assert [(f.batch, f.standing, f.done) for f in survey.findings] == [
        (batch, Standing.KNOWN, "rebuilt with 1 segments")
    ]
    record = await stages.store.batch(other)
    assert record is not None
    assert (record.prompts, record.tokens, record.segments) == (3, 3, 2)
    await all_answered_once(stages)
    assert stages.emulator.ledger()["rows_bought"] == 5


async def test_what_others_have_in_the_account_is_left_alone(stages: Stages) -> None:
    """Jobs without a name of ours, or with that of another installation, are counted and never touched."""
    foreign_home = "0" * 8
    names = ["somebody's job", "gq-", job_names.job_token(foreign_home, "00b" + "a" * 20, 7), "gq-00bzz-1"]
    file = await uploaded(stages, "not ours", b'{"key":"k","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n')
    stray = await uploaded(stages, job_names.file_name(foreign_home, "00b" + "b" * 20), b"\n")
    jobs = [await stages.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=name) for name in names]
    before = [(await stages.provider.poll(job)).state for job in jobs]
    reconciler = Reconciler(stages.kit, (await stages.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    survey.stray_files = await reconciler.stray_files()
    await reconciler.clean_up(survey)
    assert (survey.findings, survey.foreign, survey.stray_files) == ([], len(names), [])
    assert [(await stages.provider.poll(job)).state for job in jobs] == before
    assert stray in [stored.file async for page in stages.provider.files() for stored in page]


async def test_orphans_and_strays_go_only_when_asked(stages: Stages, lossy: Past) -> None:
    """A running job whose prompts nobody here has, and files of batches that are over: shown, and then cleaned up."""
    lossy.save()
    await stages.submit("one")
    lost = await stages.submitted()
    await lose(stages, lossy)
    stages.keys.clear()
    await stages.submit("two")
    stages.clock.advance(stages.settings.settle_s + 1)
    await stages.store.resume(ACCOUNT, await noticed(stages))
    done = await stages.submitted()
    await stages.drain()
    reconciler = Reconciler(stages.kit, (await stages.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    found = {finding.batch: finding for finding in survey.findings}
    assert found[done].standing is Standing.KNOWN
    assert found[lost].standing is Standing.ORPHANED  # it ended as time went by
    survey.stray_files = await reconciler.stray_files()
    assert len(survey.stray_files) >= 1
    await reconciler.clean_up(survey)
    assert await reconciler.stray_files() == []


async def test_a_job_that_nobody_can_place_is_cancelled_only_when_asked(stages: Stages, lossy: Past) -> None:
    """While it runs it keeps the pause; a person may cancel it, or lift the pause and leave it."""
    lossy.save()
    await stages.submit("one")
    await stages.submitted()
    await lose(stages, lossy)
    stages.keys.clear()
    reconciler = Reconciler(stages.kit, (await stages.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    (finding,) = survey.findings
    assert (finding.standing, len(survey.open_questions())) == (Standing.RUNNING, 1)
    await reconciler.clean_up(survey)
    assert finding.done == "cancelled"
    stages.jobs_end()
    assert (await stages.compare()).open_questions() == []


async def test_a_second_job_of_a_batch_is_counted_once(stages: Stages) -> None:
    """A job whose intent was proven dead and that is there all the same is counted once, however often it is seen."""
    stages.emulator.faults(
        [{"on": "create", "do": "lost_after", "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await stages.submit("one", "two")
    batch = await stages.submitted()
    await stages.doubted(batch)
    assert len(stages.emulator.ledger()["jobs"]) == 2
    stages.emulator.faults([])
    for _ in range(3):
        survey = await stages.compare()
        assert sorted(str(finding.standing) for finding in survey.findings) == ["known", "twice"]
    assert await stages.count("bought_twice") == 2
    await stages.drain()


async def test_a_late_job_of_a_batch_that_has_none_is_adopted(stages: Stages) -> None:
    """Its intent was proven dead and nothing has been created since: adopting it is better than buying again."""
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
    stages.emulator.faults([])
    (finding,) = (await stages.compare()).findings
    assert (finding.standing, finding.done) == (Standing.KNOWN, "adopted")
    await all_answered_once(stages)


@pytest.mark.parametrize("looked", [True, False])
async def test_a_batch_thrown_back_to_the_job_that_missed_its_input(
    stages: Stages, lossy: Past, *, looked: bool
) -> None:
    """The server forgets the restart and the second job, which is adopted once the first has been seen to fail."""
    stages.emulator.faults([{"on": "job", "do": f"needs_input_{when}"} for when in ("pending", "running")])
    await stages.submit("one", "two")
    batch = await stages.submitted()
    record = await stages.store.batch(batch)
    assert record is not None
    await stages.provider.delete_file(record.input_file)
    stages.jobs_end()
    lossy.save()
    for _ in range(2):
        await stages.step(Step.TRACK, batch)
        stages.clock.advance(61)
    await stages.step(Step.SUBMIT, batch)
    assert await stages.count("created") == 2
    await lose(stages, lossy)
    assert not await stages.step(Step.PACK)
    await noticed(stages)
    stages.clock.advance(stages.settings.settle_s + 1)
    recovery = Recovery(stages.kit)
    if not looked:
        assert await recovery.check()
        assert "look again later" in await stages.store.held_reason(ACCOUNT)
    for _ in range(2):
        await stages.step(Step.TRACK, batch)
        stages.clock.advance(61)
    assert not await stages.step(Step.SUBMIT, batch)
    assert not await goes_on(stages, recovery)
    record = await stages.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == ("submitted", stages.emulator.ledger()["jobs"][-1]["name"])
    await all_answered_once(stages)
    assert (stages.emulator.ledger()["rows_bought"], await stages.count("bought_twice")) == (2, 0)


async def test_a_job_that_was_found_late_is_no_gap_in_a_list(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison begins after a job's create and before its adoption: the list need not go back to that job."""
    monkeypatch.setattr(gemini, "PAGE_SIZE", 1)
    lost, lags = {"on": "create", "do": "lost_after", "nth": [1]}, {"on": "list", "do": "lag", "seconds": 60}
    stages.emulator.faults([lost, lags])
    await stages.submit("found late")
    batch = await stages.submitted()
    await stages.submit("older as well")
    since_ms = 0
    for text in ("", "newer"):
        if text:
            await stages.submit(text)
        await stages.submitted()
        stages.clock.advance(120)
        stages.emulator.advance(120)
        since_ms = since_ms or stages.clock.now_ms() - 1000
    assert await stages.step(Step.SUBMIT, batch)
    stages.clock.advance(stages.settings.settle_s + 1)
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.intent_at < since_ms < record.accepted_at
    server = await stages.store.server(ACCOUNT)
    survey = await Reconciler(stages.kit, server.home, apply=True).survey(since_ms)
    assert (survey.missing, survey.open_questions()) == ([], [])
    assert record.job not in {finding.job for finding in survey.findings}
