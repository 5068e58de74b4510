"""A run's list holds exactly what was bought, and belongs to one process at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.config import Settings
from gemqueue.errors import ConfigError
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import cancelled_line, line
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.runs import RunEntry, RunStore, pack_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ACCOUNT = "emulated.local"
LANE = f"{ACCOUNT}/gemini-3.8-flash/generate/batch"


@pytest.fixture
async def store(redis_url: str, queue_name: str, no_leaks: None) -> AsyncGenerator[RunStore]:  # noqa: ARG001
    """A queue of its own for the test, which must leave nothing behind."""
    store = RunStore(redis_url, Settings(queue=queue_name, keep_outcome_s=50.0, keep_delivered_s=50.0))
    yield store
    await store.aclose()


def segment(epoch: int, keys: list[str]) -> tuple[SegmentWrite, bytes]:
    """A segment of a run with these rows."""
    id_ = new_segment_id()
    body = b"".join(line(f"{id_}.{n}", generate_request(key)) for n, key in enumerate(keys))
    entry = pack_entry(RunEntry(id_, keys, bytes(8 * len(keys))))
    write = SegmentWrite(
        id=id_, lane=LANE, producer=new_producer_id(), count=len(keys), raw_bytes=len(body), tokens=9,
        run="nightly", epoch=epoch, entry=entry,
    )  # fmt: skip
    return write, codec.compress(body)


async def cancel_all(store: RunStore, write: SegmentWrite) -> None:
    """Settle every prompt of a segment."""
    for index in range(write.count):
        await store.cancel(write.id, index, codec.compress(cancelled_line(f"{write.id}.{index}")))


async def test_a_segment_and_its_entry_are_registered_together_and_once(store: RunStore) -> None:
    """However often the same segment is enqueued, the list has one entry for it, with its keys."""
    record = await store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    write, body = segment(record.epoch, ["a", "b"])
    for _ in range(3):
        assert (await store.enqueue(write, body)).word == "ok"
    (entry,) = await store.run_entries(ACCOUNT, "nightly", 0, 10)
    assert (entry.segment, entry.keys) == (write.id, ["a", "b"])
    found = await store.run_record(ACCOUNT, "nightly")
    assert found is not None
    assert (found.rows, found.open, found.entries) == (2, 1, 1)
    await cancel_all(store, write)


async def test_who_was_superseded_buys_nothing(store: RunStore) -> None:
    """A process that held the run before cannot enqueue under it any more, and its body is dropped."""
    old = await store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    new = await store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    assert (new.producer, new.epoch) == (old.producer, old.epoch + 1)
    write, body = segment(old.epoch, ["a"])
    assert (await store.enqueue(write, body)).word == "superseded"
    assert await store.bodies([write.id]) == [None]
    assert (await store.counts()).get("accepted", 0) == 0


async def test_other_settings_are_refused(store: RunStore) -> None:
    """A run that was begun with one model does not go on with another, and the message says which."""
    await store.open_run(ACCOUNT, "nightly", '{"model":"a"}', "{}", [])
    with pytest.raises(ConfigError, match="model = 'a', and now it is 'b'"):
        await store.open_run(ACCOUNT, "nightly", '{"model":"b"}', "{}", [])


async def test_a_run_goes_on_in_the_mode_that_it_began_in(store: RunStore) -> None:
    """A new run merges, or does as it is asked to; what 0.2.0 began replaces; another mode is refused, and said."""
    for name, asked, mode in (("new", "", "merge"), ("asked", "replace", "replace"), ("old", "", "merge")):
        record = await store.open_run(ACCOUNT, name, "{}", "{}", [], config_mode=asked)
        assert record.config_mode == mode
    await store.redis.hdel(store.key("run", ACCOUNT, "old"), "config_mode")
    for name, mode, other in (("new", "merge", "replace"), ("asked", "replace", "merge"), ("old", "replace", "merge")):
        found = await store.run_record(ACCOUNT, name)
        assert found is not None
        assert found.config_mode == mode
        with pytest.raises(ConfigError, match=f"config_mode = '{mode}', and now it is '{other}'"):
            await store.open_run(ACCOUNT, name, "{}", "{}", [b"never"], config_mode=other)
        for asked in ("", mode):
            record = await store.open_run(ACCOUNT, name, "{}", "{}", [], config_mode=asked)
            assert (record.config_mode, record.entries) == (mode, 0)


async def test_a_run_lives_as_long_as_its_prompts(store: RunStore) -> None:
    """While a prompt is under way the record has no TTL and cannot be purged; then it has one, and can."""
    record = await store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    write, body = segment(record.epoch, ["a"])
    await store.enqueue(write, body)
    names = [store.key("run", ACCOUNT, "nightly"), store.key("runlist", ACCOUNT, "nightly")]
    assert [await store.redis.ttl(name) for name in names] == [-1, -1]
    with pytest.raises(ConfigError, match="under way"):
        await store.purge(ACCOUNT, "nightly", [write.id])
    await cancel_all(store, write)
    assert all([0 < await store.redis.ttl(name) <= 50 for name in names])
    assert await store.run_names(ACCOUNT) == ["nightly"]
    assert await store.purge(ACCOUNT, "nightly", [write.id]) == 1
    assert await store.run_record(ACCOUNT, "nightly") is None
    assert (await store.counts())["live_bytes"] == 0
