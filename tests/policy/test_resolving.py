"""What an ended job and its rows come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.language.gemini.rows import Verdict
from gemqueue.policy import backoff, beliefs, resolving
from gemqueue.policy.beliefs import Evidence, Pace
from gemqueue.policy.resolving import ResolvePlan, RowFate
from gemqueue.provider import JobStatus
from gemqueue.states import BatchState, JobState

if TYPE_CHECKING:
    from gemqueue.records import Batch
from tests.policy.records import SETTINGS, batches, numbers, statuses


@given(batch=batches())
def test_every_ended_batch_has_a_plan(batch: Batch) -> None:
    """A job is looked at before anything is concluded of it, unless its batch was being closed already."""
    plan = resolving.first_plan(batch)
    if batch.job_state == resolving.REFUSED:
        assert plan is ResolvePlan.REFUSE
    elif batch.job_state == resolving.EMPTY:
        assert plan is ResolvePlan.CLOSE
    elif not batch.job:
        assert plan is ResolvePlan.GIVE_BACK
    elif batch.state is not BatchState.CLOSING:
        assert plan is ResolvePlan.LOOK
    elif batch.job_state == JobState.SUCCEEDED and not batch.cancel_at:
        assert plan is (ResolvePlan.LOOK if batch.short_reads else ResolvePlan.CLOSE)


@given(verdict=st.sampled_from([*Verdict, "missing"]), attempt=st.integers(0, 100), attempts_max=st.integers(1, 20))
def test_rows_are_not_retried_for_ever(verdict: str, attempt: int, attempts_max: int) -> None:
    """A row is retried only before its last attempt and only for the provider's fault; else it has its kind."""
    if verdict == Verdict.GARBAGE:
        with pytest.raises(KeyError):
            resolving.row_fate(verdict, attempt, attempts_max)
        return
    fate, kind = resolving.row_fate(verdict, attempt, attempts_max)
    assert (kind is None) == (fate is RowFate.ANSWER)
    if fate is RowFate.RETRY:
        assert attempt + 1 < attempts_max
    assert (fate in (RowFate.RETRY, RowFate.BURY)) == (verdict in ("retryable", "missing"))
    assert 0 < backoff.retry_delay_s(attempt, SETTINGS, verdict) <= SETTINGS.retry_max_s


@given(batch=batches(), status=st.none() | statuses(), output=st.sampled_from(["", "files/out"]))
def test_a_job_that_promised_results_is_doubted_for_hours(batch: Batch, status: JobStatus | None, output: str) -> None:
    """One that named an output or succeeded once has results, whatever it says later; a job that runs shows nothing."""
    ended = msgspec.structs.replace(batch, job_state=batch.job_state or "failed", output_file=output)
    if ended.job_state in {resolving.REFUSED, resolving.EMPTY}:
        return
    shown = resolving.shown_at_end(ended, status)
    if status is not None and not status.state.terminal:
        assert shown == ""
        return
    succeeded = JobState.SUCCEEDED in {ended.job_state, status.state if status is not None else ""}
    unknown = status is None and ended.ended_at < beliefs.job_end_ms(ended)
    promised = bool(output) or succeeded or unknown
    assert shown.startswith("results_gone" if promised else "no_output")
    assert (beliefs.pace_of(shown) is Pace.HOURS) == promised


@pytest.mark.parametrize(
    ("told", "read", "agrees"),
    [
        ((9, 0, 9), (9, 0, 0), True),  # the service never had the tenth
        ((9, 1, 10), (9, 0, 0), True),  # it counts the tenth as failed, and its file lacks the line
        ((8, 2, 10), (9, 1, 0), True),  # two failed, of which one has a line
        ((8, 1, 9), (8, 0, 1), True),  # a line that is no row
        ((10, 0, 10), (9, 0, 0), False),  # it counts the tenth as answered
        ((5, 0, 10), (5, 0, 0), False),  # counters of half a job beside half a file
        ((0, 0, 0), (9, 0, 0), False),  # it counts nothing
        ((0, 10, 10), (0, 0, 0), True),  # it counts all as failed, and has no line
        ((0, 10, 10), (0, 0, 9), False),  # but lines that are no rows are another service's page
        ((0, 0, 10), (0, 0, 0), False),  # another service's page
        ((2, 0, 2), (0, 0, 2), False),  # lines, and no key among them
    ],
)
def test_counters_agree_only_where_they_add_up(
    *, told: tuple[int, int, int], read: tuple[int, int, int], agrees: bool
) -> None:
    """Rows are missing within minutes only where the service's own counters say just what came."""
    ok, failed, rows = told
    status = JobStatus(job="batches/1", state=JobState.SUCCEEDED, rows=rows, rows_ok=ok, rows_failed=failed)
    reading = resolving.Reading(*read, 1, "d")
    shown = resolving.shown_by_reading(status, reading)
    assert (beliefs.pace_of(shown) is Pace.ROWS) == agrees
    seen = Evidence(shown, 1, 1, 1)
    assert resolving.known_digest(seen) == "d"


@given(batch=batches(), rows=numbers)
def test_a_denied_job_keeps_its_count_of_rows(batch: Batch, rows: int) -> None:
    """What was seen of a job at its end is what is known of it when the provider denies it: how many rows, too."""
    known = resolving.known_output(
        msgspec.structs.replace(batch, output_file="files/out", job_state="succeeded", rows=rows)
    )
    assert known is not None
    assert (known.rows, known.output_file, known.has_output) == (rows, "files/out", True)
    assert resolving.known_output(msgspec.structs.replace(batch, output_file="")) is None
