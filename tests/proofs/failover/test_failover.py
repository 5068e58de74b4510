"""Sentinel failover and partitions, with real servers: what is acknowledged stays, where a replica is waited for."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from gemqueue import Queue
from gemqueue.config import Settings
from gemqueue.errors import StoreUnavailable
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.store.scripts import NotReplicated
from gemqueue.store.store import Store
from gemqueue_workers.manage.doctor import examine
from gemqueue_workers.server_notes import written
from tests.proofs.failover.lost import FAILOVERS, measure, one_prompt
from tests.proofs.failover.single import SINGLE, measure_single
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import Pair
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3.8-flash"
EVERYSEC_KEEPS_BACK_MS = 2000
SCHEDULING_MS = 1000


async def test_acknowledged_writes_lost_per_durability() -> None:
    """A failover loses nothing that a replica had confirmed; a partitioned old master loses most of what it alone said.

    The four run side by side, for most of it is waiting for the sentinel.
    """
    kill, asking, alone = FAILOVERS
    cases = [(kill, "replicated"), (asking, "replicated"), (alone, "replicated"), (alone, "local")]
    found = await asyncio.gather(*(measure(*case, before_s=0.3, after_s=0.3) for case in cases))
    replicated, local = found[:3], found[3]
    assert [row.lost for row in replicated] == [0, 0, 0]
    assert all(row.acknowledged > 0 for row in found)
    assert all(row.acknowledged_after > 0 for row in replicated[:2]), "it goes on once there is a replica again"
    assert local.lost > local.acknowledged_after / 2 > 0


async def test_a_killed_server_keeps_what_it_acknowledged() -> None:
    """On a slow disk kill -9 loses nothing with always and no, and with everysec up to two seconds, replica or not."""
    always, no, everysec, _, back_at_once, torn = SINGLE
    kept = await asyncio.gather(*(measure_single(case) for case in (always, no)))
    late = await asyncio.gather(*(measure_single(case) for case in (everysec, back_at_once)))
    cut = await measure_single(torn)
    assert [row.lost for row in kept] == [0, 0]
    assert all(0 < row.lost < row.acknowledged - row.acknowledged_after for row in (*late, cut))
    assert all(row.lost_span_ms < EVERYSEC_KEEPS_BACK_MS + SCHEDULING_MS for row in late)
    assert [row.durability for row in late] == ["local", "replicated"]


async def test_everything_goes_on_after_a_failover(tmp_path: Path) -> None:
    """Producer and worker follow the sentinels through the master's death: all answered, none bought twice."""
    settings = {"durability": "replicated", "replicate_s": 0.3, "submit_timeout_s": 60.0, "batch_prompts_max": 100}
    async with Pair() as pair, Processes(tmp_path, pair, "failover", settings, job_s=0.5) as world:
        world.start_worker()
        async with Queue.connect(settings=world.settings) as queue:
            first = asyncio.create_task(queue.map([f"before {n}" for n in range(300)], model=MODEL))
            await until(lambda: _counted(world, "submitted", 100), what="a batch submitted")
            await asyncio.to_thread(pair.master.kill)
            second = asyncio.create_task(queue.map([f"after {n}" for n in range(100)], model=MODEL))
            await pair.promoted()
            await pair.mend()
            outcomes = [*await first, *await second]
        assert all(outcome.ok for outcome in outcomes)
        assert world.emulator.ledger()["bought_twice"] == []
        await world.drained()


async def _counted(world: Processes, name: str, n: int) -> bool:
    try:
        return (await world.store.counts()).get(name, 0) >= n
    except StoreUnavailable:
        return False


async def test_what_no_replica_has_is_not_acknowledged() -> None:
    """Without a live replica a write is refused as unknown; asking again, which writes nothing, confirms nothing."""
    async with Pair() as pair:
        settings = Settings(queue="unsure", redis_url=pair.url, durability="replicated", replicate_s=0.2)
        store, other = Store(pair.url, settings), Store(pair.url, settings)
        segment, body = one_prompt(new_segment_id(), new_producer_id())
        pair.replica.signal(signal.SIGSTOP)
        for asking in (store, other):  # the second asks on a connection that has written nothing
            with pytest.raises(NotReplicated):
                await asking.enqueue(segment, body)
        with pytest.raises(NotReplicated):
            await store.confirm()
        pair.replica.signal(signal.SIGCONT)
        await until(lambda: _confirmed(store), what="confirmed again")
        assert (await other.enqueue(segment, body)).word == "ok"
        assert (await store.counts())["accepted"] == segment.count
        await store.aclose()
        await other.aclose()


async def test_doctor_says_when_there_is_no_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """With durability replicated and no replica the doctor fails; a submit is refused as unknown and says why."""
    with ValkeyServer() as server:
        settings = {
            "REDIS_URL": server.url,
            "DURABILITY": "replicated",
            "REPLICATE_S": "0.1",
            "SUBMIT_TIMEOUT_S": "0.3",
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"GEMQUEUE_{name}", value)
        found = {finding.what: finding for finding in await examine(emulate=True)}
        assert found["replicas"].state == "failed"
        assert "nothing is acknowledged" in found["replicas"].said
        async with Queue.connect(emulate=True) as queue:
            with pytest.raises(StoreUnavailable, match="no replica confirmed within 100 ms"):
                await queue.submit("one", model=MODEL)


@pytest.mark.parametrize(
    ("extra", "state", "said"),
    [
        (("--appendfsync", "always"), "ok", "writes through"),
        (("--appendfsync", "everysec"), "warning", "two seconds"),
        (("--appendfsync", "no"), "warning", "power cut"),
        (("--no-appendfsync-on-rewrite", "yes"), "warning", "rewrite"),
        (("--appendonly", "no"), "warning", "snapshot"),
        (("--rename-command", "CONFIG", "NOT-FOR-YOU"), "warning", "cannot see"),
    ],
)
async def test_doctor_says_what_the_log_may_lose(
    extra: tuple[str, ...], state: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the server writes its log, the doctor says what that may lose, and recommends always or replicated."""
    with ValkeyServer(extra=extra) as server:
        monkeypatch.setenv("GEMQUEUE_REDIS_URL", server.url)
        (found,) = [finding for finding in await examine(emulate=True) if finding.what == "log"]
    assert (found.state, said in found.said) == (state, True)
    assert ("appendfsync always" in found.said and "replicated" in found.said) == (state == "warning")


def test_doctor_says_what_a_replica_does_not_save() -> None:
    """With durability replicated a log that lags is no warning, but what it may still lose is said."""
    found = written({"appendonly": "yes", "appendfsync": "everysec"}, "replicated")
    assert (found.state, "comes back before" in found.said, "two seconds" in found.said) == ("ok", True, True)


async def _confirmed(store: Store) -> bool:
    try:
        await store.confirm()
    except StoreUnavailable:
        return False
    return True


async def test_nothing_is_created_while_no_replica_confirms(tmp_path: Path) -> None:
    """Without a replica a batch is held with the reason and no job is created; it goes on when one is back."""
    settings = {"durability": "replicated", "replicate_s": 0.2}
    async with Pair() as pair, Processes(tmp_path, pair, "held", settings) as world:
        await world.submit(["one", "two"])
        pair.replica.signal(signal.SIGSTOP)
        world.start_worker()

        async def held() -> bool:
            batches = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
            return any(batch is not None and batch.held_reason.startswith("replica: ") for batch in batches)

        await until(held, what="held for want of a replica")
        assert world.emulator.ledger()["jobs"] == []
        pair.replica.signal(signal.SIGCONT)
        await world.drained()
        assert all("response" in outcome for outcome in (await world.judge()).values())
