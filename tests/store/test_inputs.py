"""Input files: when they may go, what a failure says of them, and the batch that begins anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError, StaleFence, WrongState
from gemqueue.policy import inputs
from gemqueue.policy.quota import Limits
from gemqueue.policy.submitting import adoptable
from gemqueue.provider import JobStatus
from gemqueue.records import Batch, Hold, Lane, Note
from gemqueue.states import BatchState, JobState, Step
from gemqueue.store.batches import JobEnd
from tests.store.test_quota import adds_up, submit
from tests.worlds.bench import ACCOUNT, LANE, bench, refused

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue.store.batches import Claim
    from tests.worlds.bench import Bench

FILE = "files/abcdef123456"


def failed(code: int, message: str, **changed: Any) -> JobStatus:
    """A job that has failed so."""
    plain: dict[str, Any] = {"state": JobState.FAILED, "raw_state": "BATCH_STATE_FAILED", "input_file": FILE}
    return JobStatus(job="batches/j", error_code=code, error_message=message, **(plain | changed))


def batch(**changed: Any) -> Batch:
    """A batch whose job runs over ``FILE``."""
    plain: dict[str, Any] = {"state": BatchState.SUBMITTED, "lane": LANE, "fence": 1}
    plain |= {"intent_file": FILE, "input_file": FILE}
    return Batch(id="b", v=1, job="batches/j", **(plain | changed))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (5, "", True),
        (5, "Requested entity was not found.", True),
        (5, "no such file", True),
        (7, f"You do not have permission to access the File {FILE[6:]} or it may not exist.", True),
        (9, f"File {FILE} has expired.", True),
        (13, "Failed to read the input file: it no longer exists.", True),
        (5, "models/gemini-9 is not found for API version v1beta", False),
        (5, "cachedContents/c1 was not found", False),
        (5, "files/of-a-row was not found", False),
        (7, "You do not have permission to access the File of-a-row or it may not exist.", False),
        (13, "Internal error.", False),
        (3, f"Line 7 of {FILE} is malformed.", False),
    ],
)
def test_what_blames_the_input(code: int, message: str, expected: bool) -> None:
    """The want of the input is known by its words; that of another resource, or another fault of the file, is none."""
    assert inputs.blames_input(failed(code, message)) is expected
    assert adoptable(failed(code, message)) is not expected


def test_only_a_failed_job_misses_its_input() -> None:
    """Whatever a job of another state says; where the provider does not name the job's file, the intent does."""
    for state in set(JobState) - {JobState.FAILED}:
        assert not inputs.blames_input(failed(5, "", state=state))
    named = failed(9, f"{FILE} was not found", input_file="")
    assert (inputs.blames_input(named), inputs.blames_input(named, FILE)) == (False, True)
    assert inputs.begins_anew(batch(), named)


@pytest.mark.parametrize("results", [{"output_file": "files/results"}, {"inline": True}])
def test_a_job_with_results_had_its_input(results: dict[str, Any]) -> None:
    """What it brought is bought: it is adopted and collected, and not asked again."""
    brought = failed(5, f"{FILE} was not found", **results)
    assert not inputs.begins_anew(batch(), brought)
    assert adoptable(brought, batch())
    assert adoptable(brought)


def test_a_provider_that_always_says_so_is_not_believed_for_ever() -> None:
    """After three jobs the want of an input is a failure like any other."""
    says = failed(5, "Requested entity was not found.")
    anew = [inputs.begins_anew(batch(inputs_missed=n), says) for n in range(5)]
    assert anew == [True, True, True, False, False]
    assert [adoptable(says, batch(inputs_missed=n)) for n in range(5)] == [not again for again in anew]


def test_what_is_known_of_the_deletion() -> None:
    """A fence deletes the file, and so does a look at a running job; else nobody of ours did."""
    assert inputs.was_deleted(batch(input_file=""))
    assert inputs.was_deleted(batch(fenced_at=1))
    assert not inputs.was_deleted(batch())
    assert not inputs.was_deleted(batch(input_file="", intent_file=""))


@pytest.mark.parametrize(("chosen", "expected"), [("ended", False), ("running", True), ("never", False)])
def test_only_where_it_is_chosen_a_running_job_loses_its_file(chosen: str, expected: bool) -> None:
    """By default it keeps it, and always while it is pending, or when a job of its batch has missed one."""
    runs = JobStatus(job="batches/j", state=JobState.RUNNING, raw_state="BATCH_STATE_RUNNING", begun=True)
    pending = JobStatus(job="batches/j", state=JobState.RUNNING, raw_state="BATCH_STATE_PENDING")
    settings = Settings(delete_files=chosen)
    assert inputs.may_go_while_running(batch(), runs, settings) is expected
    assert not inputs.may_go_while_running(batch(), pending, settings)
    assert not inputs.may_go_while_running(batch(inputs_missed=1), runs, settings)
    assert not inputs.may_go_while_running(batch(input_file=""), runs, settings)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", "ended"), ("false", "never"), ('"ended"', "ended"), ('"running"', "running"), ('"never"', "never")],
)
def test_the_setting_of_0_2_0_is_read(tmp_path: Path, written: str, meant: str) -> None:
    """True and false of a file, a variable or a keyword mean what they meant; the three words are new."""
    file = tmp_path / "gemqueue.toml"
    file.write_text(f"delete_files = {written}\n")
    word = written.strip('"')
    assert load_settings(file, {}).delete_files == meant
    assert load_settings(env={"GEMQUEUE_DELETE_FILES": word}).delete_files == meant
    given = {"true": True, "false": False}.get(word, word)
    assert load_settings(env={}, delete_files=given).delete_files == meant
    assert load_settings(env={"GEMQUEUE_DELETE_FILES": "1" if meant == "ended" else "0"}).delete_files != "running"


def test_other_words_and_more_than_a_project_stores_are_refused() -> None:
    """The error names the setting and what it may be."""
    with pytest.raises(ConfigError, match='delete_files must be "ended", "running" or "never"'):
        load_settings(env={"GEMQUEUE_DELETE_FILES": "soon"})
    with pytest.raises(ConfigError, match="stored_bytes_max must be at most 20000000000"):
        load_settings(env={}, stored_bytes_max=20_000_000_001)


# --- the store's side -------------------------------------------------------------------------------------------------


async def tracked(made: Bench) -> Claim:
    """A batch with a job and a reservation, claimed by a tracker."""
    claim = await made.claim(Step.SUBMIT, await made.sealed())
    assert await made.store.reserve(claim, Limits(100, 10**6)) == "ok"
    await submit(made, claim)
    return await made.claim(Step.TRACK, claim.id)


async def restart(made: Bench, claim: Claim, *, proven: bool = False, job: str = "") -> None:
    """Its job has missed its input."""
    await made.store.restart(claim, job or f"batches/{claim.id}", delay_s=0.0, hold=Hold(text="input"), proven=proven)


async def test_a_batch_begins_anew_as_it_was(redis_url: str, queue_name: str) -> None:
    """Sealed with its segments, uncharged: no requeue, no smaller ceiling, no reservation; said, and counted once."""
    async with bench(redis_url, queue_name) as made:
        segment = await made.enqueue(3)
        claim = await tracked(made)
        for _ in range(2):
            await restart(made, claim, proven=True)
        record = await made.store.batch(claim.id)
        assert record is not None
        assert (record.state, record.job, record.input_file, record.intent_token) == (BatchState.SEALED, "", "", "")
        assert (record.inputs_missed, record.missed_jobs, record.held_reason) == (1, f"batches/{claim.id}", "input")
        assert await made.store.manifest(claim.id) == [segment]
        (meta,) = await made.store.segment_metas([segment])
        assert meta is not None
        assert (meta.requeues, meta.attempt) == (0, 0)
        assert (await made.store.lane(Lane.parse(LANE))).ceiling == 0
        assert (await adds_up(made)).reservations == ()
        assert await made.due() == [f"submit {claim.id}"]
        counts = await made.store.counts()
        assert (counts["inputs_missed"], counts.get("ended_failed", 0), counts.get("returned", 0)) == (1, 0, 0)
        assert await made.store.input_needed([ACCOUNT, "other"]) == {ACCOUNT: made.clock.now_ms()}


async def test_what_is_not_proven_is_not_remembered(redis_url: str, queue_name: str) -> None:
    """Where nobody of ours had deleted the file, the account has proven nothing; what it has once, it has."""
    async with bench(redis_url, queue_name) as made:
        await made.enqueue(3)
        claim = await tracked(made)
        await restart(made, claim)
        assert await made.store.input_needed([ACCOUNT]) == {}


async def test_a_create_in_doubt_whose_job_missed_its_input(redis_url: str, queue_name: str) -> None:
    """One transition counts it, keeps the next file, and remembers what was proven since the first; once."""
    async with bench(redis_url, queue_name) as made:
        since: list[int] = []
        for n in (1, 2):
            made.advance(5)
            await made.enqueue(3)
            claim = await made.submitting()
            for _ in range(2):  # asked again: the reply was lost
                await made.store.reopen(claim, "token-1", Note(missed_jobs="batches/j"))
            record = await made.store.batch(claim.id)
            assert record is not None
            assert (record.v, record.inputs_missed, record.missed_jobs) == (2, 1, "batches/j")
            assert (await made.store.counts())["inputs_missed"] == n
            since.append((await made.store.input_needed([ACCOUNT]))[ACCOUNT])
        assert since[0] == since[1]


async def test_only_the_holder_of_a_running_job_restarts_it(redis_url: str, queue_name: str) -> None:
    """An overtaken tracker, another job's failure and an ended batch change nothing."""
    async with bench(redis_url, queue_name) as made:
        await made.enqueue(3)
        old = await tracked(made)
        await refused(lambda: restart(made, old, job="batches/other"), WrongState, made)
        made.advance(61)
        claim = await made.claim(Step.TRACK, old.id)
        await refused(lambda: restart(made, old), StaleFence, made)
        await made.store.end(claim, JobEnd(job_state="failed"))
        await refused(lambda: restart(made, claim), WrongState, made)


async def test_a_late_event_of_a_replaced_job_is_no_stray(redis_url: str, queue_name: str) -> None:
    """It tells of a job that the batch has had: nothing was bought beside it, and nothing is due for it."""
    async with bench(redis_url, queue_name) as made:
        await made.enqueue(3)
        claim = await tracked(made)
        await restart(made, claim)
        before = await made.due()
        assert (await made.store.announce("msg_1", f"batches/{claim.id}", "")) == ("late", claim.id)
        assert (await made.store.counts()).get("events_stray", 0) == 0
        assert await made.due() == before


async def test_a_worker_of_before_leaves_the_batch_alone(redis_url: str, queue_name: str) -> None:
    """The record is of the second layout, which 0.2.0 does not claim; this version does."""
    async with bench(redis_url, queue_name) as made:
        await made.enqueue(3)
        claim = await tracked(made)
        await restart(made, claim)
        record = await made.store.batch(claim.id)
        assert record is not None
        assert record.v == 2
        assert (await made.claim(Step.SUBMIT, claim.id)).fence > claim.fence
