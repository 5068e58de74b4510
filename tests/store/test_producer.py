"""The producer's transitions: enqueue, names, cancel, watch, deliver, and what they do when memory ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.ids import new_segment_id
from gemqueue.states import Step
from gemqueue.store import bitmap
from gemqueue.store.batches import JobEnd
from gemqueue.store.scripts import ServerFull
from tests.valkey_server import ValkeyServer
from tests.worlds.bench import ACCOUNT, LANE, PRODUCER, Bench, bench, body, landing, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        yield made


async def test_enqueue_registers_once(here: Bench) -> None:
    """However often a segment is enqueued, it is there once: one body, one count, one place in the lane."""
    id_ = new_segment_id()
    assert (await here.write(id_)).word == "ok"
    before = await here.dump()
    assert (await here.write(id_)).word == "ok"
    assert await here.dump() == before
    assert (await here.store.lanes())[0].prompts == 3
    assert await here.ttl("segment", id_) == -1


async def test_a_payload_that_comes_late_is_dropped(here: Bench) -> None:
    """A producer that asks again when its segment is closed already is told ok, and its payload goes."""
    id_ = await here.enqueue()
    await here.closed([id_])
    assert (await here.write(id_)).word == "ok"
    assert await here.ttl("segment", id_) == -2
    assert (await here.store.counts())["accepted"] == 3


async def test_a_payload_that_is_gone_is_asked_for(here: Bench) -> None:
    """Where the payload has not come or has expired, nothing is registered and the producer must send it again."""
    id_ = new_segment_id()
    await here.store.redis.set(here.store.key("segment", id_), b"", ex=60)  # as if it had gone in between
    before = await here.dump()
    assert (await here.write(id_)).word == "resend"
    assert await here.dump() == before


async def test_taken_names_write_nothing(here: Bench) -> None:
    """Is one name of a segment taken, nothing of it is written, and the caller learns whose the name is."""
    first = await here.enqueue(names=[(1, "doc-1", "d1")])
    before = await here.dump()
    answer = await here.write(new_segment_id(), names=[(0, "doc-0", "d0"), (2, "doc-1", "d2")])
    assert (answer.word, answer.taken) == ("taken", {2: (f"{first}.1", "d1", True)})
    assert await here.dump() == before
    assert await here.store.named(ACCOUNT, "doc-1") == (f"{first}.1", "d1")
    assert await here.store.named(ACCOUNT, "doc-0") is None


async def test_names_live_as_long_as_their_outcome(here: Bench) -> None:
    """A name has no TTL while its prompt is open, and its outcome's afterwards, whatever was delivered."""
    id_ = await here.enqueue(names=[(0, "doc", "d")])
    assert await here.ttl("name", ACCOUNT, "doc") == -1
    await here.closed([id_])
    await here.store.deliver([id_])
    for key in (("name", ACCOUNT, "doc"), ("segmeta", id_), ("outcomes", id_), ("names", id_)):
        assert await here.ttl(*key) > here.settings.keep_delivered_s, key


async def test_memory_is_bounded_and_comes_back(redis_url: str, queue_name: str) -> None:
    """Over ``memory_bytes_max`` a segment is refused; bodies count, then outcomes, until they expire."""
    size = len(body(3))
    async with bench(redis_url, queue_name, memory_bytes_max=size + 5) as here:
        id_ = await here.enqueue()
        assert await here.live_bytes() == size
        late = new_segment_id()
        assert (await here.write(late)).word == "full"
        await here.closed([id_])
        assert await here.live_bytes() == len(b"blob")
        assert (await here.write(late)).word == "ok"
        here.advance(here.settings.keep_outcome_s + 1)
        await here.store.deliver(["00none"])
        assert await here.live_bytes() == size


async def test_cancel_settles_wherever_the_prompt_is(here: Bench) -> None:
    """In every state of its batch a prompt is settled as cancelled, and cancel says where it was."""
    segment = await here.enqueue(9)

    async def cancel(index: int) -> str:
        return await here.store.cancel(segment, index, b"cancelled %d" % index)

    assert await cancel(0) == "pending"
    claim = await here.claim(Step.PACK)
    batch = await here.pack_one(claim)
    await here.store.rest(claim)
    assert await cancel(1) == "sealed"
    submit = await here.claim(Step.SUBMIT, batch)
    await here.store.begin(submit, "token", "file")
    assert await cancel(2) == "submitting"
    await here.store.accept(submit, "job", "created", 0)
    assert await cancel(3) == "submitted"
    track = await here.claim(Step.TRACK, batch)
    await here.store.end(track, JobEnd(job_state="succeeded"))
    assert await cancel(4) == "ended"
    resolve = await here.claim(Step.RESOLVE, batch)
    await here.store.requeue(resolve, retry("00r", segment, [5]), body(1))
    answered = await here.store.settle(resolve, [landing(segment, [4, 6, 7, 8])])
    assert (answered[0], bitmap.has_bit(answered[1][segment], 4)) == ("conflict", True)
    await here.store.settle(resolve, [landing(segment, [6, 7, 8])])
    assert await here.close(resolve) == ("closed", [])
    assert await cancel(5) == "closed"
    assert await cancel(6) == "settled"
    assert await here.ttl("segmeta", segment) > 0
    assert (await here.store.counts())["cancelled"] == 6
    assert await here.store.cancel("00r", 0, b"x") == "unknown"
    assert await here.store.cancel(segment, 9, b"x") == "unknown"
    await here.closed([])  # the retry segment has nothing open


async def test_cancel_may_be_asked_again(here: Bench) -> None:
    """After a lost reply the same cancel says the same, once counted; of a prompt that was answered it says settled."""
    segment = await here.enqueue()
    for _ in range(2):
        assert await here.store.cancel(segment, 1, b"cancelled") == "pending"
    assert (await here.store.counts())["cancelled"] == 1
    assert await here.store.cancel(segment, 1, b"another") == "settled"


async def test_a_segment_that_is_cancelled_before_it_is_packed_leaves_nothing(here: Bench) -> None:
    """All its prompts cancelled while they wait: no batch is made of it, and the lane is empty afterwards."""
    segment = await here.enqueue()
    for index in range(3):
        await here.store.cancel(segment, index, b"cancelled %d" % index)
    assert await here.ttl("segment", segment) == -2
    assert await here.sealed() == ""
    lane = (await here.store.lanes())[0]
    assert (lane.prompts, lane.segments, lane.raw_bytes, lane.tokens) == (0, 0, 0, 0)
    assert await here.due() == []


async def test_a_lane_heals_when_what_it_counted_is_gone(here: Bench) -> None:
    """Records that expired while they were pending do not keep the lane due for ever."""
    segment = await here.enqueue()
    for index in range(3):
        await here.store.cancel(segment, index, b"cancelled %d" % index)
    await here.store.redis.delete(here.store.key("segmeta", segment))
    assert await here.sealed() == ""
    assert (await here.store.lanes())[0].prompts == 0
    assert await here.due() == []


async def test_watched_segments_notify_and_are_kept(here: Bench) -> None:
    """A watcher gets the notices too, and what is watched is not shortened by somebody else's delivery."""
    segment, plain = await here.enqueue(), await here.enqueue()
    for producer in (PRODUCER, "00p2"):
        await here.store.open_inbox(producer)
    watched = await here.store.watch(segment, "00p2")
    assert watched is not None
    assert (watched.state, watched.count, str(watched.lane)) == ("live", 3, LANE)
    assert await here.store.watch("00none", "00p2") is None
    await here.closed([segment, plain])
    assert (await here.store.read_inbox("00p2", "0", 1))[1] == [segment]
    assert set((await here.store.read_inbox(PRODUCER, "0", 1))[1]) == {segment, plain}
    await here.store.deliver([segment, plain, "00none"])
    assert await here.ttl("outcomes", segment) > here.settings.keep_delivered_s
    assert 0 < await here.ttl("outcomes", plain) <= here.settings.keep_delivered_s
    late = await here.store.watch(plain, "00p2")
    assert late is not None
    assert late.state == "closed"


async def test_what_somebody_has_the_key_of_stays_while_there_is_room(redis_url: str, queue_name: str) -> None:
    """Taken outcomes whose keys are known go sooner only where the queue takes more than a quarter of its memory."""
    async with bench(redis_url, queue_name, memory_bytes_max=4_000) as here:
        first, second = await here.enqueue(), await here.enqueue()
        claim = await here.ended()
        await here.store.settle(claim, [landing(first, range(3), b"x" * 600)])
        await here.store.deliver([first], keyed=True)
        assert await here.ttl("outcomes", first) > here.settings.keep_delivered_s
        await here.store.settle(claim, [landing(second, range(3), b"x" * 600)])
        await here.store.deliver([second], keyed=True)
        assert 0 < await here.ttl("outcomes", second) <= here.settings.keep_delivered_s
        await here.store.deliver([first])
        assert 0 < await here.ttl("outcomes", first) <= here.settings.keep_delivered_s
        await here.close(claim)


async def test_what_is_open_is_not_delivered(here: Bench) -> None:
    """A segment with an open prompt keeps everything, whatever its producer says."""
    segment = await here.enqueue()
    await here.store.cancel(segment, 0, b"cancelled")
    await here.store.deliver([segment])
    assert await here.ttl("outcomes", segment) == -1


async def test_notices_do_not_make_an_inbox(here: Bench) -> None:
    """Outcomes of a producer that has gone leave no stream behind."""
    await here.closed([await here.enqueue()])
    assert await here.ttl("inbox", PRODUCER) == -2


async def test_scripts_survive_a_flush(here: Bench) -> None:
    """A server that has forgotten the scripts is sent their text again, enqueue's pipeline included."""
    await here.store.redis.script_flush()
    segment = await here.enqueue()
    await here.store.redis.script_flush()
    assert await here.store.cancel(segment, 0, b"cancelled") == "pending"


async def test_a_full_server_takes_nothing_in_and_still_drains() -> None:
    """At ``maxmemory`` enqueue is ServerFull, while every step of what is under way goes on to its end."""
    with ValkeyServer() as server:
        async with bench(server.url, "full") as here:
            segment, other = await here.enqueue(), await here.enqueue(priority=-1)
            await here.store.redis.config_set("maxmemory", 1)
            with pytest.raises(ServerFull):
                await here.write(new_segment_id())
            assert await here.store.watch(segment, "00p2") is not None
            assert await here.store.cancel(other, 0, b"cancelled") == "pending"
            resolve = await here.ended()
            await here.store.requeue(resolve, retry("00r", segment, [2], delay_ms=1000), body(1))
            landings = [landing(segment, [0, 1]), landing(other, [1, 2])]
            assert (await here.store.settle(resolve, landings))[0] == "ok"
            assert await here.close(resolve) == ("closed", [])
            resolve = await here.ended("expired")
            assert await here.close(resolve, give_back=True) == ("closed", [])
            submit = await here.submitting()
            await here.store.fence(submit, 1.0)
            submit = await here.claim(Step.SUBMIT, submit.id)
            await here.store.reopen(submit, "token-1")
            await here.store.release(await here.store.renew(submit), 0.0)
            assert await here.store.hasten(Step.SUBMIT, submit.id, ACCOUNT)
            submit = await here.claim(Step.SUBMIT, submit.id)
            await here.store.end(submit, JobEnd(job_state="empty"))
            resolve = await here.claim(Step.RESOLVE, submit.id)
            assert (await here.store.settle(resolve, [landing(segment, [2])]))[0] == "ok"
            assert await here.close(resolve) == ("closed", [])
            await here.store.deliver([segment])
            assert (await here.store.counts())["answered"] == 5
