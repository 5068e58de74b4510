"""What a job at the provider is to us."""

from __future__ import annotations

import msgspec
import pytest

from gemqueue.policy import job_names
from gemqueue.policy.reconciling import Standing, standing
from gemqueue.provider import JobStatus
from gemqueue.records import Batch
from gemqueue.states import BatchState, JobState
from tests.policy.records import LANE

TOKEN = job_names.job_token("0123abcd", "00b" + "0" * 20, 7)


def _standing(job: JobStatus, record: Batch) -> Standing:
    token = job_names.parse(TOKEN)
    assert token is not None
    return standing(job, token, record)


@pytest.mark.parametrize("missed", [True, False])
def test_a_job_that_lives_after_it_was_given_up_was_bought_twice(*, missed: bool) -> None:
    """One believed to have failed with nothing, and seen to live later, is counted; others are not."""
    record = Batch(id="b", v=3, state=BatchState.CLOSED, lane=LANE, fence=9, job_state="failed")
    given_up = {"missed_jobs": "batches/1", "job": "batches/2"} if missed else {"job": "batches/1", "given_back": 3}
    record = msgspec.structs.replace(record, **given_up)
    runs = JobStatus(job="batches/1", state=JobState.RUNNING, display_name=TOKEN)
    succeeded = msgspec.structs.replace(runs, state=JobState.SUCCEEDED)
    failed = msgspec.structs.replace(runs, state=JobState.FAILED)
    assert [_standing(job, record) for job in (runs, succeeded)] == [Standing.TWICE, Standing.TWICE]
    assert _standing(failed, record) is (Standing.OVER if missed else Standing.KNOWN)


def test_a_job_whose_results_came_is_known() -> None:
    """Where the end was doubted and the results came all the same, nothing was bought twice."""
    record = Batch(id="b", v=3, state=BatchState.CLOSED, lane=LANE, fence=9, job="batches/1", job_state="failed")
    job = JobStatus(job="batches/1", state=JobState.SUCCEEDED, display_name=TOKEN)
    assert _standing(job, record) is Standing.KNOWN
