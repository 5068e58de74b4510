"""How outcomes land and batches come to their end: settle, requeue, close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import WrongState
from gemqueue.states import Step
from gemqueue.store import bitmap
from gemqueue.store.batches import JobEnd
from gemqueue_workers.stages.contents import BatchContents
from gemqueue_workers.stages.expected import Expected
from tests.worlds.bench import Bench, bench, body, landing, refused, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name, requeues_max=1) as made:
        yield made


async def test_settle_is_all_or_nothing(here: Bench) -> None:
    """One bit that is set already, in one segment of many, and nothing is written; the bitmaps say which."""
    a, b = await here.enqueue(9), await here.enqueue()
    claim = await here.ended()
    assert (await here.store.settle(claim, [landing(a, [8])]))[0] == "ok"
    before = await here.dump()
    dead = [("k", "l", "provider", "m", "body")]
    word, maps = await here.store.settle(claim, [landing(b, [0]), landing(a, [1, 8])], dead)
    assert (word, list(maps)) == ("conflict", [a])
    assert [i for i in range(9) if bitmap.has_bit(maps[a], i)] == [8]
    assert await here.dump() == before
    assert await here.store.settle(claim, [landing("00gone", [0])]) == ("unknown", {"00gone": b""})


async def test_settle_counts_what_lands(here: Bench) -> None:
    """Answers, failures, and those among the failures whose bodies were lost; what is refused counts for nothing."""
    a, b = await here.enqueue(9), await here.enqueue()
    claim = await here.ended()
    landings = [landing(a, range(6), failed=3, lost=2), landing(b, [0, 2], failed=2, lost=1)]
    assert (await here.store.settle(claim, landings))[0] == "ok"
    assert (await here.store.settle(claim, landings))[0] == "conflict"
    assert (await here.store.settle(claim, [landing(b, [1])]))[0] == "ok"
    found = await here.store.counts()
    assert (found["answered"], found["failed"], found["lost_prompts"]) == (4, 5, 3)


async def test_rows_of_what_is_settled_belong_to_the_batch(here: Bench) -> None:
    """Read again, rows of a segment that is closed, or forgotten, are settled; only keys of nobody are foreign."""
    done, gone, half = await here.enqueue(3), await here.enqueue(2), await here.enqueue(3)
    claim = await here.ended()
    for segment, lines in ((done, [0, 1, 2]), (gone, [0, 1]), (half, [1])):
        await here.store.settle(claim, [landing(segment, lines)])
    for what in ("segmeta", "settled", "outcomes"):
        await here.store.redis.unlink(here.store.key(what, gone))
    expected = Expected(await BatchContents.load(here.store, claim.id))
    keys = [f"{done}.2", f"{gone}.1", f"{half}.1", f"{half}.0", f"{done}.3", f"{done}.02", f"{half}.3", "00other.0", ""]
    arrivals = [str(expected.arrive(key)[0]) for key in keys]
    assert arrivals == ["settled"] * 3 + ["expected"] + ["foreign"] * 5
    assert sorted(expected.missing()) == [(half, 2)]


async def test_the_last_bit_puts_the_ttls(here: Bench) -> None:
    """Nothing of a segment has a TTL while a prompt is open, and everything has one when none is; its body goes."""
    segment = await here.enqueue()
    claim = await here.ended()
    await here.store.settle(claim, [landing(segment, [0, 2], b"one")])
    assert [await here.ttl(what, segment) for what in ("segmeta", "settled", "outcomes", "segment")] == [-1] * 4
    await here.store.settle(claim, [landing(segment, [1], b"two")])
    assert min([await here.ttl(what, segment) for what in ("segmeta", "settled", "outcomes")]) > 0
    assert await here.ttl("segment", segment) == -2
    assert await here.store.outcomes([(segment, 0), (segment, 1)], 9) == [[b"one", b"two"], [b"two"]]
    assert await here.store.outcome_counts([segment]) == [("closed", 2)]
    assert await here.live_bytes() == 6


async def test_retries_move_and_come_home(here: Bench) -> None:
    """Lines that went on into a retry segment are settled at their origin, wherever their body travelled."""
    segment = await here.enqueue(4)
    claim = await here.ended()
    await here.store.requeue(claim, retry("00r1", segment, [1, 3], delay_ms=30_000), body(2))
    assert await here.close(claim) == ("open", [segment])
    await here.store.settle(claim, [landing(segment, [0, 2])])
    assert await here.close(claim) == ("closed", [])
    assert [await here.ttl(what, segment) for what in ("segment", "moved")] == [-2, -2]
    assert (await here.store.lanes())[0].prompts == 0
    claim = await here.ended()
    contents = await BatchContents.load(here.store, claim.id)
    assert [source.meta.keys for source in contents.sources] == [(f"{segment}.1", f"{segment}.3")]
    await here.store.requeue(claim, retry("00r2", segment, [3], moves=[("00r1", bitmap.of([1], 2))]), body(1))
    await here.store.settle(claim, [landing(segment, [1])])
    assert await here.close(claim) == ("closed", [])
    claim = await here.ended()
    assert await here.ttl("segmeta", segment) == -1
    await here.store.settle(claim, [landing(segment, [3], failed=1)])
    assert await here.ttl("segmeta", segment) > 0
    assert await here.close(claim) == ("closed", [])
    assert await here.due() == []
    assert await here.live_bytes() == 3 * len(b"blob")


async def test_a_line_moves_once(here: Bench) -> None:
    """Lines that have moved cannot move again from the same segment, whatever the id."""
    segment = await here.enqueue()
    claim = await here.ended()
    await here.store.requeue(claim, retry("00r1", segment, [1]), body(1))
    await refused(lambda: here.store.requeue(claim, retry("00r2", segment, [1, 2]), body(2)), WrongState, here)


async def test_a_line_alone_gets_a_batch_of_its_own(here: Bench) -> None:
    """A refused line is sealed by itself and no longer belongs to the batch that it left."""
    segment = await here.enqueue()
    claim = await here.claim(Step.SUBMIT, await here.sealed())
    await here.store.requeue(claim, retry("00r1", segment, [1], new_batch="00bsolo", refusals=2), body(1))
    solo, left = await here.store.batch("00bsolo"), await BatchContents.load(here.store, claim.id)
    assert solo is not None
    assert (solo.state, solo.prompts, solo.solo, solo.refusals) == ("sealed", 1, 1, 2)
    assert [list(source.lines) for source in left.sources] == [[0, 2]]
    assert (await BatchContents.load(here.store, "00bsolo")).open_prompts() == 1


async def test_give_back_returns_what_is_open_so_often(here: Bench) -> None:
    """Segments of a job that came to nothing go back as they are, ``requeues_max`` times, then they are open."""
    done, half = await here.enqueue(), await here.enqueue()
    claim = await here.ended("expired")
    await here.store.settle(claim, [landing(done, [0, 1, 2]), landing(half, [0])])
    await here.store.requeue(claim, retry("00r1", half, [1], delay_ms=10_000_000), body(1))
    assert await here.close(claim, give_back=True) == ("closed", [])
    assert ((await here.store.lanes())[0].prompts, await here.ttl("segment", half)) == (3, -1)
    claim = await here.ended("expired")
    (source,) = (await BatchContents.load(here.store, claim.id)).sources
    assert (source.meta.id, list(source.lines), source.meta.requeues) == (half, [2], 1)
    assert await here.close(claim, give_back=True) == ("open", [half])
    await here.store.settle(claim, [landing(half, [2], failed=1)])
    assert await here.close(claim, give_back=True) == ("closed", [])
    assert (await here.store.counts())["returned"] == 3


async def test_big_batches_go_in_slices(here: Bench) -> None:
    """2,000 segments of one prompt are packed, split and given back a slice at a time; none is lost or doubled."""
    segments = {await here.enqueue(1) for _ in range(2000)}
    claim = await here.claim(Step.PACK)
    words = [(await here.store.pack(claim, "00b1", {}))[0] for _ in range(5)]
    assert words == ["packing"] * 4 + ["sealed"]
    await here.store.rest(claim)
    claim = await here.claim(Step.SUBMIT, "00b1")
    await here.store.split(claim, "00b2", 700, 1)
    first, second = await here.store.manifest("00b1"), await here.store.manifest("00b2")
    assert (len(first), len(second), set(first + second)) == (1500, 500, segments)
    await here.store.end(claim, JobEnd(job_state="failed"))
    claim = await here.claim(Step.RESOLVE, "00b1")
    assert await here.store.close(claim, give_back=True) == ("closing", [])
    claim = await here.claim(Step.RESOLVE, "00b1")  # the first one died between two slices
    assert await here.close(claim, give_back=True) == ("closed", [])
    assert (await here.store.lanes())[0].prompts == 1500
    assert await here.live_bytes() == 2000 * len(body(1))


async def test_a_retry_of_what_has_expired_is_not_bought(here: Bench) -> None:
    """A retry segment whose origin was settled, delivered and forgotten has nothing open, and its batch closes."""
    segment = await here.enqueue()
    claim = await here.ended()
    await here.store.requeue(claim, retry("00r1", segment, [1], delay_ms=1000), body(1))
    for index in range(3):
        await here.store.cancel(segment, index, b"cancelled %d" % index)
    assert await here.close(claim) == ("closed", [])
    await here.store.redis.delete(*[here.store.key(what, segment) for what in ("segmeta", "settled", "outcomes")])
    claim = await here.ended()
    assert (await BatchContents.load(here.store, claim.id)).open_prompts() == 0
    assert await here.close(claim) == ("closed", [])


async def test_what_expired_in_a_running_job_leaves_nothing(here: Bench) -> None:
    """A segment cancelled and forgotten before its job ends leaves no moved bits behind when the batch closes."""
    segment = await here.enqueue()
    claim = await here.ended()
    for index in range(3):
        await here.store.cancel(segment, index, b"cancelled %d" % index)
    await here.store.requeue(claim, retry("00r1", segment, [1]), body(1))  # it looked before the cancel
    await here.store.redis.delete(*[here.store.key(what, segment) for what in ("segmeta", "settled", "outcomes")])
    assert await here.close(claim) == ("closed", [])
    assert await here.ttl("moved", segment) == -2
    assert await here.close(await here.ended()) == ("closed", [])


async def test_the_dead_keep_their_bodies(here: Bench) -> None:
    """Prompts that fail through no fault of their own go to the dead letters with the outcome that settles them."""
    segment = await here.enqueue(1)
    claim = await here.ended()
    dead = [(f"{segment}.0", "l", "provider", "why", "b")]
    await here.store.settle(claim, [landing(segment, [0], failed=1)], dead)
    ((_, entry),) = await here.store.redis.xrange(here.store.key("dead"))
    assert entry == {
        b"key": f"{segment}.0".encode(),
        b"lane": b"l",
        b"kind": b"provider",
        b"message": b"why",
        b"body": b"b",
        b"size": b"229",
        b"tenant": b"default",
        b"priority": b"0",
        b"run": b"",
    }
