"""The quota ledger: reservations add up at every step, refusals shrink a ceiling, acceptances let it grow back."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemqueue.errors import StaleFence
from gemqueue.policy import holds
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Ledger, Limits, Resource
from gemqueue.records import Hold, Lane
from gemqueue.states import BatchState, Step
from gemqueue.store.batches import JobEnd
from tests.leaks import unowned_keys
from tests.policy.test_quota import OPEN
from tests.worlds.bench import ACCOUNT, LANE, bench

if TYPE_CHECKING:
    from gemqueue.store.batches import Claim
    from tests.valkey_server import ValkeyServer
    from tests.worlds.bench import Bench


async def adds_up(made: Bench) -> Ledger:
    """The ledger is exactly the sum of the batches that hold a reservation, and those are the ones that may."""
    found = await made.store.ledger(ACCOUNT)
    held = [one for one in found.reservations if one.until == 0]
    batches = [await made.store.batch(id_) for id_ in await made.store.open_batches()]
    records = {one.id: one for one in batches if one is not None}
    assert {one.batch: one.tokens for one in held} == {
        id_: one.reserved for id_, one in records.items() if one.reserved
    }
    for one in records.values():
        if one.state is BatchState.SUBMITTED and one.reserved == 0:
            raise AssertionError(f"{one.id} has a job and no reservation")
        assert one.reserved == 0 or one.state in {BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED}
    assert await unowned_keys(made.store.redis, made.settings.queue) == []
    return found


async def sealed(made: Bench, tokens: int) -> str:
    """A sealed batch of so many tokens."""
    await made.enqueue(3, tokens=tokens)
    made.advance(0.01)
    return await made.sealed()


async def reserved(made: Bench, tokens: int, limit: Limits = OPEN) -> tuple[Claim, QuotaHold | str]:
    """A sealed batch that has asked for room."""
    claim = await made.claim(Step.SUBMIT, await sealed(made, tokens))
    return claim, await made.store.reserve(claim, limit)


async def submit(made: Bench, claim: Claim) -> None:
    """Its job is created."""
    claim = await made.store.begin(claim, f"token-{claim.fence}", "files/f")
    await made.store.accept(claim, f"batches/{claim.id}", "created", 0)


async def finish(made: Bench, id_: str) -> None:
    """Its job ends."""
    await made.store.end(await made.claim(Step.TRACK, id_), JobEnd(job_state="succeeded"))


async def refuse(made: Bench, claim: Claim, limit: Limits = OPEN) -> tuple[float, int, bool]:
    """Its create is refused for quota."""
    claim = await made.store.begin(claim, f"token-{claim.fence}", "files/f")
    found = await made.store.shrink(claim, Resource.TOKENS, limit, None)
    await made.store.reopen(claim, f"token-{claim.fence}", delay_s=found[0], hold=Hold(text="quota"))
    return found


async def test_room_is_taken_and_given_back(redis_url: str, queue_name: str) -> None:
    """Reserving twice counts once; what finds no room waits in line, and is due as soon as a job has ended."""
    async with bench(redis_url, queue_name) as made:
        limit = Limits(jobs_max=10, tokens_max=1_000)
        first, word = await reserved(made, 700, limit)
        assert word == "ok"
        assert await made.store.reserve(first, limit) == "ok"
        assert (await adds_up(made)).tokens("m") == 700
        await submit(made, first)
        second, held = await reserved(made, 400, limit)
        assert held == QuotaHold(Resource.TOKENS, 700, 1_000, 300, False)
        await made.store.release(second, 300, hold=Hold(text="quota"))
        assert (await adds_up(made)).tokens("m") == 700
        assert await made.store.claim(Step.SUBMIT, second.id, ACCOUNT) is None
        await finish(made, first.id)
        taken = await made.store.claim(Step.SUBMIT, second.id, ACCOUNT)
        assert taken is not None
        assert await made.store.reserve(taken[0], limit) == "ok"
        assert (await adds_up(made)).tokens("m") == 400


async def test_open_jobs_are_the_accounts(redis_url: str, queue_name: str) -> None:
    """The limit on open jobs holds across models; a stale holder reserves nothing."""
    async with bench(redis_url, queue_name) as made:
        limit = Limits(jobs_max=1, tokens_max=1_000)
        first, word = await reserved(made, 10, limit)
        assert word == "ok"
        await submit(made, first)
        second, held = await reserved(made, 10, limit)
        assert isinstance(held, QuotaHold)
        assert held.resource is Resource.JOBS
        made.advance(61)
        again = await made.claim(Step.SUBMIT, second.id)
        with pytest.raises(StaleFence):
            await made.store.reserve(second, limit)
        assert isinstance(await made.store.reserve(again, limit), QuotaHold)


async def test_a_model_that_stalls_leaves_room_for_the_others(redis_url: str, queue_name: str) -> None:
    """One model gets its share of the open jobs and stands in a line of its own; another model's batch goes past it."""
    async with bench(redis_url, queue_name) as made:
        limit = Limits(jobs_max=3, tokens_max=1_000, model_jobs_max=2)
        jobs: list[Claim] = []
        for _ in range(2):
            claim, word = await reserved(made, 10, limit)
            assert word == "ok"
            await submit(made, claim)
            jobs.append(claim)
        waiting, held = await reserved(made, 10, limit)
        assert held == QuotaHold(Resource.MODEL_JOBS, 2, 2, 300, False)
        assert isinstance(held, QuotaHold)
        assert holds.why_no_room(held).text == "open jobs of the model: 2 of 2 in use"
        await made.store.release(waiting, 300, hold=Hold(text="quota"))
        lane = LANE.replace("/m/", "/quick/")
        await made.enqueue(1, tokens=10, lane=lane)
        made.advance(0.01)
        packing = await made.claim(Step.PACK, lane)
        quick = await made.pack_one(packing)
        await made.store.rest(packing)
        assert await made.store.reserve(await made.claim(Step.SUBMIT, quick), limit) == "ok"
        assert (await adds_up(made)).room("m", limit)[0] == 0
        await finish(made, jobs[0].id)
        taken = await made.store.claim(Step.SUBMIT, waiting.id, ACCOUNT)
        assert taken is not None
        assert await made.store.reserve(taken[0], limit) == "ok"


async def test_first_come_first_served(redis_url: str, queue_name: str) -> None:
    """A small batch does not slip past a large one that waits, or the large one would wait for ever."""
    async with bench(redis_url, queue_name) as made:
        limit = Limits(jobs_max=10, tokens_max=1_000)
        one, _ = await reserved(made, 300, limit)
        await submit(made, one)
        large, held = await reserved(made, 900, limit)
        assert isinstance(held, QuotaHold)
        await made.store.release(large, 300)
        small, held = await reserved(made, 100, limit)
        assert isinstance(held, QuotaHold)
        await made.store.release(small, 300)
        await finish(made, one.id)
        assert [member for member, _ in await made.store.overdue(ACCOUNT, [Step.SUBMIT])] == [f"submit {large.id}"]
        assert await made.store.reserve(await made.claim(Step.SUBMIT, large.id), limit) == "ok"
        assert await made.store.reserve(await made.claim(Step.SUBMIT, small.id), limit) == "ok"


async def test_a_batch_over_the_whole_limit_is_large(redis_url: str, queue_name: str) -> None:
    """It is to be divided, by the corrected count of its tokens."""
    async with bench(redis_url, queue_name) as made:
        _, word = await reserved(made, 600, Limits(10, 1_000))
        assert word == "ok"
        await made.store.learn_token_ratio(Lane.parse(LANE), 2.0)
        _, word = await reserved(made, 600, Limits(10, 1_000))
        assert word == "large"


async def test_a_refusal_shrinks_and_acceptance_grows(redis_url: str, queue_name: str) -> None:
    """The ceiling falls once for all that were under way; a hold, one probe, then room again; at last no correction."""
    async with bench(redis_url, queue_name) as made:
        jobs = [(await reserved(made, 100))[0] for _ in range(5)]
        for claim in jobs[:3]:
            await submit(made, claim)
        assert await refuse(made, jobs[3]) == (0.0, 1, False), "the ceiling is hold enough"
        assert (await refuse(made, jobs[4]))[1] == 1, "under way together: one refusal"
        found = await adds_up(made)
        assert found.corrections["tokens/m"].ceiling == 400
        claim, held = await reserved(made, 100)
        assert isinstance(held, QuotaHold)
        assert held.refused
        await made.store.release(claim, held.wait_s)
        made.advance(31)
        probe = await made.claim(Step.SUBMIT, jobs[3].id)
        assert await made.store.reserve(probe, OPEN) == "ok"
        other = await made.claim(Step.SUBMIT, jobs[4].id)
        assert isinstance(await made.store.reserve(other, OPEN), QuotaHold), "one probe at a time"
        await made.store.release(other, 300)
        await submit(made, probe)
        assert (await made.store.ledger(ACCOUNT)).corrections["tokens/m"].refusals == 0
        made.advance(600)
        await finish(made, probe.id)
        found = await adds_up(made)
        assert [one.until > 0 for one in found.reservations if one.batch == probe.id] == [True], "it cools off"
        for _ in range(100):
            await sealed(made, 100)
            await serve(made, OPEN)
            made.advance(61)
            if not (await adds_up(made)).corrections:
                break
        else:
            raise AssertionError("the correction has not gone")


async def serve(made: Bench, limit: Limits) -> None:
    """Every submit step that is due is carried on; jobs end at once."""
    for member, _ in await made.store.overdue(ACCOUNT, [Step.SUBMIT]):
        taken = await made.store.claim(Step.SUBMIT, member.split()[1], ACCOUNT)
        if taken is None:
            continue
        found = await made.store.reserve(taken[0], limit)
        if isinstance(found, QuotaHold):
            await made.store.release(taken[0], found.wait_s, hold=holds.why_no_room(found))
        else:
            await submit(made, taken[0])
            await finish(made, taken[0].id)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.sampled_from("nrgfbcs"), st.integers(0, 9)), max_size=40))
async def test_the_ledger_adds_up_at_every_step(valkey: ValkeyServer, steps: list[tuple[str, int]]) -> None:
    """Whatever happens to the batches, and however often, what is reserved is the sum of what is open."""
    limit = Limits(jobs_max=4, tokens_max=1_000)
    async with bench(valkey.url, f"q{secrets.token_hex(6)}") as made:
        for verb, pick in steps:
            await _step(made, verb, pick, limit)
            found = await adds_up(made)
            assert found.jobs <= limit.jobs_max
            assert found.tokens("m") <= limit.tokens_max or found.jobs == 1


async def _step(made: Bench, verb: str, pick: int, limit: Limits) -> None:
    if verb == "n":
        await sealed(made, 100 * (pick + 1))
        return
    if verb == "s":
        made.advance(7 * pick)
        return
    open_ = await made.store.open_batches()
    record = await made.store.batch(open_[pick % len(open_)]) if open_ else None
    if record is None:
        return
    step = Step.TRACK if record.state is BatchState.SUBMITTED else Step.SUBMIT
    taken = await made.store.claim(step, record.id, ACCOUNT)
    if taken is None:
        return
    claim = taken[0]
    if step is Step.TRACK:
        state = {"f": "failed", "c": "cancelled"}.get(verb, "succeeded")
        await made.store.end(claim, JobEnd(job_state=state))
    elif record.state is BatchState.SUBMITTING:
        await made.store.accept(claim, f"batches/{record.id}", "adopted", 0)
    else:
        await _submit_somehow(made, claim, verb, limit)


async def _submit_somehow(made: Bench, claim: Claim, verb: str, limit: Limits) -> None:
    found = await made.store.reserve(claim, limit)
    if isinstance(found, QuotaHold):
        await made.store.release(claim, found.wait_s, hold=holds.why_no_room(found))
    elif verb == "r":
        await refuse(made, claim, limit)
    elif verb == "b":
        await made.store.release(claim, 1.0, hold=Hold(text="upload failed"))
    elif verb == "f":
        await made.store.end(claim, JobEnd(job_state="refused"))
    elif verb == "c":
        await made.store.begin(claim, f"token-{claim.fence}", "files/f")
    else:
        await submit(made, claim)
