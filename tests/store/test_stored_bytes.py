"""Bytes of stored input files as a resource of the quota ledger: what would pass the bound waits, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy.holds import QuotaHold, why_no_room
from gemqueue.policy.quota import Limits, Resource
from gemqueue.records import Hold, Note
from gemqueue.states import Step
from gemqueue.store.batches import JobEnd
from tests.store.test_quota import adds_up, submit
from tests.worlds.bench import ACCOUNT, bench

if TYPE_CHECKING:
    from gemqueue.store.batches import Claim
    from tests.worlds.bench import Bench


async def reserved(made: Bench, size: int, limits: Limits) -> tuple[Claim, QuotaHold | str]:
    """A batch of so many bytes that asks for room."""
    await made.enqueue(1, raw_bytes=size)
    made.advance(0.01)
    claim = await made.claim(Step.SUBMIT, await made.sealed())
    return claim, await made.store.reserve(claim, limits)


async def test_stored_bytes_are_a_resource(redis_url: str, queue_name: str) -> None:
    """What would pass the bound waits in line and says why; it is due when an end or a deletion makes room."""
    async with bench(redis_url, queue_name) as made:
        limits = Limits(100, 10**6, stored_bytes_max=1_000)
        jobs: list[Claim] = []
        for size in (600, 400):
            claim, word = await reserved(made, size, limits)
            assert word == "ok"
            await submit(made, claim)
            jobs.append(claim)
        large, held = await reserved(made, 500, limits)
        assert held == QuotaHold(Resource.STORED_BYTES, 1_000, 1_000, 300, refused=False)
        assert isinstance(held, QuotaHold)
        said = "bytes of stored input files (stored_bytes_max): 1,000 of 1,000 in use"
        assert why_no_room(held).text == said
        await made.store.release(large, held.wait_s, hold=Hold(text=said))
        await adds_up(made)
        await made.store.end(await made.claim(Step.TRACK, jobs[1].id), JobEnd(job_state="succeeded"))
        taken = await made.store.claim(Step.SUBMIT, large.id, ACCOUNT)
        assert taken is not None, "an end wakes the first in line"
        assert isinstance(await made.store.reserve(taken[0], limits), QuotaHold)
        small, held = await reserved(made, 10, limits)
        assert isinstance(held, QuotaHold), "a small one does not slip past"
        await made.store.release(taken[0], 300, hold=Hold(text=said))
        await made.store.release(small, 300, hold=Hold(text=said))
        tracking = await made.claim(Step.TRACK, jobs[0].id)
        assert await made.store.claim(Step.SUBMIT, large.id, ACCOUNT) is None
        await made.store.release(tracking, 5, Note(input_file=""))
        taken = await made.store.claim(Step.SUBMIT, large.id, ACCOUNT)
        assert taken is not None, "a deletion does, too"
        assert await made.store.reserve(taken[0], limits) == "ok"
        assert await made.store.reserve(await made.claim(Step.SUBMIT, small.id), limits) == "ok"
        await adds_up(made)


async def test_what_is_alone_goes_however_large(redis_url: str, queue_name: str) -> None:
    """A batch over the whole bound waits for the others, not for ever; asking again changes nothing."""
    async with bench(redis_url, queue_name) as made:
        limits = Limits(100, 10**6, stored_bytes_max=1_000)
        claim, word = await reserved(made, 5_000, limits)
        assert (word, await made.store.reserve(claim, limits)) == ("ok", "ok")
        await submit(made, claim)
        other, held = await reserved(made, 10, limits)
        assert isinstance(held, QuotaHold)
        await made.store.release(other, 300)
        await made.store.end(await made.claim(Step.TRACK, claim.id), JobEnd(job_state="succeeded"))
        assert await made.store.reserve(await made.claim(Step.SUBMIT, other.id), limits) == "ok"


async def test_entries_of_0_2_0_count_by_their_records(redis_url: str, queue_name: str) -> None:
    """The ledger's entries hold no bytes, as before; a record whose file was deleted at RUNNING counts nothing."""
    async with bench(redis_url, queue_name) as made:
        limits = Limits(100, 10**6, stored_bytes_max=1_000)
        claim, _ = await reserved(made, 900, limits)
        await submit(made, claim)
        entry = await made.store.redis.hget(made.store.key("reserved", ACCOUNT), claim.id)
        assert entry == b"1 0 m"
        waiting, held = await reserved(made, 200, limits)
        assert isinstance(held, QuotaHold)
        await made.store.release(waiting, 300)
        await made.store.redis.hset(made.store.key("batch", claim.id), "input_file", "")
        made.advance(300)
        assert await made.store.reserve(await made.claim(Step.SUBMIT, waiting.id), limits) == "ok"
