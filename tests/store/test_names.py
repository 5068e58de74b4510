"""Whose a name is: a segment that had it before leaves it alone once it is another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Step
from gemqueue.store.runs import RunStore
from tests.worlds.bench import ACCOUNT, Bench, bench, landing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

pytestmark = pytest.mark.usefixtures("no_leaks")

TAKEN, OTHER = (0, "doc-1", "d" * 32), (1, "doc-2", "e" * 32)


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        yield made


@pytest.fixture
async def runs(here: Bench) -> AsyncGenerator[RunStore]:
    store = RunStore(here.store.url, here.settings, here.clock)
    yield store
    await store.aclose()


async def settled(here: Bench, first: str) -> None:
    """The last outcome of the first segment comes."""
    claim = await here.claim(Step.RESOLVE, (await here.store.open_batches())[0])
    assert (await here.store.settle(claim, [landing(first, [1])]))[0] == "ok"


async def cancelled(here: Bench, first: str) -> None:
    """The last prompt of the first segment is cancelled."""
    assert await here.store.cancel(first, 1, b"cancelled") != "unknown"


@pytest.mark.parametrize("ends", [settled, cancelled])
async def test_a_name_that_was_taken_again_outlives_its_first_segment(
    here: Bench, runs: RunStore, ends: Callable[[Bench, str], Awaitable[None]]
) -> None:
    """Purged and taken again, a name gets no TTL when the first segment ends, and stays when its run is purged."""
    first = await here.enqueue(2, names=[TAKEN, OTHER])
    claim = await here.ended()
    await here.store.settle(claim, [landing(first, [0])])
    await runs.forget_name(ACCOUNT, first, f"{first}.0")
    assert await here.store.named(ACCOUNT, "doc-1") is None
    second = await here.enqueue(1, names=[TAKEN])
    await here.store.release(claim, 0.0)
    await ends(here, first)
    assert await here.ttl("name", ACCOUNT, "doc-1") == -1
    assert await here.ttl("name", ACCOUNT, "doc-2") > 0
    assert await runs.purge(ACCOUNT, "", [first]) == 1
    assert await here.store.named(ACCOUNT, "doc-1") == (f"{second}.0", "d" * 32)
    assert await here.store.named(ACCOUNT, "doc-2") is None


async def test_a_name_is_forgotten_of_its_own_prompt_alone(here: Bench, runs: RunStore) -> None:
    """A purge of another prompt, of the segment or of the one that had the name before, leaves the name."""
    first = await here.enqueue(2, names=[TAKEN, OTHER])
    await runs.forget_name(ACCOUNT, first, f"{first}.0")
    second = await here.enqueue(1, names=[TAKEN])
    before = await here.dump()
    for account, segment, key in (
        (ACCOUNT, first, f"{first}.0"),
        (ACCOUNT, second, f"{second}.1"),
        (ACCOUNT, second, f"{second}.00"),
        ("emulated.other", second, f"{second}.0"),
        (ACCOUNT, "00none", "00none.0"),
    ):
        await runs.forget_name(account, segment, key)
    assert await here.dump() == before
