"""Any record and any look at a job, for properties that hold of all."""

from __future__ import annotations

from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.policy import resolving
from gemqueue.provider import JobStatus
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, JobState

SETTINGS = Settings()
LANE = Lane.parse("a/m/generate/batch")
numbers = st.integers(0, 10**6)
states = st.sampled_from(BatchState)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any record."""
    return Batch(
        id=draw(st.text("0123456789abcdef", min_size=1, max_size=8)),
        v=1,
        state=draw(states),
        lane=LANE,
        fence=draw(numbers),
        prompts=draw(numbers),
        tries=draw(numbers),
        short_reads=draw(st.integers(0, 20)),
        refusals=draw(st.integers(0, 50)),
        polls=draw(numbers),
        fenced_at=draw(numbers),
        accepted_at=draw(numbers),
        job_state=draw(st.sampled_from(["", resolving.REFUSED, resolving.EMPTY, *JobState])),
    )


@st.composite
def statuses(draw: st.DrawFn) -> JobStatus:
    """Any look at a job."""
    return JobStatus(
        job="batches/1",
        state=draw(st.sampled_from(JobState)),
        output_file=draw(st.sampled_from(["", "files/out"])),
        inline=draw(st.booleans()),
        error_code=draw(st.sampled_from([0, 5, 13])),
    )
