"""Malformed records: each is named, left out and counted by whoever reads it, and everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from gemqueue.states import Step
from gemqueue.store import codec, metrics
from gemqueue.store.runs import RunStore
from gemqueue_workers.manage import dead, show
from gemqueue_workers.manage.beliefs import belief
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.metrics import exposition
from gemqueue_workers.run.connection import Link
from gemqueue_workers.serve.page import status_page
from tests.worlds.stages import ACCOUNT, LANE, MODEL, Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Break = tuple[str, ...]
"""A command of the server's, with the key's parts in the place of its first argument, by ``/``."""


class Kind(NamedTuple):
    """A kind of record: what its name begins with where it is named, and the ways in which one is broken.

    In the commands, BATCH, SEGMENT and LANE stand for the broken ones; a key is what stands behind the queue's prefix.
    """

    named: str
    ways: dict[str, list[list[Any]]]


JUNK = b"\xff\xfe junk"
OF_OTHER_TYPE = "of another type"


def hash_ways(key: str, **fields: Any) -> dict[str, list[list[Any]]]:
    """A field after the other is junk, then the key holds another type of value."""
    ways = {f"{name} = {value!r}": [["HSET", key, name, value]] for name, value in fields.items()}
    return ways | {OF_OTHER_TYPE: [["DEL", key], ["SET", key, "a string"]]}


KINDS = {
    "batch": Kind(
        "batch BATCH",
        hash_ways("batch:BATCH", fence="x", state="frozen", lane="no lane", prompts="many", held_since=JUNK)
        | {f"without {name}": [["HDEL", "batch:BATCH", name]] for name in ("fence", "state", "lane", "v")},
    ),
    "lane": Kind(
        "lane other/m/generate/batch",
        {
            name: [["SADD", "lanes", "other/m/generate/batch"], *way]
            for name, way in hash_ways("lane:other/m/generate/batch", prompts="x", fence=JUNK, oldest="x").items()
        },
    ),
    "lane's name": Kind("lane ", {"junk": [["SADD", "lanes", JUNK]], "too short": [["SADD", "lanes", "a/b"]]}),
    "segment": Kind(
        "segment SEGMENT",
        hash_ways("segmeta:SEGMENT", state="frozen", count="x", lane="no lane", keys=b"\xc1", priority="x"),
    ),
    "worker": Kind(
        "worker w1",
        {
            name: [["ZADD", "workers", 10**15, "w1 pack"], *way]
            for name, way in hash_ways("worker:w1", accounts=JUNK).items()
            if name == OF_OTHER_TYPE
        },
    ),
    "dead letter": Kind(
        "dead letter ",
        {
            "without fields": [["XADD", "dead", "*", "key", "0.0"]],
            "junk": [["XADD", "dead", "*", "key", "a.0", "lane", JUNK, "kind", "x", "message", "", "body", "{}"]],
            "no body": [["XADD", "dead", "*", "key", "a.0", "lane", LANE, "kind", "x", "message", "", "body", "{"]],
            "no key": [["XADD", "dead", "*", "key", "a", "lane", LANE, "kind", "x", "message", "", "body", "{}"]],
        },
    ),
    "quarantined row": Kind("", {"junk": [["XADD", "quarantine", "*", "batch", JUNK, "row", JUNK]]}),
    "unknown job": Kind("unknown job batches/x", {"junk": [["HSET", f"unknown:{ACCOUNT}", "batches/x", b"\xc1"]]}),
    "reservation": Kind("reservation b1", {"junk": [["HSET", f"reserved:{ACCOUNT}", "b1", "many"]]}),
    "quota": Kind(f"quota {ACCOUNT} spend", {"junk": [["HSET", f"quota:{ACCOUNT}", "spend", b"\xc1"]]}),
    "turnaround": Kind(
        f"turnaround {ACCOUNT} {MODEL} 1", {"junk": [["HSET", f"turnaround:{ACCOUNT}:{MODEL}", "1", b"\xc1"]]}
    ),
    "counter": Kind("counter odd", {"text": [["HSET", "counts", "odd", "many"]]}),
    "cost": Kind(f"cost of {LANE} answers", {"text": [["HSET", f"spent:{LANE}", "answers", "many"]]}),
    "usage": Kind("", {"of a newer one": [["HSET", f"usage:{LANE}", "a|b|c|d", "1"]]}),
    "account": Kind(f"account {ACCOUNT}", {"text": [["HSET", f"account:{ACCOUNT}", "input_needed_at", "x"]]}),
    "clock": Kind(f"clock of {ACCOUNT}", {"text": [["HSET", f"clock:{ACCOUNT}", "back_at", "x", "back_ms", "y"]]}),
    "due step": Kind(
        "",
        {
            "junk": [["ZADD", f"due:{ACCOUNT}", 1, JUNK]],
            "unknown": [["ZADD", f"due:{ACCOUNT}", 1, "melt b1"]],
            "of nothing": [["ZADD", f"due:{ACCOUNT}", 1, "submit nothing"]],
        },
    ),
}
CASES = [(kind, way) for kind, (_, ways) in KINDS.items() for way in ways]


class World:
    """One batch that is whole and one whose records may be broken, each of a segment with two prompts."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.named = ""

    async def fill(self) -> None:
        """The broken one first, so that it stands before the other everywhere."""
        self.segment = await self.stages.submit("lost", "as well")
        self.batch = await self.stages.sealed()
        self.whole = await self.stages.submit("one", "two")
        self.other = await self.stages.submitted()

    def _said(self, word: Any) -> Any:
        said = word if isinstance(word, bytes) else str(word)
        if isinstance(said, str):
            said = said.replace("BATCH", self.batch).replace("SEGMENT", self.segment)
        return said

    async def broken(self, kind: str, way: str) -> None:
        """Break the one record."""
        store = self.stages.store
        for name, key, *words in KINDS[kind].ways[way]:
            await store.redis.execute_command(name, store.key(self._said(key)), *map(self._said, words))
        self.named = self._said(KINDS[kind].named)

    async def read(self, read: Callable[[RunStore], Coroutine[Any, Any, Any]]) -> tuple[Any, dict[str, str]]:
        """What a reader sees with a store of its own, and what it leaves out."""
        store = RunStore(self.stages.settings.redis_url, self.stages.settings, self.stages.clock)
        try:
            return await read(store), dict(store.unreadable.found)
        finally:
            await store.aclose()


def link(store: RunStore) -> Link:
    """A command's connection."""
    return Link(store, ACCOUNT, None)


async def _page(store: RunStore) -> str:
    return status_page(await read_status(store.settings))


async def _letters(store: RunStore) -> Any:
    return [*await dead.listed(link(store), kind=""), *await store.quarantined()]


READERS: dict[str, Callable[[RunStore], Coroutine[Any, Any, Any]]] = {
    "status": lambda store: read_status(store.settings),
    "page": _page,
    "batches": lambda store: show.batches(link(store)),
    "metrics": metrics.read,
    "exposition": exposition,
    "belief": lambda store: belief.beliefs(link(store)),
    "dead": _letters,
    "ledger": lambda store: store.ledger(ACCOUNT),
    "clock": lambda store: store.clock_back(ACCOUNT),
    "held": lambda store: store.held_reason(ACCOUNT),
}


@pytest.mark.parametrize(("kind", "way"), CASES)
async def test_a_malformed_record_is_left_out(stages: Stages, kind: str, way: str) -> None:
    """Every reader reads the rest, somebody names the record, and the other batch is answered by one look at each."""
    world = World(stages)
    await world.fill()
    await world.broken(kind, way)
    met: dict[str, str] = {}
    for name, read in READERS.items():
        seen, left_out = await world.read(read)
        met |= left_out
        if name == "status":
            met |= seen.unreadable
            assert world.other in [batch.id for batch in seen.batches]
        elif name == "batches":
            assert world.other in [line.id for line in seen]
        elif name == "page":
            assert world.other in seen
    if world.named:
        assert any(what.startswith(world.named) for what in met), met
    assert (await stages.compare()).foreign == 0
    for _ in range(12):
        for member, _due in await stages.store.overdue(ACCOUNT, tuple(Step)):
            step, _, id_ = member.partition(" ")
            await stages.step(Step(step), id_)
        (blobs,) = await stages.store.outcomes([(world.whole, 0)], 9)
        if sum(codec.expand(blob).count(b'"response"') for blob in blobs) == 2:
            return
        stages.jobs_end()
    raise AssertionError("the other batch is not answered")
