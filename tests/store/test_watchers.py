"""Processes that watch a segment: the dead leave, and so many register that a landing stays quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from gemqueue.store.scripts import SCRIPTS
from tests.worlds.bench import Bench, bench, landing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")

WATCHERS_MAX: Final = 64


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        yield made


async def watchers(here: Bench, segment: str) -> set[bytes]:
    """Who is registered."""
    return set(await here.store.redis.smembers(here.store.key("watch", segment)))


async def test_a_watcher_without_an_inbox_leaves_at_the_next_landing(here: Bench) -> None:
    """Outcomes that cannot be told to a dead process are the last that anybody tries to tell it."""
    segment = await here.enqueue()
    await here.store.open_inbox("00p2")
    for producer in ("00p2", "00p3"):
        await here.store.watch(segment, producer)
    await here.store.cancel(segment, 0, b"cancelled")
    assert await watchers(here, segment) == {b"00p2"}
    assert (await here.store.read_inbox("00p2", "0", 1))[1] == [segment]


async def test_the_dead_make_room_and_the_living_stay(here: Bench) -> None:
    """Where the set is full, a new watcher takes the place of a dead one; among living ones it looks by itself."""
    segment = await here.enqueue()
    await here.store.open_inbox("00live")
    for producer in ["00live", *(f"00dead{n}" for n in range(WATCHERS_MAX + 5))]:
        await here.store.watch(segment, producer)
    assert len(await watchers(here, segment)) <= WATCHERS_MAX
    for n in range(WATCHERS_MAX):
        await here.store.open_inbox(f"00p{n}")
        await here.store.watch(segment, f"00p{n}")
    full = await watchers(here, segment)
    assert len(full) == WATCHERS_MAX
    assert b"00live" in full
    watched = await here.store.watch(segment, "00late")
    assert watched is not None
    assert await watchers(here, segment) == full
    await here.store.cancel(segment, 0, b"cancelled")
    assert (await here.store.read_inbox("00live", "0", 1))[1] == [segment]


async def test_a_landing_is_bounded_whatever_has_registered(here: Bench) -> None:
    """A set that an older version let grow costs a settle as many commands as a full one, and shrinks."""
    segment = await here.enqueue()
    await here.store.redis.sadd(here.store.key("watch", segment), *(f"00dead{n}" for n in range(10_000)))
    await here.store.redis.hset(here.store.key("segmeta", segment), "watched", 1)
    claim = await here.ended()
    before = await here.store.redis.info("commandstats")
    assert (await here.store.settle(claim, [landing(segment, [0])]))[0] == "ok"
    after = await here.store.redis.info("commandstats")

    def calls(name: str) -> int:
        found = [stats.get(f"cmdstat_{name}", {}).get("calls", 0) for stats in (before, after)]
        return int(found[1] - found[0])

    assert calls("xadd") <= WATCHERS_MAX + 1
    assert len(await watchers(here, segment)) == 10_000 - WATCHERS_MAX
    assert f"WATCHERS_MAX = {WATCHERS_MAX}" in SCRIPTS["settle"][1]
