"""What events do in the store: they hasten a look, each once, and prove to each lane whether they can be relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.ids import new_batch_id
from gemqueue.policy.job_names import batch_of, job_token
from gemqueue.records import Lane, WebhookHealth
from gemqueue.states import Step
from gemqueue.store.batches import JobEnd
from tests.valkey_server import ValkeyServer
from tests.worlds.bench import ACCOUNT, LANE, bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gemqueue.store.batches import Claim
    from tests.worlds.bench import Bench

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def made(redis_url: str, queue_name: str) -> AsyncIterator[Bench]:
    async with bench(redis_url, queue_name) as bench_:
        yield bench_


async def submitting(made: Bench) -> tuple[Claim, str]:
    """A batch whose create is under way, and the intent's token."""
    await made.enqueue()
    claim = await made.claim(Step.SUBMIT, await made.sealed())
    token = job_token("", claim.id, claim.fence)
    return await made.store.begin(claim, token, "files/f"), token


async def submitted(made: Bench) -> tuple[str, str]:
    """A batch with a job that is looked at in an hour, and the job."""
    claim, _ = await submitting(made)
    job = f"batches/{claim.id}"
    await made.store.accept(claim, job, "created", 3600)
    return claim.id, job


async def due_in_s(made: Bench, member: str) -> float:
    score: float = await made.store.redis.zscore(made.store.key("due", ACCOUNT), member)
    return (score - made.clock.now_ms()) / 1000


async def end(made: Bench, batch: str, state: str = "succeeded") -> None:
    made.advance(3600)
    await made.store.end(await made.claim(Step.TRACK, batch), JobEnd(job_state=state))


async def test_an_event_makes_the_next_look_due(made: Bench) -> None:
    """By the job's name alone, as a registered hook tells it: the track step is due now, and nothing else changes."""
    batch, job = await submitted(made)
    assert await due_in_s(made, f"track {batch}") == 3600
    assert await made.store.announce("msg_1", job, "") == ("track", batch)
    assert await due_in_s(made, f"track {batch}") == 0
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.event_at) == ("submitted", made.clock.now_ms())


async def test_an_event_is_heard_once(made: Bench) -> None:
    """The same id again does nothing, for longer than the provider keeps trying; a TTL ends it."""
    batch, job = await submitted(made)
    await made.store.announce("msg_1", job, "")
    claim = await made.claim(Step.TRACK, batch)
    await made.store.release(claim, 500)
    assert await made.store.announce("msg_1", job, "") == ("double", "")
    assert await due_in_s(made, f"track {batch}") == 500
    assert 24 * 3600 < await made.ttl("heard", "msg_1") <= 25 * 3600
    assert {name: n for name, n in (await made.store.counts()).items() if "event" in name} == {
        "events": 1,
        "events_doubled": 1,
    }


async def test_under_a_lease_the_holder_looks_again(made: Bench) -> None:
    """An event during a look is not lost: the step is due as soon as the holder lets go."""
    batch, job = await submitted(made)
    made.advance(3600)
    claim = await made.claim(Step.TRACK, batch)
    assert await made.store.announce("msg_1", job, "") == ("track", batch)
    await made.store.release(claim, 500)
    assert await due_in_s(made, f"track {batch}") == 0


async def test_an_event_may_overtake_our_record(made: Bench) -> None:
    """A job that no batch has is remembered for a while, and its first look is due as soon as it is accepted."""
    claim, _ = await submitting(made)
    assert await made.store.announce("msg_1", "batches/j", "") == ("early", "")
    assert 0 < await made.ttl("early", "batches/j") <= 600
    await made.store.accept(claim, "batches/j", "created", 3600)
    assert await due_in_s(made, f"track {claim.id}") == 0
    assert await made.ttl("early", "batches/j") == -2


async def test_an_event_names_the_job_of_a_create_under_way(made: Bench) -> None:
    """With the intent's token it is written down, and the first look after ``accept`` is due at once."""
    claim, token = await submitting(made)
    assert await made.store.announce("msg_1", "batches/j", token) == ("submit", claim.id)
    record = await made.store.batch(claim.id)
    assert record is not None
    assert (record.event_job, record.job) == ("batches/j", "")
    await made.store.accept(claim, "batches/j", "created", 3600)
    assert await due_in_s(made, f"track {claim.id}") == 0


@pytest.mark.parametrize("before", [True, False])
async def test_an_event_hastens_a_batch_in_doubt(made: Bench, before: bool) -> None:
    """Before or after the fence was written: the submit step is due now instead of after ``settle_s``."""
    claim, token = await submitting(made)
    if before:
        await made.store.announce("msg_1", "batches/j", token)
        await made.store.fence(claim, 90)
    else:
        await made.store.fence(claim, 90)
        assert await due_in_s(made, f"submit {claim.id}") == 90
        await made.store.announce("msg_1", "batches/j", token)
    assert await due_in_s(made, f"submit {claim.id}") == 0


async def test_an_event_of_an_intent_that_was_given_up_is_stray(made: Bench) -> None:
    """It hastens nothing and names no job: it is counted, because that job was bought beside ours."""
    claim, token = await submitting(made)
    await made.store.reopen(claim, token)
    assert await made.store.announce("msg_1", "batches/j", token) == ("stray", claim.id)
    made.advance(60)
    again = await made.store.begin(await made.claim(Step.SUBMIT, claim.id), job_token("", claim.id, 99), "files/g")
    assert await made.store.announce("msg_2", "batches/j", token) == ("stray", claim.id)
    record = await made.store.batch(again.id)
    assert record is not None
    assert (record.event_job, record.event_at) == ("", 0)
    assert (await made.store.counts())["events_stray"] == 2


async def test_a_new_intent_forgets_the_event_of_the_old_one(made: Bench) -> None:
    """What an event said of one intent is not believed of the next."""
    claim, token = await submitting(made)
    await made.store.announce("msg_1", "batches/j", token)
    await made.store.reopen(claim, token)
    await made.store.begin(claim, job_token("", claim.id, 99), "files/g")
    record = await made.store.batch(claim.id)
    assert record is not None
    assert (record.event_job, record.event_at) == ("", 0)


async def test_ends_that_were_told_first_prove_a_lane(made: Bench) -> None:
    """Each end with an event before it counts up, a cancelled one not at all, and one without begins anew."""
    for number in range(3):
        batch, job = await submitted(made)
        await made.store.announce(f"msg_{number}", job, "")
        await end(made, batch)
        assert (await made.store.webhook_health(Lane.parse(LANE))).announced == number + 1
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced_at > 0
    batch, _ = await submitted(made)
    await end(made, batch, "cancelled")
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced == 3
    batch, _ = await submitted(made)
    await end(made, batch, "expired")
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced == 0


async def test_an_event_just_after_a_look_is_no_fault(made: Bench) -> None:
    """Within a minute of the end it counts as told, once; later it does not."""
    batch, job = await submitted(made)
    await end(made, batch)
    made.advance(60)
    assert await made.store.announce("msg_1", job, "") == ("late", batch)
    assert await made.store.announce("msg_2", job, "") == ("late", batch)
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced == 1
    batch, job = await submitted(made)
    await end(made, batch)
    made.advance(61)
    await made.store.announce("msg_3", job, "")
    assert (await made.store.webhook_health(Lane.parse(LANE))).announced == 0


async def test_a_lane_without_webhooks_has_no_health(made: Bench) -> None:
    """Nothing is written for those who do not use them."""
    batch, _ = await submitted(made)
    await end(made, batch)
    assert await made.store.webhook_health(Lane.parse(LANE)) == WebhookHealth()
    assert await made.store.redis.hmget(made.store.key("lane", LANE), "announced", "announced_at") == [None, None]


async def test_an_event_works_on_a_full_server() -> None:
    """Hearing an event is part of what drains a server that takes no more."""
    with ValkeyServer() as server:
        async with bench(server.url, "full") as made:
            batch, job = await submitted(made)
            await made.store.redis.config_set("maxmemory", 1)
            assert await made.store.announce("msg_1", job, "") == ("track", batch)


def test_tokens_name_their_batch() -> None:
    """A token says which batch it is of; whatever else is no token."""
    batch = new_batch_id()
    assert batch_of(job_token("", batch, 7)) == batch
    for text in (
        "",
        "gq-",
        batch,
        f"gq-{batch}",
        f"gq-{batch}-x",
        f"gq-{batch[:-1]}-1",
        f"gq-{batch}-1 ",
        f"gq-*{batch[1:]}-1",
    ):
        assert batch_of(text) == ""
