"""The lock-step of ``test_lockstep``, for what its machine does not do: the ways beside a prompt's batch lane.

Deadlines (promise, divert, rescue, defer, reconsider), interactive batches (permit, ask, replied, doubt, tally), dead
letters (bury, replay, forget), a pool's lanes, and records that were lost and are made anew. More examples:
``GEMQUEUE_LOCKSTEP_EXAMPLES=500``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gemqueue.errors import GemqueueError
from gemqueue.ids import rescue_segment_id
from gemqueue.language.gemini.usage import Charge, Spent
from gemqueue.policy.pools import RETURNED
from gemqueue.policy.unknown import Unknown
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, FailureKind, Kind, Step
from gemqueue.store import bitmap
from gemqueue.store.batches import Claim, JobEnd
from gemqueue.store.deadlines import Replied, RescueSegment
from gemqueue.store.operations import Rebuild
from tests.proofs.test_lockstep import EXAMPLES_ENV, TwinBench, compare
from tests.worlds.bench import ACCOUNT, LANE, body, landing

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import pytest

    from gemqueue.store.dead import DeadLetter
    from tests.valkey_server import ValkeyServer

POOL = "emulated.pool.shared"
POOL_LANE = str(Lane(POOL, "m", Kind.GENERATE))
FLEX = str(Lane(ACCOUNT, "m", Kind.GENERATE, "flex"))
NONE = Batch(id="", v=0, state=BatchState.CLOSED, lane=Lane.parse(LANE), fence=0)
URL: list[str] = []
NEW_ID: list[str] = []
"""What the stores draw when they make a segment: the same on both."""
picks = st.integers(0, 10_000)


class Ways(RuleBasedStateMachine):
    """``claims`` are all claims ever taken; any of them may be used at any time, and each call is made on both."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.claims: list[Claim] = []
        self.segments: list[str] = []
        self.batches: list[str] = []
        self.made = 0

    def run(self, work: Awaitable[Any]) -> Any:
        """Do it now; None where it was refused, on both in the same words."""
        try:
            return self._loop.run_until_complete(_awaited(work))
        except GemqueueError:
            return None

    @initialize(pick=picks, dies=st.booleans())
    def start(self, pick: int, dies: bool) -> None:
        """A queue of its own, twice, with batches in every state, and perhaps dead letters."""

        async def make() -> TwinBench:
            return TwinBench(URL[0], f"w{secrets.token_hex(6)}", batch_prompts_max=6, deadline_policy="standard")

        self.bench = self.run(make())
        self.store: Any = self.bench.store
        for n, lane in enumerate((LANE, LANE, POOL_LANE, LANE)):
            self.enqueue(3 - n % 2, lane, 900 if n else 0)
        self.progress(pick, 14, "succeeded")
        for index in range(3):
            self.settle(pick + index, index, dies, give_back=False)
        self.enqueue(2, LANE, 900)

    def teardown(self) -> None:
        """Nothing is left open."""
        if hasattr(self, "bench"):
            self.run(self.store.aclose())
        self._loop.close()

    def new_id(self, kind: str = "") -> str:
        """An id that a repeated run has too."""
        self.made += 1
        return f"00{kind}{self.made:04}"

    def _any(self, items: list[Any], pick: int) -> Any:
        return items[-1 - pick % min(len(items), 3)] if pick % 4 else items[pick % len(items)]

    # --- prompts and steps ---

    @rule(
        count=st.integers(1, 4), lane=st.sampled_from((LANE, LANE, POOL_LANE)), wanted_s=st.sampled_from((0, 5, 9000))
    )
    def enqueue(self, count: int, lane: str, wanted_s: int) -> None:
        """A segment, with a deadline or without, of an account or of a pool; the last prompt has a name."""
        id_ = self.new_id()
        deadline_at = self.bench.clock.now_ms() + wanted_s * 1000 if wanted_s else 0
        names = [(count - 1, f"n{self.made % 3}", "d")]
        write = self.bench.write(id_, count, lane=lane, deadline_at=deadline_at, names=names if count > 2 else [])
        if self.run(write).word == "ok":
            self.segments.append(id_)

    @rule(seconds=st.sampled_from([1, 61]))
    def wait(self, seconds: int) -> None:
        """Time passes: 61 s are more than a lease."""
        self.bench.advance(seconds)

    @rule(pick=picks, steps=st.integers(3, 9), ends=st.sampled_from(("succeeded", "expired", "cancelled")))
    def progress(self, pick: int, steps: int, ends: str) -> None:
        """Steps that are due are claimed, and carried on as a good worker would."""
        for n in range(steps):
            self.bench.advance(1)
            account = POOL if (pick + n) % 3 == 0 else ACCOUNT
            due = self.run(self.store.overdue(account, list(Step)))
            if due:
                step, _, id_ = self._any(due, pick + n)[0].partition(" ")
                taken = self.run(self.store.claim(Step(step), id_, account))
                if taken is not None:
                    self.claims.append(taken[0])
                    self._carry_on(taken[0], ends)

    def _carry_on(self, claim: Claim, ends: str) -> None:
        if claim.step is Step.PACK:
            self._pack(claim)
        elif claim.step is Step.SUBMIT and self._lane_of(claim) == FLEX:
            self.run(self.store.end(claim, JobEnd(job_state="interactive")))
        elif claim.step is Step.SUBMIT:
            self.run(self.store.begin(claim, f"token-{claim.fence}", "files/f"))
            self.run(self.store.accept(claim, f"batches/{claim.id}", "created", 0))
        elif claim.step is Step.TRACK:
            self.run(self.store.end(claim, JobEnd(job_state=ends)))

    def _lane_of(self, claim: Claim) -> str:
        batch = self.run(self.store.batch(claim.id))
        return batch.lane if batch is not None else ""

    def _pack(self, claim: Claim) -> None:
        id_ = self.new_id("b")
        own = LANE if claim.id == POOL_LANE else ""
        packed = self.run(self.store.pack(claim, id_, {}, own))
        if packed and packed[0] != "empty":
            self.batches.append(id_)
        self.run(self.store.rest(claim))

    # --- deadlines ---

    @rule(pick=picks, way=st.sampled_from(("divert", "rescue", "rescue", "defer")), number=st.integers(0, 1))
    def leave(self, pick: int, way: str, number: int) -> None:
        """A rescuer, overtaken or not, looks at any segment."""
        claims = [claim for claim in self.claims if claim.step is Step.RESCUE]
        if not claims or not self.segments:
            return
        claim, segment = self._any(claims, pick), self._any(self.segments, pick // 3)
        due = self.run(self.store.watched(LANE, self.bench.clock.now_ms(), 10))
        if way == "divert":
            self.run(self.store.divert(claim, segment, Lane.parse(FLEX)))
        elif way == "rescue":
            self._rescue(claim, segment, number)
        else:
            later = self.bench.clock.now_ms() + pick
            self.run(self.store.defer(claim, dict.fromkeys(due or (), later if pick % 2 else 0), 0.5))
        self.run(self.store.waiting_prompts([Lane.parse(LANE), Lane.parse(FLEX)]))

    def _rescue(self, claim: Claim, segment: str, number: int) -> None:
        (meta,) = self.run(self.store.segment_metas([segment]))
        if meta is None or not meta.batch:
            return
        line = number % meta.count
        rescued = RescueSegment(
            id=rescue_segment_id(meta.batch, claim.fence, number), lane=Lane.parse(FLEX), tenant="default", priority=0,
            count=1, raw_bytes=10, tokens=1, attempt=0, deadline_at=meta.deadline_at, keys=[(segment, [line])],
            segment=segment, lines=bitmap.of([line], meta.count), batch=meta.batch,
        )  # fmt: skip
        self.run(self.store.rescue(claim, rescued, body(1)))

    @rule(pick=picks)
    def ask(self, pick: int) -> None:
        """What an interactive batch's resolver does beside its answers."""
        self.run(self.store.permit_s(ACCOUNT, "flex"))
        by = Charge(("", "gemini-3.8-flash", "gemini-3.6-flash")[pick % 3])
        self.run(self.store.add_spent(Lane.parse(FLEX), {by: Spent(answers=pick % 3, input_tokens=pick)}, pick % 2))
        self.run(self.store.spent(Lane.parse(FLEX)))
        self.run(self.store.charges(Lane.parse(FLEX)))
        claims = [claim for claim in self.claims if claim.step is Step.RESOLVE]
        if claims:
            claim = self._any(claims, pick)
            self.run(self.store.count_doubt(claim, 1 + pick % 2, 3))
            key = f"{self._any(self.segments, pick) if self.segments else 'none'}.{pick % 3}"
            self.run(self.store.ask(claim, key, 1 + pick % 2, again=bool(pick % 2)))
            self.run(self.store.replied(claim, key, list(Replied)[pick % 3], pick % 2))
            self.run(self.store.asked(claim.id))
        if self.segments:
            self.run(self.store.reconsider(Lane.parse(LANE), [self._any(self.segments, pick)]))

    # --- outcomes and dead letters ---

    @rule(pick=picks, index=st.integers(0, 3), dies=st.booleans(), give_back=st.booleans())
    def settle(self, pick: int, index: int, dies: bool, give_back: bool) -> None:
        """An outcome lands, perhaps with a dead letter; then the batch is closed, or says what is open."""
        claims = [claim for claim in self.claims if claim.step is Step.RESOLVE]
        if not claims or not self.segments:
            return
        claim = self._any(claims, pick)
        for segment in self.run(self.store.manifest(claim.id)) or ():
            (meta,) = self.run(self.store.segment_metas([segment]))
            if meta is None:
                continue
            key = meta.key_of(index % meta.count)
            dead = [(key, LANE, FailureKind.EXPIRED, "no", '{"key":"k","request":{"contents":[]}}')] if dies else []
            origin, _, n = key.partition(".")
            self.run(self.store.settle(claim, [landing(origin, [int(n)], failed=int(dies))], dead))
        self.run(self.store.close(claim, give_back=give_back))

    @rule(pick=picks, forget=st.booleans(), again=st.booleans())
    def look_after_the_dead(self, pick: int, forget: bool, again: bool) -> None:
        """Some letters are submitted again, or forgotten; perhaps twice."""
        NEW_ID[:] = [self.new_id()]
        first, second = pick % 3, pick % 2
        said: list[object] = []
        for _ in range(2 if again else 1):
            said = [self.run(_cared_for(store, first, second, forget=forget)) for store in self.bench.both]
            assert said[0] == said[1]
        if said[0] and not forget:
            self.segments.append(NEW_ID[0])

    # --- pools, and what was lost ---

    @rule(pick=picks)
    def take_part(self, pick: int) -> None:
        """An account takes from the pool, looks at what it has under way, and leaves a lane to others."""
        self.run(self.store.join_pool(POOL, ACCOUNT))
        self.run(self.store.open_batches_of(ACCOUNT))
        self.run(self.store.held_reason(POOL))
        lane = self.run(self.store.lane(POOL_LANE))
        self.run(self.store.leave_lane(lane, "" if pick % 2 else "no room"))

    @rule(pick=picks)
    def return_to_the_pool(self, pick: int) -> None:
        """A person gives a batch back, under a claim that was overtaken or not; closed it is by whoever resolves it."""
        claims = [claim for claim in self.claims if claim.step is Step.SUBMIT]
        sealed = [id_ for id_ in self.batches if (self.run(self.store.batch(id_)) or NONE).state == "sealed"]
        if sealed and pick % 2:
            id_ = self._any(sealed, pick)
            self.run(self.store.hasten(Step.SUBMIT, id_, ACCOUNT))
            taken = self.run(self.store.claim(Step.SUBMIT, id_, ACCOUNT))
            claims += [taken[0]] if taken else []
        if claims:
            self.run(self.store.end(self._any(claims, pick), JobEnd(job_state=RETURNED)))

    @rule(pick=picks)
    def forget_a_record(self, pick: int) -> None:
        """A batch's record is lost, and made anew from what its job's results name."""
        if not self.batches:
            return
        batch = self._any(self.batches, pick)
        if pick % 3 == 0:
            for store in self.bench.both:
                self.run(store.redis.unlink(store.key("batch", batch), store.key("manifest", batch)))
                self.run(store.redis.zrem(store.key("batches"), batch))
        made = Rebuild(batch=batch, lane=LANE, job=f"batches/{batch}", token=f"gq-home-{batch}-{pick % 3}")
        self.run(self.store.rebuild(ACCOUNT, made, self.segments[-3:]))
        self.run(self.store.count_twice(batch, f"batches/{batch}", 1))
        seen = Unknown(job=f"batches/{batch}", token=made.token, state="running", created_at=pick)
        self.run(self.store.note_unknown(ACCOUNT, [seen]))
        if pick % 4 == 0:
            self.run(self.store.clear_unknown(ACCOUNT, {seen.job: "running" if pick % 8 else ""}))
        self.run(self.store.unknown_jobs(ACCOUNT))
        self.run(self.store.waiting_segments(LANE))

    @invariant()
    def both_hold_the_same(self) -> None:
        """Everything in the core lies in the server, and the other way round."""
        if hasattr(self, "bench"):
            self._loop.run_until_complete(compare(self.bench))


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def _cared_for(store: Any, first: int, second: int, *, forget: bool) -> object:
    """The letters at two places of one server's list are submitted again or forgotten; what it says."""
    letters: list[DeadLetter] = [letter async for letter in store.dead_letters()]
    chosen = letters[first : first + 1 + second]
    if not chosen:
        return None
    ids = [letter.id for letter in chosen]
    try:
        return await (store.purge_dead(ids) if forget else store.replay(chosen))
    except GemqueueError as error:
        return type(error).__name__


def test_core_and_server_agree_on_the_other_ways(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines, interactive batches, dead letters, pools and lost records: the core does what a real server does."""
    URL[:] = [valkey.url]
    monkeypatch.setattr("gemqueue.store.dead.new_segment_id", lambda: NEW_ID[0])
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    examples = int(os.environ.get(EXAMPLES_ENV, "30"))
    quick = settings(max_examples=examples, stateful_step_count=40, deadline=None, database=None, derandomize=True)
    quick = settings(quick, suppress_health_check=slow, phases=[Phase.generate])
    run_state_machine_as_test(Ways, settings=quick)
