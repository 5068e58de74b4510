"""A refusal for want of money: the account waits, no ceiling falls, and the first job that is taken ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import StaleFence, WrongState
from gemqueue.policy import holds
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Resource
from gemqueue.records import Hold
from gemqueue.states import Step
from tests.policy.test_quota import OPEN
from tests.policy.test_spend import HOUR_S, WHY
from tests.store.test_quota import adds_up, finish, refuse, reserved, submit
from tests.worlds.bench import ACCOUNT, bench

if TYPE_CHECKING:
    from gemqueue.store.batches import Claim
    from tests.worlds.bench import Bench


async def unpaid(made: Bench, claim: Claim, wish_s: float | None = None) -> float:
    """Its create is refused for want of money."""
    claim = await made.store.begin(claim, f"token-{claim.fence}", "files/f")
    hold_s = await made.store.suspend(claim, WHY, wish_s)
    await made.store.reopen(claim, f"token-{claim.fence}", delay_s=hold_s, hold=Hold(text="spend"))
    return hold_s


async def test_the_account_waits_and_no_ceiling_falls(redis_url: str, queue_name: str) -> None:
    """What was under way counts as one refusal; others are held before an upload, for an hour, in the same words."""
    async with bench(redis_url, queue_name) as made:
        jobs = [(await reserved(made, 100))[0] for _ in range(3)]
        await submit(made, jobs[0])
        assert [await unpaid(made, claim) for claim in jobs[1:]] == [HOUR_S, HOUR_S]
        found = await adds_up(made)
        assert list(found.corrections) == ["spend"]
        assert found.room("m", OPEN) == (0, 0)
        assert (await made.store.counts())["spend_refused"] == 1
        _, held = await reserved(made, 100)
        assert isinstance(held, QuotaHold)
        assert (held.resource, held.refused, held.why) == (Resource.SPEND, True, WHY)
        assert held.wait_s == pytest.approx(HOUR_S, abs=1)
        assert holds.why_no_room(held).text.startswith("spend: the provider refuses for lack of money")
        assert WHY in holds.why_no_room(held).text
        made.advance(HOUR_S)  # a short job would not cool off in any case
        await finish(made, jobs[0].id)
        assert not [one for one in (await adds_up(made)).reservations if one.until], "nothing cools off"


async def test_one_batch_tries_and_its_job_ends_the_hold(redis_url: str, queue_name: str) -> None:
    """After the pause one batch alone goes on by itself; as soon as its job is there all others do."""
    async with bench(redis_url, queue_name) as made:
        jobs = [(await reserved(made, 100))[0] for _ in range(3)]
        for claim in jobs:
            await unpaid(made, claim)
        made.advance(HOUR_S)
        probe, other, third = [await made.claim(Step.SUBMIT, claim.id) for claim in jobs]
        assert await made.store.reserve(probe, OPEN) == "ok"
        for claim in (other, third):
            held = await made.store.reserve(claim, OPEN)
            assert isinstance(held, QuotaHold)
            assert held.resource is Resource.SPEND
            await made.store.release(claim, held.wait_s)
        await submit(made, probe)
        assert (await adds_up(made)).corrections == {}
        due = [member for member, _ in await made.store.overdue(ACCOUNT, [Step.SUBMIT])]
        assert due == [f"submit {other.id}"]
        assert await made.store.reserve(await made.claim(Step.SUBMIT, other.id), OPEN) == "ok"
        assert await made.store.reserve(await made.claim(Step.SUBMIT, third.id), OPEN) == "ok", "woken by the other"


async def test_the_pause_grows_and_the_providers_wish_counts(redis_url: str, queue_name: str) -> None:
    """One hour, two, four and no more; longer where the provider says so."""
    async with bench(redis_url, queue_name) as made:
        claim, word = await reserved(made, 100)
        pauses = list[float]()
        for wish_s in (None, None, None, None, 6 * HOUR_S):
            assert word == "ok"
            pauses.append(await unpaid(made, claim, wish_s))
            made.advance(pauses[-1])
            claim = await made.claim(Step.SUBMIT, claim.id)
            word = await made.store.reserve(claim, OPEN)
        assert pauses == [HOUR_S, 2 * HOUR_S, 4 * HOUR_S, 4 * HOUR_S, 6 * HOUR_S]


async def test_a_job_from_before_ends_no_hold(redis_url: str, queue_name: str) -> None:
    """A create that was under way when another was refused says nothing of the money that is there now."""
    async with bench(redis_url, queue_name) as made:
        early, late = [(await reserved(made, 100))[0] for _ in range(2)]
        await unpaid(made, late)
        await submit(made, early)
        assert list((await adds_up(made)).corrections) == ["spend"]


async def test_a_refused_quota_is_another_matter(redis_url: str, queue_name: str) -> None:
    """Both are remembered side by side, and the end of one leaves the other."""
    async with bench(redis_url, queue_name) as made:
        jobs = [(await reserved(made, 100))[0] for _ in range(3)]
        await submit(made, jobs[0])
        await refuse(made, jobs[1])
        await unpaid(made, jobs[2])
        assert set((await adds_up(made)).corrections) == {"spend", "tokens/m"}
        made.advance(HOUR_S)
        await finish(made, jobs[0].id)
        claim = await made.claim(Step.SUBMIT, jobs[1].id)
        assert await made.store.reserve(claim, OPEN) == "ok"
        await submit(made, claim)
        assert "spend" not in (await adds_up(made)).corrections


async def test_only_the_holder_of_a_batch_on_its_way_may_say_so(redis_url: str, queue_name: str) -> None:
    """A stale fence, or a batch that has its job, changes nothing; a sealed one, refused at its upload, does."""
    async with bench(redis_url, queue_name) as made:
        claim, _ = await reserved(made, 100)
        assert await made.store.suspend(claim, WHY, None) == HOUR_S
        made.advance(HOUR_S)
        again = await made.claim(Step.SUBMIT, claim.id)
        with pytest.raises(StaleFence):
            await made.store.suspend(claim, WHY, None)
        await submit(made, again)
        with pytest.raises(WrongState):
            await made.store.suspend(again, WHY, None)
