"""A batch's transitions: each from its state, under its fence, once; asked again it changes nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.errors import StaleFence, StoreError, WrongState
from gemqueue.ids import new_batch_id
from gemqueue.records import Hold, Note
from gemqueue.states import STEP_OF, TRANSITIONS, BatchState, Cause, Step
from gemqueue.store.batches import Claim, JobEnd
from gemqueue.store.operations import Rebuild
from gemqueue.store.scripts import ServerRefuses
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench, body, landing, refused, retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        yield made


VERBS: dict[str, Callable[[Bench, Claim, str], Awaitable[object]]] = {
    "split": lambda here, claim, _: here.store.split(claim, "00bnew", 1, 1),
    "begin": lambda here, claim, _: here.store.begin(claim, "another token", "files/g"),
    "accept": lambda here, claim, _: here.store.accept(claim, "batches/another", "created", 0),
    "fence": lambda here, claim, _: here.store.fence(claim, 1),
    "reopen": lambda here, claim, _: here.store.reopen(claim, "token-1"),
    "end": lambda here, claim, _: here.store.end(claim, JobEnd(job_state="succeeded")),
    "settle": lambda here, claim, segment: here.store.settle(claim, [landing(segment, [0])]),
    "requeue": lambda here, claim, segment: here.store.requeue(claim, retry("00r", segment, [0]), body(1)),
    "close": lambda here, claim, _: here.store.close(claim, give_back=False),
}


async def _bring(here: Bench, state: BatchState) -> Claim:
    """A batch of two segments in this state, claimed."""
    if state is BatchState.SEALED:
        return await here.claim(Step.SUBMIT, await here.sealed())
    if state is BatchState.SUBMITTING:
        return await here.submitting()
    if state is BatchState.SUBMITTED:
        return await here.claim(Step.TRACK, await here.submitted())
    return await here.ended()


@pytest.mark.parametrize("state", [BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.ENDED])
async def test_only_what_the_table_says_can_happen(here: Bench, state: BatchState) -> None:
    """Every verb that TRANSITIONS does not have for a state is refused there and writes nothing."""
    segments = [await here.enqueue(), await here.enqueue()]
    claim = await _bring(here, state)
    done_already = {(BatchState.SEALED, "reopen"), (BatchState.ENDED, "end")}
    allowed = {verb for start, verb, _ in TRANSITIONS if start is state}
    for verb, call in VERBS.items():
        if verb in allowed:
            continue
        if (state, verb) in done_already:
            before = await here.dump()
            await call(here, claim, segments[0])
            assert await here.dump() == before, verb
        else:
            await refused(partial(call, here, claim, segments[0]), WrongState, here)


@pytest.mark.parametrize("verb", VERBS)
async def test_whoever_was_overtaken_changes_nothing(here: Bench, verb: str) -> None:
    """After another claim of the step, every verb of the first holder is StaleFence, renew and release included."""
    segments = [await here.enqueue(), await here.enqueue()]
    state = next(start for start, name, _ in TRANSITIONS if name == verb and start is not BatchState.PACKING)
    old = await _bring(here, state)
    new = await here.claim(old.step, old.id)
    assert new.fence == old.fence + 1
    await refused(lambda: VERBS[verb](here, old, segments[0]), StaleFence, here)
    await refused(lambda: here.store.renew(old), StaleFence, here)
    await refused(lambda: here.store.release(old, 1.0), StaleFence, here)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_may_be_repeated(here: Bench, verb: str) -> None:
    """A call whose reply was lost is sent again: it raises nothing that stops the holder, and writes nothing twice."""
    segments = [await here.enqueue(), await here.enqueue()]
    state = next(start for start, name, _ in TRANSITIONS if name == verb and start is not BatchState.PACKING)
    claim = await _bring(here, state)
    call = VERBS[verb]
    if verb == "close":
        await here.store.settle(claim, [landing(segment, [0, 1, 2]) for segment in segments])
    first: Any = await call(here, claim, segments[0])
    before = await here.dump()
    again: Any = await call(here, claim, segments[0])
    assert await here.dump() == before
    if verb == "settle":  # the rows are there: that is what the bitmaps say
        assert (first[0], again[0], again[1][segments[0]]) == ("ok", "conflict", b"\x80")


async def test_steps_follow_the_states(here: Bench) -> None:
    """In every state exactly the step of STEP_OF stands in the due index, and none when the batch is closed."""
    segments = [await here.enqueue(), await here.enqueue()]
    claim = await here.claim(Step.PACK)
    batch = await here.pack_one(claim)
    assert set(await here.due()) == {f"pack {LANE}", f"submit {batch}"}
    await here.store.rest(claim)

    async def holds(state: BatchState) -> None:
        step = STEP_OF[state]
        assert await here.state(batch) == state
        assert await here.due() == ([f"{step} {batch}"] if step else [])

    await holds(BatchState.SEALED)
    claim = await here.claim(Step.SUBMIT, batch)
    claim = await here.store.begin(claim, "token", "files/f")
    await holds(BatchState.SUBMITTING)
    await here.store.accept(claim, "batches/1", "created", 0)
    await holds(BatchState.SUBMITTED)
    claim = await here.claim(Step.TRACK, batch)
    await here.store.end(claim, JobEnd(job_state="succeeded"))
    await holds(BatchState.ENDED)
    claim = await here.claim(Step.RESOLVE, batch)
    await here.store.settle(claim, [landing(segment, [0, 1, 2]) for segment in segments])
    await here.close(claim)
    await holds(BatchState.CLOSED)
    assert await here.store.open_batches() == []
    assert await here.live_bytes() == 2 * len(b"blob")


async def test_a_holder_that_has_let_go_brings_nothing_back(here: Bench) -> None:
    """A renewal or a release that comes after the transition that moved the step on does not put the old step back."""
    await here.enqueue()
    submit = await here.submitting()
    await here.store.accept(submit, "batches/1", "created", 5)
    before = await here.dump()
    await here.store.renew(submit)
    await here.store.release(submit, 0.0, hold=Hold(text="too late"))
    assert await here.dump() == before


async def test_a_closed_batch_is_not_claimed_again(here: Bench) -> None:
    """The lease of a resolver that still cleans up at the provider does not revive the batch."""
    segment = await here.enqueue()
    resolve = await here.ended()
    await here.store.settle(resolve, [landing(segment, [0, 1, 2])])
    await here.close(resolve)
    await here.store.renew(resolve)
    await here.store.release(resolve, 0.0)
    assert await here.due() == []


async def test_begin_needs_its_lease(here: Bench) -> None:
    """An intent is not written after the lease has run out, even where nobody has claimed since."""
    await here.enqueue()
    claim = await here.claim(Step.SUBMIT, await here.sealed())
    here.advance(here.settings.lease_s + 1)
    await refused(lambda: here.store.begin(claim, "token", "files/f"), StaleFence, here)
    claim = await here.store.renew(claim)
    await here.store.begin(claim, "token", "files/f")


async def test_a_late_copy_of_reopen_leaves_the_next_intent_alone(here: Bench) -> None:
    """Of a call that was sent again, one copy may arrive after the holder's next begin: that create is in flight."""
    await here.enqueue()
    claim = await here.submitting()
    await here.store.reopen(claim, "token-1")
    await here.store.begin(claim, "token-b", "files/g")
    await refused(lambda: here.store.reopen(claim, "token-1"), WrongState, here)
    await here.store.accept(claim, "batches/b", "created", 0)


async def test_a_dead_intent_leaves_its_token(here: Bench) -> None:
    """Fence keeps its first time, reopen clears the intent and remembers the token; a job may then be begun anew."""
    await here.enqueue()
    claim = await here.submitting()
    await here.store.fence(claim, 5.0)
    first = await here.store.batch(claim.id)
    claim = await here.claim(Step.SUBMIT, claim.id)
    await here.store.fence(claim, 5.0)
    again = await here.store.batch(claim.id)
    assert first is not None
    assert again is not None
    assert first.fenced_at == again.fenced_at > 0
    claim = await here.claim(Step.SUBMIT, claim.id)
    await here.store.reopen(claim, "token-1")
    await here.store.begin(claim, "token-b", "files/g")
    await here.store.reopen(claim, "token-b", Note(denied_creates=3), delay_s=7.0, hold=Hold(Cause.QUOTA, "quota"))
    record = await here.store.batch(claim.id)
    assert record is not None
    assert (record.past_tokens, record.held_cause, record.held_reason) == ("token-1 token-b", "quota", "quota")
    assert record.lease_until == 0
    assert (record.tries, record.denied_creates) == (2, 3)
    assert (await here.store.counts())["fenced"] == 1


async def test_adopting_and_creating_are_counted(here: Bench) -> None:
    """``created`` and ``adopted`` count jobs, ``submitted`` their prompts; a second job for a batch is refused."""
    await here.enqueue()
    claim = await here.submitting()
    await here.store.accept(claim, "batches/1", "adopted", 0)
    await refused(lambda: here.store.accept(claim, "batches/2", "created", 0), WrongState, here)
    counts = await here.store.counts()
    assert (counts["adopted"], counts["submitted"]) == (1, 3)
    assert "created" not in counts


@pytest.mark.parametrize(("field", "value"), [("lane", "a/m/paint/batch"), ("lane", "a/m/generate"), ("state", "odd")])
async def test_a_record_that_cannot_be_read_costs_its_own_step_alone(here: Bench, field: str, value: str) -> None:
    """The step is refused by name until its lease ends; what is due beside it is claimed as ever."""
    batches: list[str] = []
    for _ in range(2):
        await here.enqueue()
        batches.append(await here.sealed())
    await here.store.redis.hset(here.store.key("batch", batches[0]), field, value)
    with pytest.raises(StoreError, match=f"the record of batch {batches[0]} cannot be read: ValueError"):
        await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT)
    assert await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT) is None
    await here.claim(Step.SUBMIT, batches[1])


async def test_a_lane_that_cannot_be_read_is_not_counted_among_an_accounts_batches(here: Bench) -> None:
    """Whoever looks for room sees the other batches of the account."""
    batches: list[str] = []
    for _ in range(2):
        await here.enqueue()
        batches.append(await here.sealed())
    await here.store.redis.hset(here.store.key("batch", batches[0]), "lane", f"{ACCOUNT}/m/paint/batch")
    assert [one.id for one in await here.store.open_batches_of(ACCOUNT)] == batches[1:]


async def test_claims_wait_for_their_time(here: Bench) -> None:
    """A due step has one holder until its lease ends; a crash is counted; what is gone leaves the index."""
    await here.enqueue()
    batch = await here.sealed()
    assert await here.store.claim(Step.SUBMIT, batch, ACCOUNT) is not None
    assert await here.store.claim(Step.SUBMIT, batch, ACCOUNT) is None
    here.advance(here.settings.lease_s + 1)
    assert await here.store.overdue(ACCOUNT, [Step.TRACK]) == []
    assert [member for member, _ in await here.store.overdue(ACCOUNT, [Step.SUBMIT])] == [f"submit {batch}"]
    claim = await here.claim(Step.SUBMIT, batch)
    record = await here.store.batch(batch)
    assert record is not None
    assert (record.crashes, record.fence) == (1, 2)
    await here.store.release(claim, 0.0)
    await here.claim(Step.SUBMIT, batch)
    record = await here.store.batch(batch)
    assert record is not None
    assert record.crashes == 1
    await here.store.redis.zadd(here.store.key("due", ACCOUNT), {"track 00bgone": 1})
    assert await here.store.claim(Step.TRACK, "00bgone", ACCOUNT) is None
    assert f"submit {batch}" in await here.due()
    assert "track 00bgone" not in await here.due()


async def test_overdue_steps_of_other_roles_hide_nothing(here: Bench) -> None:
    """However many steps of a role that nobody runs are overdue, the others' steps are found."""
    await here.store.redis.zadd(
        here.store.key("due", ACCOUNT), {f"submit 00b{n}": n for n in range(40)} | {"track 00bx": 50}
    )
    assert await here.store.overdue(ACCOUNT, [Step.TRACK], limit=10) == [("track 00bx", 50)]
    assert len(await here.store.overdue(ACCOUNT, [Step.SUBMIT], limit=10)) == 10


async def test_held_steps_hide_nothing(here: Bench) -> None:
    """However many submit steps are held, the look that is due next is found after each of them was tried once."""
    batches: list[str] = []
    for _ in range(12):
        await here.enqueue()
        here.advance(0.01)
        batches.append(await here.sealed())
    await here.store.redis.hset(here.store.key("server", ACCOUNT), mapping={"run_id": "another", "home": "h"})
    here.advance(1)
    await here.store.redis.zadd(here.store.key("due", ACCOUNT), {"track 00bx": here.clock.now_ms()})
    here.advance(30)
    seen: list[str] = []
    for _ in range(13 // 5 + 1):
        for member, _ in await here.store.overdue(ACCOUNT, list(Step), limit=5):
            step, _, id_ = member.partition(" ")
            seen.append(member)
            if step == Step.SUBMIT:
                assert await here.store.claim(Step.SUBMIT, id_, ACCOUNT) is None
    assert "track 00bx" in seen
    assert sorted(seen[:12]) == sorted(f"submit {batch}" for batch in batches)
    taken = await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT, held=True)  # reconcile needs no due step
    assert taken is not None
    assert await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT, held=True) is None
    here.advance(here.settings.lease_s)
    assert await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT) is None
    assert await here.store.claim(Step.SUBMIT, batches[0], ACCOUNT, held=True) is not None  # its holder has died


async def test_a_look_says_when_the_next_step_is_due(here: Bench) -> None:
    """A look at the due index tells how long until the next step of these roles, whatever else stands before it."""
    index = here.store.key("due", ACCOUNT)
    now_ms = here.clock.now_ms()
    assert (await here.store.due_steps(ACCOUNT, [Step.TRACK])).next_ms is None
    await here.store.redis.zadd(
        index, {"track 00ba": now_ms - 5, "submit 00bb": now_ms + 10, "track 00bc": now_ms + 70}
    )
    found = await here.store.due_steps(ACCOUNT, [Step.TRACK])
    assert (found.overdue, found.next_ms) == ([("track 00ba", now_ms - 5)], 70)


async def test_the_bell_rings_for_steps_that_become_due(here: Bench) -> None:
    """Whoever listens to an account's bell hears of a lane that waits and of a sealed batch."""
    async with here.store.bell(ACCOUNT) as rang:
        await here.enqueue()
        assert await rang()
        await here.sealed()
        assert await rang()


async def test_a_server_that_refuses_the_bell_still_works(here: Bench, redis_url: str, queue_name: str) -> None:
    """Under an ACL without channels nobody can ring or listen; every transition goes on all the same."""
    acl = here.store.redis.execute_command
    await acl("ACL", "SETUSER", "deaf", "on", ">word", "~*", "+@all", "resetchannels")
    try:
        async with bench(redis_url.replace("://", "://deaf:word@"), queue_name) as deaf:
            await deaf.enqueue()
            assert await deaf.state(await deaf.sealed()) == "sealed"
            with pytest.raises(ServerRefuses):
                async with deaf.store.bell(ACCOUNT):
                    pass
    finally:
        await acl("ACL", "DELUSER", "deaf")


async def test_hasten_moves_only_what_nobody_holds(here: Bench) -> None:
    """An unleased step is due at once; the holder of a leased one finds its step due when it lets go."""
    await here.enqueue()
    batch = await here.submitted()
    claim = await here.claim(Step.TRACK, batch)
    await here.store.release(claim, 100.0)
    assert await here.store.claim(Step.TRACK, batch, ACCOUNT) is None
    assert await here.store.hasten(Step.TRACK, batch, ACCOUNT)
    taken = await here.store.claim(Step.TRACK, batch, ACCOUNT)
    assert taken is not None
    assert await here.store.hasten(Step.TRACK, batch, ACCOUNT)
    assert await here.store.claim(Step.TRACK, batch, ACCOUNT) is None
    await here.store.release(taken[0], 100.0)
    taken = await here.store.claim(Step.TRACK, batch, ACCOUNT)
    assert taken is not None
    await here.store.release(taken[0], 100.0)
    assert await here.store.claim(Step.TRACK, batch, ACCOUNT) is None
    assert not await here.store.hasten(Step.TRACK, "00bnone", ACCOUNT)


async def test_splitting_keeps_every_segment_once(here: Bench) -> None:
    """The parts are sealed batches that share the segments and the numbers; the last segment stays."""
    segments = [await here.enqueue(n) for n in (1, 2, 4, 8)]
    claim = await here.claim(Step.SUBMIT, await here.sealed())
    other = new_batch_id()
    await here.store.split(claim, other, 2, 1)
    first, second = await here.store.manifest(claim.id), await here.store.manifest(other)
    assert sorted(first + second) == sorted(segments)
    assert (len(first), len(second)) == (2, 2)
    metas = await here.store.segment_metas(first + second)
    assert [meta.batch for meta in metas if meta] == [claim.id] * 2 + [other] * 2
    sizes = dict(zip(segments, (1, 2, 4, 8), strict=True))
    for id_, part in ((claim.id, first), (other, second)):
        record = await here.store.batch(id_)
        assert record is not None
        assert record.prompts == record.tokens == sum(sizes[segment] for segment in part)
        assert (record.raw_bytes, record.segments, record.refusals) == (10 * record.prompts, 2, 1)
    await here.store.split(claim, new_batch_id(), 99, 2)
    assert len(await here.store.manifest(claim.id)) == 1
    await refused(lambda: here.store.split(claim, new_batch_id(), 1, 3), WrongState, here)


async def test_splitting_leaves_a_rebuilt_batch_its_segments(here: Bench) -> None:
    """What a job has bought, and a rebuilt batch has taken, goes into no other batch and is not bought again."""
    for _ in range(3):
        await here.enqueue(4)
    batch = await here.sealed()
    segments = await here.store.manifest(batch)
    lost = Rebuild(batch=new_batch_id(), lane=LANE, job="batches/lost", token="")
    assert await here.store.rebuild(ACCOUNT, lost, segments[2:]) == 1
    claim = await here.claim(Step.SUBMIT, batch)
    other = new_batch_id()
    await here.store.split(claim, other, 2, 1)
    metas = await here.store.segment_metas(segments)
    assert [meta.batch for meta in metas if meta] == [batch, other, lost.batch]
    record = await here.store.batch(other)
    assert record is not None
    assert (record.prompts, record.tokens) == (4, 4)


@pytest.mark.parametrize(("job_state", "ceilings"), [("failed", [4, 2]), ("expired", [4, 2]), ("refused", [0, 0])])
async def test_jobs_that_fail_as_a_whole_halve_the_batches(here: Bench, job_state: str, ceilings: list[int]) -> None:
    """A lane's batches are halved by a job that failed or expired, and only by that; never to more than they are."""
    for n, ceiling in zip((8, 5), ceilings, strict=True):
        await here.enqueue(n)
        claim = await here.ended(job_state)
        assert (await here.store.lanes())[0].ceiling == ceiling
        assert await here.close(claim, give_back=True) == ("closed", [])
        await here.close(await here.ended("cancelled"), give_back=True)
        await _drop_all(here)
    await here.enqueue(40)
    await here.ended(job_state)
    assert (await here.store.lanes())[0].ceiling == (ceilings[1] and 2)


async def _drop_all(here: Bench) -> None:
    """Cancel whatever waits."""
    for name in await here.store.redis.keys(here.store.key("segment", "*")):
        id_ = name.decode().rpartition(":")[2]
        meta = (await here.store.segment_metas([id_]))[0]
        for index in range(meta.count if meta else 0):
            await here.store.cancel(id_, index, b"cancelled %d" % index)


async def test_jobs_that_succeed_let_the_batches_grow(redis_url: str, queue_name: str) -> None:
    """A success doubles the ceiling until it is the limit again; that of a much smaller batch proves nothing."""
    async with bench(redis_url, queue_name, batch_prompts_max=16) as here:
        await here.enqueue(16)
        claim = await here.ended("failed")
        for n, ceiling in ((1, 8), (4, 0)):
            await here.enqueue(n)
            await here.ended("succeeded")
            assert (await here.store.lanes())[0].ceiling == ceiling
        assert (await here.close(claim, give_back=True))[0] == "closed"
