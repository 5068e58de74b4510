"""Random operations on the real store, by workers that crash, sleep over their lease and repeat themselves.

After every step the server's records are held against invariants I1, I6, I7 and I9 of the reference: what was accepted
is settled or open, no prompt is in two live places, fences only grow, counters and gauges are what they count, and no
key lacks both a TTL and an owner.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gemqueue.errors import StaleFence, WrongState
from gemqueue.ids import retry_segment_id
from gemqueue.policy.quota import Limits
from gemqueue.records import Hold
from gemqueue.states import Step
from gemqueue.store import bitmap
from gemqueue.store.batches import Claim, JobEnd
from gemqueue_workers.stages.contents import BatchContents
from tests.leaks import leftovers, unowned_keys
from tests.worlds.bench import ACCOUNT, LANE, Bench, body, landing, open_keys, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gemqueue.records import Batch
    from tests.valkey_server import ValkeyServer

picks = st.integers(0, 10_000)
URL: list[str] = []
"""The server's address, once the test has it: Hypothesis makes the machines itself."""


class StoreMachine(RuleBasedStateMachine):
    """``claims`` are all claims ever taken, most of them stale; any of them may be used at any time."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.queue = f"m{secrets.token_hex(6)}"
        self.claims: list[Claim] = []
        self.fences: dict[str, int] = {}
        self.segments: dict[str, int] = {}
        self.retries = 0
        self.checks = 0
        self.made = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it now."""
        return self._loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        """A queue of its own."""

        async def make() -> Bench:
            return Bench(URL[0], self.queue, batch_prompts_max=12, requeues_max=2, memory_bytes_max=600)

        self.bench = self.run(make())
        self.store = self.bench.store
        for count, tenant in ((9, "a"), (1, "b"), (4, "a")):
            self.enqueue(count, tenant, 0, again=False)

    def new_id(self, kind: str) -> str:
        """An id that a repeated run has too."""
        self.made += 1
        return f"00{kind}{self.made:04}"

    def holds(self, step: Step) -> bool:
        """Whether anybody has ever claimed such a step."""
        return any(claim.step is step for claim in self.claims)

    def teardown(self) -> None:
        """Finish everything, as a calm day would: all is settled, nothing is left over."""
        if hasattr(self, "bench"):
            self.run(self._drain())
            self.run(self.bench.store.aclose())
        self._loop.close()

    # --- the producer ---

    @rule(count=st.integers(1, 9), tenant=st.sampled_from("ab"), priority=st.integers(-1, 1), again=st.booleans())
    def enqueue(self, count: int, tenant: str, priority: int, again: bool) -> None:
        """A segment, perhaps sent twice."""
        id_ = self.new_id("")
        for _ in range(2 if again else 1):
            word = self.run(self.bench.write(id_, count, tenant=tenant, priority=priority)).word
            if word == "ok":
                self.segments[id_] = count

    @precondition(lambda self: self.segments)
    @rule(pick=picks, index=st.integers(0, 9))
    def cancel(self, pick: int, index: int) -> None:
        """Cancel any prompt, wherever it is."""
        segment = self._any(list(self.segments), pick)
        self.run(self.store.cancel(segment, index, b"cancelled %d" % index))

    @precondition(lambda self: self.segments)
    @rule(pick=picks)
    def deliver(self, pick: int) -> None:
        """The caller says that it has taken everything of a segment."""
        self.run(self.store.deliver([self._any(list(self.segments), pick)]))

    # --- the workers ---

    @rule(seconds=st.sampled_from([1, 61]))
    def wait(self, seconds: int) -> None:
        """Time passes: 61 s are more than a lease."""
        self.bench.advance(seconds)

    @rule(pick=picks)
    def claim(self, pick: int) -> None:
        """Take any step that is due."""
        due = self.run(self.store.overdue(ACCOUNT, list(Step)))
        if not due:
            return
        step, _, id_ = self._any(due, pick)[0].partition(" ")
        taken = self.run(self.store.claim(Step(step), id_, ACCOUNT))
        if taken is not None:
            claim = taken[0]
            record = "lane" if step == "pack" else "batch"
            assert claim.fence == self.fences.get(f"{record} {id_}", 0) + 1
            self.fences[f"{record} {id_}"] = claim.fence
            self.claims.append(claim)

    @rule(pick=picks, state=st.sampled_from(["succeeded", "failed", "expired"]), steps=st.integers(1, 6))
    def progress(self, pick: int, state: str, steps: int) -> None:
        """A good worker takes steps that are due, and carries each on, up to the claim for a batch's results."""
        for n in range(steps):
            self._progress(pick + n, state)

    def _progress(self, pick: int, state: str) -> None:
        self.bench.advance(1)
        before = len(self.claims)
        self.claim(pick)
        if len(self.claims) == before:
            return
        claim = self.claims[-1]
        if claim.step is Step.PACK:
            lane = self.run(self.store.lanes())[0]
            self.run(self.bench.pack_one(claim, lane.batch or self.new_id("b")))
            self.run(self.store.rest(claim))
        elif claim.step is Step.SUBMIT:
            record = self.run(self.store.batch(claim.id))
            if record.state == "sealed":
                self.run(self.store.begin(claim, f"token-{claim.fence}", "files/f"))
            self.run(self.store.accept(claim, f"batches/{claim.id}-{claim.fence}", "created", 0))
        elif claim.step is Step.TRACK:
            self.run(self.store.end(claim, JobEnd(job_state=state)))

    def _any(self, items: list[Any], pick: int) -> Any:
        """One of them, mostly one of the last."""
        return items[-1 - pick % min(len(items), 3)] if pick % 4 else items[pick % len(items)]

    def _call(self, step: Step, pick: int, work: Callable[[Claim], Coroutine[Any, Any, Any]]) -> None:
        """Do this with some claim of the step; one that was overtaken must be StaleFence and change nothing."""
        claims = [claim for claim in self.claims if claim.step is step]
        if not claims:
            return
        claim = self._any(claims, pick)
        record = "lane" if step is Step.PACK else "batch"
        stale = claim.fence != self.fences[f"{record} {claim.id}"]
        before = self.run(self.bench.dump()) if stale else None
        try:
            self.run(work(claim))
        except StaleFence:
            return
        except WrongState:
            assert not stale
        if stale:
            assert self.run(self.bench.dump()) == before, "a stale write succeeded"

    @precondition(lambda self: self.holds(Step.PACK))
    @rule(pick=picks, rest=st.booleans())
    def pack(self, pick: int, rest: bool) -> None:
        """Pack a slice into the lane's batch, or a new one; then let the lane rest, or not."""

        async def work(claim: Claim) -> None:
            lane = (await self.store.lanes())[0]
            await self.store.pack(claim, lane.batch or self.new_id("b"), {})
            if rest:
                await self.store.rest(claim)

        self._call(Step.PACK, pick, work)

    @precondition(lambda self: self.holds(Step.SUBMIT))
    @rule(
        pick=picks,
        verb=st.sampled_from(
            ["begin", "accept", "fence", "reopen", "put back", "release", "reserve", "renew", "refuse"]
        ),
    )
    def submit(self, pick: int, verb: str) -> None:
        """One of the submitter's verbs."""

        async def work(claim: Claim) -> None:
            match verb:
                case "begin":
                    await self.store.begin(claim, f"token-{claim.fence}", "files/f")
                case "accept":
                    await self.store.accept(claim, f"batches/{claim.id}-{claim.fence}", "created", 0)
                case "fence":
                    await self.store.fence(claim, 1)
                case "reopen":
                    await self.store.reopen(claim, await self._token(claim))
                case "put back":
                    await self.store.reopen(claim, await self._token(claim), delay_s=1, hold=Hold(text="quota"))
                case "release":
                    await self.store.release(claim, 1, hold=Hold(text="x"))
                case "reserve":
                    limits = Limits(jobs_max=3, tokens_max=20, stored_bytes_max=90)
                    await self.store.reserve(claim, limits)
                case "renew":
                    await self.store.renew(claim)
                case _:
                    await self.store.end(claim, JobEnd(job_state="refused"))

        self._call(Step.SUBMIT, pick, work)

    async def _token(self, claim: Claim) -> str:
        record = await self.store.batch(claim.id)
        return record.intent_token if record is not None else ""

    @precondition(lambda self: self.holds(Step.SUBMIT))
    @rule(pick=picks, segments=st.integers(1, 3))
    def split(self, pick: int, segments: int) -> None:
        """Part of a sealed batch becomes one of its own."""
        self._call(Step.SUBMIT, pick, lambda claim: self.store.split(claim, self.new_id("b"), segments, 1))

    @precondition(lambda self: self.holds(Step.SUBMIT))
    @rule(pick=picks, lines=st.sets(st.integers(0, 8), min_size=1))
    def isolate(self, pick: int, lines: set[int]) -> None:
        """Lines of a sealed batch go into a batch of their own."""
        self._call(Step.SUBMIT, pick, lambda claim: self._move(claim, pick, lines, self.new_id("b")))

    @precondition(lambda self: self.holds(Step.TRACK))
    @rule(pick=picks, proven=st.booleans())
    def restart(self, pick: int, proven: bool) -> None:
        """A job has failed for want of its input file."""

        async def work(claim: Claim) -> None:
            record = await self.store.batch(claim.id)
            job = record.job if record is not None else "none"
            await self.store.restart(claim, job, delay_s=pick % 2, hold=Hold(text="input"), proven=proven)

        self._call(Step.TRACK, pick, work)

    @precondition(lambda self: self.holds(Step.TRACK))
    @rule(pick=picks, state=st.sampled_from(["succeeded", "failed", "expired"]))
    def end(self, pick: int, state: str) -> None:
        """A job ends."""
        self._call(Step.TRACK, pick, lambda claim: self.store.end(claim, JobEnd(job_state=state)))

    @precondition(lambda self: self.holds(Step.RESOLVE))
    @rule(pick=picks, lines=st.sets(st.integers(0, 8), min_size=1))
    def settle(self, pick: int, lines: set[int]) -> None:
        """Outcomes of some prompts of a batch land, open or not."""

        async def work(claim: Claim) -> None:
            metas = await self.store.segment_metas(await self.store.manifest(claim.id))
            keys = {meta.key_of(n) for meta in metas if meta for n in lines if n < meta.count}
            by_origin: dict[str, list[int]] = {}
            for key in keys:
                by_origin.setdefault(key.partition(".")[0], []).append(int(key.partition(".")[2]))
            landings = [landing(origin, indices) for origin, indices in by_origin.items()]
            word, maps = await self.store.settle(claim, landings)
            assert word != "conflict" or all(
                any(bitmap.has_bit(bits, i) for i in by_origin[origin]) for origin, bits in maps.items()
            )

        self._call(Step.RESOLVE, pick, work)

    @precondition(lambda self: self.holds(Step.RESOLVE))
    @rule(pick=picks, lines=st.sets(st.integers(0, 8), min_size=1))
    def requeue(self, pick: int, lines: set[int]) -> None:
        """Open lines of a batch go on into a retry segment."""
        self._call(Step.RESOLVE, pick, lambda claim: self._move(claim, pick, lines, ""))

    async def _move(self, claim: Claim, pick: int, lines: set[int], new_batch: str) -> None:
        sources = [s for s in (await BatchContents.load(self.store, claim.id)).sources if lines & set(s.lines)]
        if not sources:
            return
        source = self._any(sources, pick)
        chosen = sorted(lines & set(source.lines))
        keys = [source.meta.key_of(n).partition(".") for n in chosen]
        self.retries += 1
        again = retry(
            retry_segment_id(claim.id, claim.fence, self.retries), source.meta.id, chosen, tenant=source.meta.tenant,
            keys=[(origin, [int(index)]) for origin, _, index in keys], delay_ms=pick % 2 * 1000, new_batch=new_batch,
        )  # fmt: skip
        for _ in range(1 + pick % 2):
            await self.store.requeue(claim, again, body(len(chosen)))

    @precondition(lambda self: self.holds(Step.RESOLVE))
    @rule(pick=picks, give_back=st.booleans())
    def close(self, pick: int, give_back: bool) -> None:
        """Close a slice, or hear what is open."""
        self._call(Step.RESOLVE, pick, lambda claim: self.store.close(claim, give_back=give_back))

    # --- what holds after every step ---

    @invariant()
    def everything_adds_up(self) -> None:
        """See the module's text."""
        if hasattr(self, "bench"):
            self.run(self._check())

    async def _check(self) -> None:
        dump: dict[str, Any] = {
            name.removeprefix(f"{self.store.prefix}:"): value for name, value in (await self.bench.dump()).items()
        }
        metas = {name[8:]: value for name, value in dump.items() if name.startswith("segmeta:")}
        counts = {name: int(value) for name, value in dump.get("counts", {}).items()}
        settled = sum(int(meta.get(b"settled", 0)) for id_, meta in metas.items() if id_ in self.segments)
        assert counts.get(b"accepted", 0) == sum(self.segments.values())
        assert settled == counts.get(b"answered", 0) + counts.get(b"cancelled", 0)
        for id_, count in self.segments.items():  # I7, and closed means that all is settled
            bits = sum(byte.bit_count() for byte in dump.get(f"settled:{id_}", b""))
            assert bits == int(metas[id_].get(b"settled", 0)) <= count
            assert (metas[id_][b"state"] == b"closed") == (bits == count)
        self._check_places(dump, metas)
        kept = sum(int(meta.get(b"outcome_bytes", 0)) for meta in metas.values())
        bodies = sum(len(value) for name, value in dump.items() if name.startswith("segment:") and name[8:] in metas)
        assert counts.get(b"live_bytes", 0) == bodies + kept
        self.checks += 1
        if self.checks % 8 == 0:
            assert await unowned_keys(self.store.redis, self.queue) == []

    def _check_places(self, dump: dict[str, Any], metas: dict[str, dict[bytes, bytes]]) -> None:
        places: list[str] = []
        pending: list[str] = []
        for name, value in dump.items():
            if name.startswith("pending:"):
                pending += [member.decode() for member in value[::2]]
            elif name.startswith("later:"):
                places += [member.decode() for member in value[::2]]
            elif name.startswith("manifest:"):
                batch = name.partition(":")[2].encode()
                here = [id_.decode() for id_ in value]
                places += [id_ for id_ in here if metas.get(id_, {}).get(b"batch") == batch]
        places += pending
        assert len(places) == len(set(places)), "a segment is in two places"
        lane = {name: int(value) for name, value in dump.get(f"lane:{LANE}", {}).items() if value.isdigit()}
        assert lane.get(b"segments", 0) == len(pending)
        assert lane.get(b"prompts", 0) == sum(int(metas[id_][b"count"]) for id_ in pending)
        open_lines: dict[str, int] = {}
        for id_ in places:
            if metas[id_][b"state"] == b"live":
                for key in open_keys(id_, metas[id_], dump):
                    open_lines[key] = open_lines.get(key, 0) + 1
        assert max(open_lines.values(), default=1) == 1, "a prompt is in two live places"
        unsettled = {
            f"{id_}.{n}"
            for id_, count in self.segments.items()
            for n in range(count)
            if not bitmap.has_bit(dump.get(f"settled:{id_}", b""), n)
        }
        assert set(open_lines) == unsettled, "a prompt is lost"

    # --- the end of the day ---

    async def _drain(self) -> None:
        for _ in range(400):
            self.bench.advance(61)
            due = await self.store.overdue(ACCOUNT, list(Step))
            if not due and not await self.bench.due():
                break
            for member, _ in due:
                step, _, id_ = member.partition(" ")
                taken = await self.store.claim(Step(step), id_, ACCOUNT)
                if taken is not None:
                    await self._finish(*taken)
        counts = await self.store.counts()
        assert counts.get("accepted", 0) == counts.get("answered", 0) + counts.get("cancelled", 0)
        await self.store.redis.delete(self.store.key("due", ACCOUNT))
        assert await leftovers(self.store.redis, self.queue) == []
        self.bench.advance(self.bench.settings.keep_outcome_s + 1)
        for _ in range(1 + len(self.segments) // 100):
            await self.store.deliver(["00none"])
        assert await self.bench.live_bytes() == 0

    async def _finish(self, claim: Claim, record: Any) -> None:
        if claim.step is Step.PACK:
            await self.bench.pack_one(claim, record.batch or self.new_id("b"))
            await self.store.rest(claim)
        elif claim.step is Step.SUBMIT:
            await self._finish_submit(claim, record)
        elif claim.step is Step.TRACK:
            await self.store.end(claim, JobEnd(job_state="succeeded"))
        else:
            for source in (await BatchContents.load(self.store, claim.id)).sources:
                for n in source.lines:
                    origin, _, index = source.meta.key_of(n).partition(".")
                    word, _ = await self.store.settle(claim, [landing(origin, [int(index)])])
                    assert word == "ok"
            assert await self.bench.close(claim) == ("closed", [])

    async def _finish_submit(self, claim: Claim, record: Batch) -> None:
        if record.state == "submitting":
            await self.store.accept(claim, "batches/found", "adopted", 0)
        else:
            await self.store.end(claim, JobEnd(job_state="empty"))


def test_random_operations_break_nothing(valkey: ValkeyServer) -> None:
    """Whatever is called in whatever order, by holders and by those who were overtaken, the records stay true."""
    URL[:] = [valkey.url]
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    quick = settings(max_examples=30, stateful_step_count=40, deadline=None, database=None, derandomize=True)
    quick = settings(quick, suppress_health_check=slow, phases=[Phase.generate])  # shrinking would take minutes
    run_state_machine_as_test(StoreMachine, settings=quick)
