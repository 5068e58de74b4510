"""Input files: when they may go, what a failure says of them, and the batch that begins anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import StaleFence, WrongState
from gemqueue.policy.quota import Limits
from gemqueue.records import Hold, Lane, Note
from gemqueue.states import BatchState, Step
from gemqueue.store.batches import JobEnd
from tests.store.test_quota import adds_up, submit
from tests.worlds.bench import ACCOUNT, LANE, bench, refused

if TYPE_CHECKING:
    from gemqueue.store.batches import Claim
    from tests.worlds.bench import Bench


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
