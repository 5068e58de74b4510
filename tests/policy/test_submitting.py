"""What a create leads to: what is sent, what is in doubt, and what a refusal costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.policy import backoff, submitting
from gemqueue.policy.submitting import Refusal, SubmitStep
from gemqueue.records import Batch
from gemqueue.states import BatchState, Cause, JobState
from tests.policy.records import LANE, SETTINGS, batches, numbers, statuses

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus


errors: st.SearchStrategy[ProviderError] = st.one_of(
    st.builds(Ambiguous, st.text(max_size=20)),
    st.builds(
        Transient,
        st.text(max_size=20),
        retry_after_s=st.none() | st.floats(0, 1e9),
        quota=st.booleans(),
        call=st.just("create"),
    ),
    st.builds(
        Rejected, st.text(max_size=20), missing=st.booleans(), auth=st.booleans(), line=st.none() | st.integers(1, 99)
    ),
    st.builds(ProviderError, st.text(max_size=20)),
)


@given(batch=batches(), now_ms=numbers, settle_s=st.floats(1, 100))
def test_submit_steps_never_send_over_an_intent(batch: Batch, now_ms: int, settle_s: float) -> None:
    """Only a sealed batch is uploaded; one with an intent is fenced, then waited for, and only then looked at."""
    step = submitting.submit_step(batch, now_ms, settle_s)
    assert (step is SubmitStep.UPLOAD) == (batch.state is BatchState.SEALED)
    if step is SubmitStep.FIND:
        assert batch.fenced_at > 0
        assert now_ms - batch.fenced_at >= settle_s * 1000
    if step is SubmitStep.WAIT:
        assert now_ms < batch.fenced_at + settle_s * 1000


@given(batch=batches(), error=errors)
def test_doubt_is_never_resent(batch: Batch, error: ProviderError) -> None:
    """An ambiguous create is in doubt and nothing else is; what follows from a certain refusal is bounded."""
    after = submitting.after_create_error(batch, error, SETTINGS)
    assert (after.refusal is Refusal.DOUBT) == isinstance(error, Ambiguous)
    if after.refusal is Refusal.LATER:
        assert 0 < after.delay_s <= SETTINGS.backoff_max_s
    if after.refusal in (Refusal.ISOLATE, Refusal.BISECT):
        assert batch.prompts > 1
        assert after.refusal is Refusal.ISOLATE or batch.refusals < SETTINGS.refusals_max
        assert isinstance(error, Rejected)
        assert not error.auth
        assert not error.missing
        assert (after.refusal is Refusal.ISOLATE) == (error.line is not None)
    if after.refusal is Refusal.REFUSE:
        assert isinstance(error, Rejected)
        assert not error.auth


@given(batch=batches(), message=st.text(max_size=20))
def test_a_wrong_key_fails_nobody(batch: Batch, message: str) -> None:
    """A refused account or a lost input file never fails the prompts at once; a missing model does."""
    held = submitting.after_create_error(batch, Rejected(message, auth=True, call="create"), SETTINGS)
    assert held.refusal is Refusal.LATER
    assert (held.hold.cause, held.hold.text.startswith("account (create)")) == (Cause.ACCOUNT, True)
    fresh = Batch(id="b", v=1, state=BatchState.SUBMITTING, lane=LANE, fence=1, prompts=9)
    lost = submitting.after_create_error(fresh, Rejected("file not found", missing=True), SETTINGS)
    model = submitting.after_create_error(
        fresh, Rejected("models/x is not found for API version v1beta", missing=True, model=True), SETTINGS
    )
    assert (lost.refusal, model.refusal) == (Refusal.LATER, Refusal.REFUSE)


@given(batch=batches(), denied=st.integers(0, 100))
def test_a_denied_create_is_believed_after_fifty(batch: Batch, denied: int) -> None:
    """A 404 that names no model fails a batch after fifty like it, however many quotas and outages came before."""
    error = Rejected("not found", missing=True, call="create")
    record = msgspec.structs.replace(batch, denied_creates=denied)
    after = submitting.after_create_error(record, error, SETTINGS)
    assert (after.refusal is Refusal.REFUSE) == (denied >= 50)
    assert backoff.denied_creates(record, error) == denied + 1
    assert backoff.denied_creates(record, Transient("429", quota=True, call="create")) == denied


@given(status=st.none() | statuses())
def test_only_a_job_that_had_its_file_is_adopted(status: JobStatus | None) -> None:
    """Nothing found is nothing to adopt, nor is a job that failed for want of its input file with nothing to show."""
    lacked_it = status is not None and status.state is JobState.FAILED and status.error_code == 5
    failed_without_file = lacked_it and not (status is not None and status.has_output)
    assert submitting.adoptable(status) == (status is not None and not failed_without_file)
