"""How outcomes are gathered before they are settled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue_workers.stages.outcome_buffer import OutcomeBuffer, Row

BOUND_BYTES = 4_000_000


class Recorded(OutcomeBuffer):
    """A buffer that keeps what it would settle."""

    def __init__(self, counts: dict[str, int]) -> None:
        kit = SimpleNamespace(settings=Settings(resolve_buffer_bytes_max=BOUND_BYTES))
        super().__init__(cast("Any", kit), cast("Any", None), lambda origin: counts[origin])
        self.calls: list[dict[str, list[Row]]] = []

    async def _settle(self, group: dict[str, list[Row]]) -> None:
        self.calls.append(group)


async def land(buffers: list[Recorded], rows: list[tuple[int, str, int, int]]) -> None:
    for at, origin, index, size_bytes in rows:
        buffers[at].add(origin, index, b"x" * size_bytes, "answered")
        if buffers[at].full:
            await buffers[at].flush(everything=False)
        assert not buffers[at].full
    for buffer in buffers:
        await buffer.flush(everything=True)


@given(st.data())
def test_every_outcome_lands_once_and_complete_origins_whole(data: st.DataObject) -> None:
    """In whatever order rows come: each is settled once, and where all fits, an origin is settled in one call."""
    counts = data.draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 6), min_size=1))
    size_bytes = data.draw(st.sampled_from([10, 100_000, 200_000, 1_500_000]))
    rows = data.draw(
        st.permutations([(0, origin, n, size_bytes) for origin, count in counts.items() for n in range(count)])
    )
    buffer = Recorded(counts)
    asyncio.run(land([buffer], rows))
    settled = [(origin, row[0]) for call in buffer.calls for origin, of_it in call.items() for row in of_it]
    assert sorted(settled) == sorted((origin, n) for _, origin, n, _ in rows)
    if sum(counts.values()) * (size_bytes + 100) < BOUND_BYTES and max(counts.values()) * size_bytes < 1_000_000:
        assert sorted(origin for call in buffer.calls for origin in call) == sorted(counts)


def test_in_order_an_origin_goes_as_soon_as_it_is_complete() -> None:
    """Rows that come segment by segment never fill the buffer: no more than one call's worth waits."""
    counts = {f"{n}": 1000 for n in range(20)}
    buffer = Recorded(counts)
    asyncio.run(land([buffer], [(0, origin, n, 1000) for origin in counts for n in range(1000)]))
    assert [list(call) for call in buffer.calls] == [[origin] for origin in counts]


def test_buffers_share_the_bound() -> None:
    """Shuffled rows of many batches at once take no more memory than those of one."""
    counts = {f"{n}": 1000 for n in range(10)}
    buffers = [Recorded(counts) for _ in range(4)]
    held: list[int] = []

    async def run() -> None:
        added_bytes = 0
        for n in range(400):
            for buffer in buffers:
                for origin in counts:
                    buffer.add(origin, n, b"x" * 936, "answered")
                added_bytes += 10_000
                if buffer.full:
                    await buffer.flush(everything=False)
            calls = [rows for buffer in buffers for call in buffer.calls for rows in call.values()]
            held.append(added_bytes - 1000 * sum(map(len, calls)))

    asyncio.run(run())
    assert BOUND_BYTES // 2 < max(held) <= BOUND_BYTES + 4 * 10_000
