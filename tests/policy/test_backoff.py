"""Delays: bounded, growing, the same for the same record; and what counts as evidence."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import Rejected, ShortRead, Transient
from gemqueue.policy import backoff
from gemqueue.records import Batch
from gemqueue.states import BatchState
from tests.policy.records import LANE, SETTINGS, batches


@given(
    first_s=st.floats(0.001, 100), times=st.floats(1, 1000), failures=st.integers(0, 10**9), salt=st.text(max_size=9)
)
def test_backoff_stays_in_bounds(first_s: float, times: float, failures: int, salt: str) -> None:
    """A delay is at most the maximum and at least three quarters of the first, and the same for the same record."""
    max_s = first_s * times
    delay_s = backoff.backoff_s(first_s, max_s, failures, salt)
    assert 0.75 * first_s * 0.999 <= delay_s <= max_s
    assert delay_s == backoff.backoff_s(first_s, max_s, failures, salt)


@given(failures=st.integers(0, 60), salt=st.text(max_size=9))
def test_backoff_grows(failures: int, salt: str) -> None:
    """The next delay is never shorter by more than the spread of a quarter, and longer until the maximum is near."""
    now_s = backoff.backoff_s(1.0, 300.0, failures, salt)
    next_s = backoff.backoff_s(1.0, 300.0, failures + 1, salt)
    assert next_s >= 0.75 * now_s
    assert next_s > now_s or now_s >= 0.75 * 256


@given(batch=batches(), error=st.sampled_from(["away", "short", "denied", "refused"]))
def test_an_outage_is_no_evidence(batch: Batch, error: str) -> None:
    """An error is a try and no more; only what a server has lost of a collection is counted apart."""
    said: dict[str, Exception] = {
        "away": Transient("503", call="results"),
        "short": ShortRead("1 of 2 rows came", call="results"),
        "denied": Rejected("404", call="poll", missing=True),
        "refused": Rejected("403", call="poll", auth=True),
    }
    after = msgspec.structs.replace(batch, **backoff.counted(batch, said[error]).fields())
    assert after.tries == batch.tries + 1
    assert after.seen_n == batch.seen_n
    assert after.short_reads == batch.short_reads + (error == "short")


@given(crashes=st.integers(0, 100), held=st.integers(0, 100))
def test_a_batch_that_kills_its_workers_is_held_once_for_each_death(crashes: int, held: int) -> None:
    """Below crashes_max a batch is tried; from there each death holds it once, for a bounded time, and then it is."""
    batch = Batch(id="b", v=1, state=BatchState.SEALED, lane=LANE, fence=1, crashes=crashes, crashes_held=held)
    hold_s = backoff.crash_hold_s(batch, SETTINGS)
    assert (hold_s is None) == (crashes < SETTINGS.crashes_max or crashes == held)
    assert hold_s is None or 0 < hold_s <= SETTINGS.backoff_max_s
