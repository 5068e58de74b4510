"""Calls in doubt as decisions: how often a prompt is asked for, and when its lane asks no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemqueue.policy.deadlines import Next, Service
from gemqueue.policy.doubts import (
    CALLS_MAX,
    DOUBTS_MAX,
    RETRY_S,
    AfterDoubts,
    after_doubts,
    after_silence,
    wait_s,
    why_doubt,
    why_failed,
    why_silent,
)
from gemqueue.policy.holds import cause_of
from gemqueue.states import Cause

NOW = 1_800_000_000_000
BOTH = (Service.FLEX, Service.STANDARD)


def test_what_becomes_of_a_prompt_whose_calls_are_in_doubt() -> None:
    """Two calls, then its batch; where no batch may have it, four more calls an hour apart, then it fails."""
    assert [after_doubts(n, batch_may=True) for n in range(4)] == ["ask", "ask", "batch", "batch"]
    assert [after_doubts(n, batch_may=False) for n in range(8)] == ["ask"] * 2 + ["wait"] * 4 + ["fail"] * 2


@given(st.integers(0, 100), st.booleans())
def test_no_prompt_is_asked_for_without_end(doubts: int, batch_may: bool) -> None:
    """Each call in doubt brings a prompt nearer to its end, and what has come to one never goes back."""
    order = list(AfterDoubts)
    now, later = after_doubts(doubts, batch_may=batch_may), after_doubts(doubts + 1, batch_may=batch_may)
    assert order.index(later) >= order.index(now)
    asked = sum(after_doubts(n, batch_may=batch_may) in {AfterDoubts.ASK, AfterDoubts.WAIT} for n in range(100))
    assert asked == (CALLS_MAX if batch_may else CALLS_MAX + DOUBTS_MAX)


@given(
    st.sampled_from(list(Service)),
    st.floats(0, 3600),
    st.one_of(st.none(), st.floats(-1000, 10**6)),
    st.integers(0, 40),
    st.sampled_from([(), (Service.FLEX,), (Service.STANDARD,), BOTH]),
)
def test_a_silent_lane_keeps_no_prompt_that_a_batch_may_have(
    service: Service, pause_s: float, slack_s: float | None, refusals: int, allowed: tuple[Service, ...]
) -> None:
    """It goes to its batch; where standard is allowed and will make it, it waits for that, never past its lead."""
    after = after_silence(Next(service, pause_s), slack_s, refusals, allowed, 180.0)
    if service == "standard" or Service.STANDARD not in allowed or slack_s is None:
        assert after == Next("batch")
    elif after.service == "flex":
        assert slack_s > 180
        assert after.delay_s <= min(pause_s, slack_s - 180)
    else:
        assert after in {Next("standard"), Next("batch")}


@given(st.integers(-(10**9), 10**9))
def test_an_hour_lies_between_two_calls(past_ms: int) -> None:
    """The wait is over an hour after the last call, and a clock that went back makes it no longer than that."""
    left_s = wait_s(NOW - past_ms, NOW)
    assert 0 <= left_s <= RETRY_S
    assert (left_s == 0) == (past_ms >= RETRY_S * 1000)
    assert wait_s(0, NOW) == 0


def test_it_is_said_what_is_waited_for() -> None:
    """The reason names the service, how many calls, since when, and has its cause in its words' stead."""
    assert why_doubt("flex", 3).text.startswith("doubt: 3 calls to flex for one prompt got no reply")
    silent = why_silent("flex", NOW)
    assert "calls to flex get no replies since 2027-01-15 08:00 UTC" in silent.text
    assert cause_of(silent.cause, silent.text) is Cause.DOUBT
    assert why_failed("standard", 6).startswith("6 calls to standard got no reply")
