"""Deadlines as decisions: what a caller may say, and which way a prompt goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import PromptInvalid
from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError
from gemqueue.policy.beliefs import LIFE_MS
from gemqueue.policy.deadlines import (
    Next,
    Prospect,
    Service,
    Verdict,
    Where,
    after_failure,
    after_refusal,
    deadline_at_ms,
    given_back_s,
    judge,
    way_now,
    ways,
    where_of,
)
from gemqueue.records import Batch
from gemqueue.states import BatchState, Kind
from tests.policy.records import LANE

NOW = 1_800_000_000_000
SETTINGS = Settings(deadline_policy="standard")
BOTH = (Service.FLEX, Service.STANDARD)


@pytest.mark.parametrize(
    "said",
    [3600, 3600.0, timedelta(hours=1), datetime.fromtimestamp(NOW / 1000 + 3600, UTC)],
)
def test_a_deadline_is_seconds_a_timedelta_or_a_time(said: object) -> None:
    """Every way of saying "in an hour" means the same time."""
    assert deadline_at_ms(said, NOW) == NOW + 3_600_000


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (0, "has passed"),
        (-5, "has passed"),
        (timedelta(seconds=-1), "has passed"),
        (float("nan"), "not within the next year"),
        (float("inf"), "not within the next year"),
        (1e12, "not within the next year"),
        (True, "must not be a bool"),
        ("tomorrow", "must not be a str"),
        (datetime(2030, 1, 1), "without a time zone"),  # noqa: DTZ001 - that is the point
        (datetime(1999, 1, 1, tzinfo=UTC), "has passed"),
    ],
)
def test_a_bad_deadline_is_refused_with_a_way_out(said: object, problem: str) -> None:
    """What cannot be meant is refused at the door, with what to give instead."""
    with pytest.raises(PromptInvalid, match=problem) as refused:
        deadline_at_ms(said, NOW)
    assert "time zone" in str(refused.value)


@given(st.floats(0.001, 10**7), st.integers(NOW, NOW + 10**6))
def test_a_deadline_is_never_in_the_past_nor_later_than_said(said_s: float, now_ms: int) -> None:
    """Cutting to the second, which lets prompts share segments, moves a deadline forward by less than a second."""
    at_ms = deadline_at_ms(said_s, now_ms)
    assert now_ms < at_ms <= now_ms + said_s * 1000 + 1
    assert at_ms > now_ms + said_s * 1000 - 1000


def prospect(slack_s: float, where: Where = Where.WAITING, batch_s: float | None = 600.0, ahead: int = 1) -> Prospect:
    """A segment whose deadline is so far away."""
    return Prospect(NOW + round(slack_s * 1000), NOW, where, batch_s, ahead)


@pytest.mark.parametrize(
    ("seen", "service"),
    [
        (prospect(3600 * 5), None),
        (prospect(3600 * 5, batch_s=None), Service.FLEX),
        (prospect(3600 * 25, batch_s=None), None),
        (prospect(3600 * 5, batch_s=3600 * 6.0), Service.FLEX),
        (prospect(100), Service.STANDARD),
        (prospect(3600 * 5, Where.UNDER_WAY, 3600 * 40.0), None),
        (prospect(1750, Where.UNDER_WAY), Service.FLEX),
        (prospect(150, Where.UNDER_WAY), Service.STANDARD),
        (prospect(1750, Where.ENDED), None),
        (prospect(150, Where.ENDED), Service.STANDARD),
        (prospect(-1), None),
        (prospect(1750, Where.UNDER_WAY, ahead=1_000_000), None),
    ],
)
def test_which_way_a_segment_goes(seen: Prospect, service: Service | None) -> None:
    """Waiting, it leaves once a batch cannot be expected to make it; packed, at the last moment; never in vain."""
    assert judge(seen, BOTH, SETTINGS).service == service


@given(
    st.floats(-10, 200_000),
    st.sampled_from(list(Where)),
    st.one_of(st.none(), st.floats(0, 200_000)),
    st.integers(0, 100_000),
    st.sampled_from([(), (Service.FLEX,), (Service.STANDARD,), BOTH]),
)
def test_a_verdict_sends_waits_or_gives_up_and_always_gets_on(
    slack_s: float, where: Where, batch_s: float | None, ahead: int, allowed: tuple[Service, ...]
) -> None:
    """A segment goes only where it may; one that waits is looked at later than now and before its deadline."""
    seen = prospect(slack_s, where, batch_s, ahead)
    verdict = judge(seen, allowed, SETTINGS)
    if verdict.service is not None:
        assert verdict.service in allowed
        assert seen.deadline_at > seen.now_ms
    elif verdict.again_at:
        assert seen.now_ms <= verdict.again_at
        if ahead * 60 / SETTINGS.interactive_per_min_max <= slack_s:
            assert verdict.again_at <= seen.deadline_at
    else:
        assert not allowed or slack_s <= 0.001


def test_a_policy_names_the_dearest_way() -> None:
    """Batch allows none, flex Flex, standard both; embeddings know no Flex."""
    assert [ways(policy, Kind.GENERATE) for policy in ("batch", "flex", "standard")] == [(), (Service.FLEX,), BOTH]
    assert [ways(policy, Kind.EMBED) for policy in ("flex", "standard")] == [(), (Service.STANDARD,)]
    assert judge(prospect(1), (), SETTINGS) == Verdict()
    assert way_now(1.0, (Service.FLEX,), SETTINGS) is Service.FLEX
    with pytest.raises(ConfigError, match="deadline_policy"):
        load_settings(env={}, deadline_policy="cheap")


def test_what_follows_a_call_without_an_answer() -> None:
    """Flex is tried again until only standard can make it; what is refused too often goes back to the batch lane."""
    here = Next("flex", 40.0)
    assert after_failure(here, 1000.0, 0, BOTH, 180.0) == here
    assert after_failure(here, 200.0, 0, BOTH, 180.0) == Next("flex", 20.0)
    assert after_failure(here, 180.0, 0, BOTH, 180.0) == Next("standard")
    assert after_failure(here, 10.0, 0, (Service.FLEX,), 180.0) == here
    assert after_failure(here, None, 0, BOTH, 180.0) == here
    assert after_failure(here, 1000.0, 30, BOTH, 180.0) == Next("batch")
    assert after_failure(Next("standard", 3.0), 1.0, 1, BOTH, 180.0) == Next("standard", 3.0)
    assert after_refusal("flex", BOTH) == Next("standard")
    assert after_refusal("flex", (Service.FLEX,)) == Next("batch")
    assert after_refusal("standard", BOTH) == Next("batch")


def under(state: BatchState, what: str, n: int, held: str = "") -> Batch:
    """A batch of which so many looks showed this."""
    return Batch(id="b", v=3, state=state, lane=LANE, fence=1, held_reason=held, seen_what=what, seen_n=n)


@pytest.mark.parametrize(
    ("batch", "where"),
    [
        (None, Where.WAITING),
        (under(BatchState.PACKING, "", 0), Where.UNDER_WAY),
        (under(BatchState.SEALED, "", 0), Where.UNDER_WAY),
        (under(BatchState.SEALED, "", 0, "open jobs: 100 of 100 in use"), Where.WAITING),
        (under(BatchState.SUBMITTED, "", 0), Where.UNDER_WAY),
        (under(BatchState.ENDED, "", 0), Where.ENDED),
        (under(BatchState.CLOSING, "", 0), Where.ENDED),
        (under(BatchState.ENDED, "results_gone file", 1), Where.UNDER_WAY),
        (under(BatchState.ENDED, "results_gone file", 2), Where.WAITING),
        (under(BatchState.ENDED, "no_output expired", 1), Where.UNDER_WAY),
        (under(BatchState.ENDED, "no_output expired", 2), Where.WAITING),
        (under(BatchState.ENDED, "rows_missing 3", 2), Where.UNDER_WAY),
        (under(BatchState.ENDED, "a_newer_belief", 9), Where.UNDER_WAY),
        (under(BatchState.SUBMITTED, "job_unknown", 1, "doubt"), Where.UNDER_WAY),
        (under(BatchState.SUBMITTED, "job_unknown", 2, "doubt"), Where.WAITING),
        (under(BatchState.SUBMITTED, "file_gone", 2, "doubt"), Where.WAITING),
        (under(BatchState.SUBMITTING, "", 0), Where.UNDER_WAY),
        (under(BatchState.SUBMITTING, "not_created", 1, "doubt"), Where.UNDER_WAY),
        (under(BatchState.SUBMITTING, "not_created", 9, "doubt"), Where.UNDER_WAY),
        (under(BatchState.SEALED, "not_created", 1, "doubt"), Where.UNDER_WAY),
        (under(BatchState.SEALED, "refused", 1, "doubt"), Where.UNDER_WAY),
        (under(BatchState.SEALED, "refused", 2, "doubt"), Where.WAITING),
    ],
)
def test_where_the_prompts_of_a_batch_are(batch: Batch | None, where: Where) -> None:
    """What two looks deny is not waited for; one look, or a create in doubt, leaves a batch under way."""
    assert where_of(batch) is where


@pytest.mark.parametrize(
    ("what", "n", "left_s"),
    [("results_gone file", 2, 21_600 - 600), ("results_gone file", 1, 0), ("no_output expired", 2, 0)],
)
def test_what_a_belief_keeps_is_expected_that_much_later(what: str, n: int, left_s: float) -> None:
    """Denied results go back when they are believed to be gone, and a batch has them only after that."""
    batch = msgspec.structs.replace(under(BatchState.ENDED, what, n), seen_first_at=NOW - 600_000)
    assert given_back_s(batch, NOW, SETTINGS) == left_s
    wanted = Prospect(NOW + 3600 * 5 * 1000, NOW, where_of(batch), 600.0, 1, given_back_s(batch, NOW, SETTINGS))
    assert judge(wanted, BOTH, SETTINGS).service == ("flex" if left_s else None)


def test_a_job_that_nobody_knows_keeps_its_prompts_for_its_life() -> None:
    """Its prompts go back when nothing of it can be left at the provider."""
    batch = msgspec.structs.replace(under(BatchState.SUBMITTED, "job_unknown", 2), accepted_at=NOW - 3600 * 1000)
    assert given_back_s(batch, NOW, SETTINGS) == 49 * 3600
    assert given_back_s(batch, NOW + LIFE_MS, SETTINGS) == given_back_s(None, NOW, SETTINGS) == 0
