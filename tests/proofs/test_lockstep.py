"""The core and a real server in lock-step: what licenses the simulation's store.

The machine of ``test_store_machine`` drives two stores at once, one on a real server and one on the core. Every call's
reply or error must be the same on both, and after every step so must everything that lies in them, TTLs included.
More examples: ``GEMQUEUE_LOCKSTEP_EXAMPLES=500``.
"""

from __future__ import annotations

import inspect
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from gemqueue.errors import GemqueueError, UnreadableRecord
from gemqueue.states import Step
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.runs import RunEntry, RunStore, pack_entry
from tests.proofs.simulation.client import Direct
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.memory import Memory
from tests.store import test_machine as machine
from tests.worlds.bench import ACCOUNT, LANE, PRODUCER, Bench, body

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.valkey_server import ValkeyServer

EXAMPLES_ENV = "GEMQUEUE_LOCKSTEP_EXAMPLES"
_TTL_SLACK_S = 30
_WATCHER = "00p2"
_STREAMS = frozenset({"inbox", "dead", "quarantine", "ev"})
_OWN = frozenset({"open_inbox"})
"""What is answered with the id of an entry, which is each server's own."""


class Twin:
    """Two stores that are told the same. A store's attributes are the real one's."""

    def __init__(self, real: RunStore, core: CoreStore) -> None:
        self._real = real
        self._core = core

    def __getattr__(self, name: str) -> Any:
        mine, theirs = getattr(self._core, name), getattr(self._real, name)
        if not inspect.iscoroutinefunction(theirs) or name == "aclose":
            return theirs

        async def both(*args: Any, **options: Any) -> Any:
            want = await _said(theirs, args, options)
            got = await _said(mine, args, options)
            assert name in _OWN or _plain(got) == _plain(want), (
                f"{name}{args} {options}: the core {got!r}, the server {want!r}"
            )
            if isinstance(want, Exception):
                raise want
            return want

        return both


async def _said(call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> object:
    try:
        return await call(*args, **options)
    except GemqueueError as error:
        return error


def _plain(said: object) -> object:
    return (type(said), str(said)) if isinstance(said, Exception) else said


class TwinBench(Bench):
    """A bench on both."""

    def __init__(self, url: str, queue: str, **options: Any) -> None:
        super().__init__(url, queue, **options)
        self.memory = Memory(lambda: 0)
        self.core = CoreStore(Direct(self.memory), self.settings, self.clock)
        real = RunStore(url, self.settings, self.clock)
        self.store = cast("Any", Twin(real, self.core))
        self.both: tuple[RunStore, RunStore] = (real, self.core)
        self.core_bench = Bench.__new__(Bench)
        self.core_bench.store = self.core

    async def ttls(self) -> tuple[dict[str, int], dict[str, int]]:
        """The TTL of every key, on the server and in the core."""
        names = sorted(name.decode() for name in await self.store.redis.keys(f"{self.store.prefix}:*"))
        pipe = self.store.redis.pipeline()
        for name in names:
            pipe.ttl(name)
        real = dict(zip(names, await pipe.execute(), strict=True))
        return real, {name: self.memory.ttl(name.encode()) for name in names}


def _comparable(dump: dict[str, Any]) -> dict[str, Any]:
    """A dump without what two servers may differ in: ids of entries, and the order within sets and hashes."""
    found: dict[str, Any] = {}
    for name, value in dump.items():
        plain = value
        if name.partition("}:")[2].partition(":")[0] in _STREAMS:
            plain = [_fields(entry[1]) for entry in value]
        elif isinstance(value, set):
            plain = sorted(cast("set[bytes]", value))
        found[name] = plain
    return found


def _fields(entry: Any) -> dict[bytes, bytes]:
    return dict(entry.items() if hasattr(entry, "items") else zip(entry[::2], entry[1::2], strict=True))


class LockStep(machine.StoreMachine):
    """The same operations, on both, and those that only clients use."""

    bench: TwinBench

    @initialize()
    def start(self) -> None:
        """A queue of its own, twice."""

        async def make() -> TwinBench:
            return TwinBench(machine.URL[0], self.queue, batch_prompts_max=12, requeues_max=2, memory_bytes_max=600)

        self.bench = self.run(make())
        self.store = self.bench.store
        for count, tenant in ((9, "a"), (1, "b"), (4, "a")):
            self.enqueue(count, tenant, 0, again=False)

    @rule(count=st.integers(1, 3), name=st.sampled_from("xyz"), digest=st.sampled_from("12"))
    def enqueue_named(self, count: int, name: str, digest: str) -> None:
        """A segment whose last prompt has a name."""
        id_ = self.new_id("")
        if self.run(self.bench.write(id_, count, names=[(count - 1, name, digest)])).word == "ok":
            self.segments[id_] = count
        self.run(self.store.named(ACCOUNT, name))

    @rule(epoch=st.integers(0, 2), purge=st.booleans())
    def enqueue_in_run(self, epoch: int, purge: bool) -> None:
        """A run is opened, written to, and perhaps purged."""
        run = self.run(self.store.open_run(ACCOUNT, "r", "{}", "cmd", [])) if epoch else None
        id_ = self.new_id("")
        write = SegmentWrite(
            id=id_, lane=LANE, producer=PRODUCER, count=1, raw_bytes=10, tokens=1, run="r",
            epoch=run.epoch if run and epoch == 1 else 0, entry=pack_entry(RunEntry(id_, ["k"], b"12345678")),
        )  # fmt: skip
        if self.run(self.store.enqueue(write, body(1))).word == "ok":
            self.segments[id_] = 1
        with suppress(UnreadableRecord):  # of a run that was never opened there is no whole record
            self.run(self.store.run_record(ACCOUNT, "r"))
        self.run(self.store.run_entries(ACCOUNT, "r", 0, 10))
        if purge:
            self._purge("r" if epoch == 2 else "")

    def _purge(self, name: str) -> None:
        try:
            self.run(self.store.purge(ACCOUNT, name, ["00none"]))
        except GemqueueError:
            return

    @precondition(lambda self: self.segments)
    @rule(pick=machine.picks)
    def listen(self, pick: int) -> None:
        """A client opens its inbox, watches a segment, reads what has landed."""
        segment = self._any(list(self.segments), pick)
        self.run(self.store.open_inbox(_WATCHER) if pick % 2 else self.store.renew_inbox(_WATCHER))
        self.run(self.store.watch(segment, _WATCHER))
        self.run(self.store.outcomes([(segment, pick % 3)], 2))
        self.run(self.store.outcome_counts([segment, "00none"]))
        if pick % 5 == 0:
            self.run(self.store.close_inbox(_WATCHER))

    @rule(pick=machine.picks)
    def look(self, pick: int) -> None:
        """Whatever can be read says the same."""
        segments = [*self.segments, "00none"]
        for call in (
            self.store.overdue(ACCOUNT, [Step.SUBMIT, Step.RESOLVE], 1 + pick % 3),
            self.store.held_reason(ACCOUNT),
            self.store.open_batches(),
            self.store.lanes(),
            self.store.counts(),
            self.store.segment_metas(segments),
            self.store.bitmaps(segments, segments),
            self.store.gone(segments),
            self.store.bodies(segments),
            self.store.run_names(ACCOUNT),
            self.store.workers(),
        ):
            self.run(call)

    @rule(pick=machine.picks)
    def keep_house(self, pick: int) -> None:
        """What workers do beside their steps."""
        self.run(
            self.store.heartbeat(f"w{pick % 2}", "pack", ACCOUNT) if pick % 3 else self.store.goodbye("w0", "pack")
        )
        self.run(self.store.tick(ACCOUNT))
        self.run(
            self.store.forget_name(ACCOUNT, next(iter(self.segments), "00none"), f"{next(iter(self.segments), '')}.0")
        )
        self.run(self.store.quarantine("00b", [("foreign", b"row")] * (pick % 3)))
        self.run(self.store.add_count("unheard", pick % 2))
        self.run(self.store.discard("00none"))
        for step in Step:
            for claim in self.claims[-2:]:
                self.run(self.store.hasten(step, claim.id, ACCOUNT))

    @invariant()
    def both_hold_the_same(self) -> None:
        """Everything in the core lies in the server, and the other way round."""
        if hasattr(self, "bench"):
            self._loop.run_until_complete(compare(self.bench))


async def compare(bench: TwinBench) -> None:
    """Raises AssertionError where the server and the core hold different things."""
    server = _comparable(await bench.dump())
    core = _comparable(await bench.core_bench.dump())
    assert core == server
    real, ours = await bench.ttls()
    apart = {name: (real[name], ours[name]) for name in real if abs(real[name] - ours[name]) > _TTL_SLACK_S}
    assert not apart, f"TTLs of the server and of the core: {apart}"


def test_core_and_server_agree(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is called in whatever order, the core answers and holds what a real server does."""
    machine.URL[:] = [valkey.url]
    monkeypatch.setattr("gemqueue.store.runs.new_producer_id", lambda: "00p3")  # else each store draws its own
    monkeypatch.setattr("gemqueue.store.runs.new_store_id", lambda: "5" * 16)
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    examples = int(os.environ.get(EXAMPLES_ENV, "30"))
    quick = settings(max_examples=examples, stateful_step_count=40, deadline=None, database=None, derandomize=True)
    quick = settings(quick, suppress_health_check=slow, phases=[Phase.generate])
    run_state_machine_as_test(LockStep, settings=quick)
