"""Rows that belong to nobody: kept, counted, and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.store.batches import QUARANTINE_ROW_BYTES_MAX, QUARANTINE_ROWS_MAX
from tests.worlds.bench import Bench, bench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    async with bench(redis_url, queue_name) as made:
        yield made


async def test_quarantine_is_bounded_by_bytes(here: Bench) -> None:
    """However many rows belong to nobody and however long they are, some 64 MB of them are kept, the newest."""
    assert QUARANTINE_ROWS_MAX * QUARANTINE_ROW_BYTES_MAX < 70_000_000
    await here.store.quarantine("00b", [("foreign", b"x" * (QUARANTINE_ROW_BYTES_MAX + 1))])
    ((_, fields),) = await here.store.redis.xrange(here.store.key("quarantine"))
    assert len(fields[b"row"]) == QUARANTINE_ROW_BYTES_MAX
    await here.store.quarantine("00b", [("foreign", b"%d" % n) for n in range(3 * QUARANTINE_ROWS_MAX)])
    kept = await here.store.quarantined("00b")
    assert len(kept) == QUARANTINE_ROWS_MAX
    assert kept[0].row == str(3 * QUARANTINE_ROWS_MAX - 1)
    assert await here.store.redis.xlen(here.store.key("quarantine")) <= QUARANTINE_ROWS_MAX + 100
    assert (await here.store.counts())["quarantined"] == 3 * QUARANTINE_ROWS_MAX + 1
