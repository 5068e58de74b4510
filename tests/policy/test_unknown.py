"""Which jobs are unknown: those that no record knows though one should."""

from __future__ import annotations

import msgspec
import pytest

from gemqueue.config import Settings
from gemqueue.policy.job_names import job_token, parse
from gemqueue.policy.unknown import Unknown, again_s, is_twice, is_unknown, look_every_s
from gemqueue.provider import JobStatus
from gemqueue.records import Batch
from gemqueue.states import BatchState, JobState
from tests.policy.records import LANE, SETTINGS

NOW_MS = 2_000_000_000_000
DAY_MS = 24 * 3600 * 1000
BATCH = "00b" + "a" * 20
TOKEN = job_token("c0ffee00", BATCH, 7)
OLD = JobStatus(
    job="batches/1", state=JobState.RUNNING, display_name=TOKEN, created_at_ms=NOW_MS - DAY_MS, ended_at_ms=0
)
ENDED = msgspec.structs.replace(OLD, state=JobState.SUCCEEDED, ended_at_ms=NOW_MS - DAY_MS)
SHORT = Settings(keep_outcome_s=7200.0, keep_delivered_s=3600.0)
RECORD = Batch(id=BATCH, v=1, state=BatchState.SUBMITTED, lane=LANE, fence=9, intent_token=TOKEN)


def unknown(job: JobStatus, record: Batch | None = None, settings: Settings = SETTINGS) -> bool:
    """Whether the job is unknown, whose name is its display name."""
    token = parse(job.display_name)
    assert token is not None
    return is_unknown(job, token, record, NOW_MS, settings)


def batch(**fields: object) -> Batch:
    """The batch's record, but for these fields."""
    return msgspec.structs.replace(RECORD, **fields)


@pytest.mark.parametrize(
    ("job", "record", "settings", "expected"),
    [
        (OLD, None, SETTINGS, True),
        (ENDED, None, SETTINGS, True),
        (ENDED, None, SHORT, False),  # the record of a batch that is done goes after keep_outcome_s
        (OLD, None, SHORT, True),
        (msgspec.structs.replace(OLD, state=JobState.FAILED), None, SETTINGS, False),
        (msgspec.structs.replace(OLD, created_at_ms=NOW_MS - 1000), None, SETTINGS, False),
        (msgspec.structs.replace(OLD, created_at_ms=NOW_MS - 5 * DAY_MS), None, SETTINGS, False),  # nothing is left
        (msgspec.structs.replace(OLD, created_at_ms=0), None, SETTINGS, True),  # not told: two looks count anyway
        (msgspec.structs.replace(OLD, display_name=f"gq-{BATCH}-7"), None, SETTINGS, False),
        (OLD, batch(job="batches/1"), SETTINGS, False),
        (OLD, batch(state=BatchState.SEALED, intent_token=""), SETTINGS, True),
        (OLD, batch(state=BatchState.SEALED, intent_token="", missed_jobs="batches/1"), SETTINGS, False),
        (OLD, batch(state=BatchState.SUBMITTING), SETTINGS, False),
        (OLD, batch(state=BatchState.SUBMITTING, intent_token=job_token("c0ffee00", BATCH, 5)), SETTINGS, True),
        (OLD, batch(state=BatchState.CLOSED), SETTINGS, True),
    ],
)
def test_unknown_jobs(job: JobStatus, record: Batch | None, settings: Settings, *, expected: bool) -> None:
    """A job is unknown where its record is gone too soon, or stands there without a job that it should have."""
    assert unknown(job, record, settings) is expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, False),
        (batch(job="batches/2"), True),
        (batch(job="batches/1"), False),
        (batch(state=BatchState.SUBMITTING, intent_token=job_token("c0ffee00", BATCH, 9)), False),
        (batch(job="batches/2", intent_token=job_token("c0ffee00", BATCH, 5), past_tokens=TOKEN), True),
    ],
)
def test_bought_twice_is_a_job_beside_another(record: Batch | None, *, expected: bool) -> None:
    """Only a batch that has another job has bought twice; one whose create is in doubt may still adopt this one."""
    token = parse(TOKEN)
    assert token is not None
    assert is_twice(OLD, token, record) is expected


def test_looks_are_rare_until_there_is_a_reason() -> None:
    """Once in ten minutes, and once a minute while a job waits to be seen again or its state was not compared."""
    counted = Unknown(job="batches/1", state="running", compared="running", counted=True)
    assert (look_every_s(SETTINGS), look_every_s(SETTINGS, [counted])) == (600.0, 600.0)
    for more in ({"counted": False}, {"state": "succeeded"}):
        assert look_every_s(SETTINGS, [msgspec.structs.replace(counted, **more)]) == again_s(SETTINGS) == 60.0
    assert look_every_s(Settings(belief_s=1.0)) == 10.0
