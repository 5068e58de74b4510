"""When a running job's batch is read again for the sake of what was cancelled."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gemqueue.policy.cancels import UNPLACED_S, may_be_unwanted, unplaced
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, Kind

LOOK_MS = int(UNPLACED_S * 1000)
NOW_MS = 1_800_000_000_000


def batch(**fields: Any) -> Batch:
    """A batch with a job."""
    lane = Lane("emulated.local", "m", Kind.GENERATE)
    return Batch(id="00b", v=1, state=BatchState.SUBMITTED, lane=lane, fence=1, **fields)


@given(left=st.integers(1, 1000), cancelled=st.integers(1, 2000))
def test_a_batch_is_read_when_its_last_prompt_may_be_gone(left: int, cancelled: int) -> None:
    """Read once, it is read again when as many more were cancelled as were open then, and not before."""
    first = batch(cancels=1)
    assert may_be_unwanted(first, {}, NOW_MS)
    read = batch(cancels=1 + cancelled, cancels_met=1, open_left=left, looked_at=NOW_MS)
    assert may_be_unwanted(read, {}, NOW_MS + LOOK_MS) == (cancelled >= left)


@given(counts=st.fixed_dictionaries({name: st.integers(0, 9) for name in ("cancelled", "rescued", "cancels_placed")}))
def test_what_others_cancelled_is_looked_for_now_and_then(counts: dict[str, int]) -> None:
    """Prompts of which nobody knows the batch have it read every ten minutes at most; those of other batches never."""
    met = unplaced(counts)
    assert not may_be_unwanted(batch(unplaced_met=met), counts, NOW_MS)
    more = counts | {"cancelled": counts["cancelled"] + 1}
    known = more | {"cancels_placed": counts["cancels_placed"] + 1}
    for ago_ms, due in ((LOOK_MS - 1, False), (LOOK_MS, True)):
        found = batch(unplaced_met=met, looked_at=NOW_MS - ago_ms)
        assert may_be_unwanted(found, more, NOW_MS) == due
        assert not may_be_unwanted(found, known, NOW_MS)
