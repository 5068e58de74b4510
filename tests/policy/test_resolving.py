"""What an ended job and its rows come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.language.gemini.rows import Verdict
from gemqueue.policy import backoff, resolving
from gemqueue.policy.resolving import ResolvePlan, RowFate
from gemqueue.states import BatchState, JobState

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch
from tests.policy.records import SETTINGS, batches, numbers, statuses


@given(batch=batches(), status=st.none() | statuses())
def test_every_ended_batch_has_a_plan(batch: Batch, status: JobStatus | None) -> None:
    """Results are collected only where there are some; nothing goes back where results were collected."""
    plan = resolving.resolve_plan(batch, status)
    if plan is ResolvePlan.COLLECT:
        assert status is not None
        assert status.has_output
        assert batch.state is not BatchState.CLOSING
    if batch.job_state == resolving.REFUSED:
        assert plan is ResolvePlan.REFUSE
    if batch.job_state == resolving.EMPTY:
        assert plan is ResolvePlan.CLOSE
    if batch.state is BatchState.CLOSING and batch.job_state == JobState.SUCCEEDED:
        assert plan is ResolvePlan.CLOSE


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


@given(batch=batches())
def test_results_are_believed_gone_only_after_many_denials(batch: Batch) -> None:
    """A job that succeeded has been paid for: its results are given up when they have been denied ten times."""
    succeeded = msgspec.structs.replace(batch, job_state="succeeded")
    assert resolving.believe_gone(succeeded) == (batch.denials >= 10)


@given(rows=numbers, told=numbers, short_reads=st.integers(0, 10))
def test_missing_rows_are_believed_in_the_end(rows: int, told: int, short_reads: int) -> None:
    """Rows are missing when the provider counts no more, or has said so often enough."""
    assert resolving.believe_missing(short_reads, rows, told) == (rows >= told or short_reads >= 3)


@given(batch=batches(), rows=numbers)
def test_a_denied_job_keeps_its_count_of_rows(batch: Batch, rows: int) -> None:
    """What was seen of a job at its end is what is known of it when the provider denies it: how many rows, too."""
    known = resolving.known_output(
        msgspec.structs.replace(batch, output_file="files/out", job_state="succeeded", rows=rows)
    )
    assert known is not None
    assert (known.rows, known.output_file, known.has_output) == (rows, "files/out", True)
    assert resolving.known_output(msgspec.structs.replace(batch, output_file="")) is None
