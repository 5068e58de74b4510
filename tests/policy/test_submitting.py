"""What a create leads to: what is sent, what is in doubt, and what a refusal costs."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.policy import backoff, submitting
from gemqueue.policy.beliefs import Pace, pace_of
from gemqueue.policy.submitting import Refusal, SubmitStep
from gemqueue.provider import JobStatus, Search
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, Cause, JobState
from tests.policy.records import LANE, SETTINGS, batches, numbers

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


@given(batch=batches(), now_ms=numbers, settle_s=st.floats(31, 100), deaths=st.integers(0, 30))
def test_submit_steps_never_send_over_an_intent(batch: Batch, now_ms: int, settle_s: float, deaths: int) -> None:
    """Only a sealed batch is uploaded; one with an intent is fenced, then waited for, and only then looked at."""
    settings = msgspec.structs.replace(SETTINGS, settle_s=settle_s)
    batch = msgspec.structs.replace(batch, deaths=deaths)
    step = submitting.submit_step(batch, now_ms, settings)
    settle_s = min(settle_s * 4.0**deaths, 3600)
    assert (step is SubmitStep.UPLOAD) == (batch.state is BatchState.SEALED)
    if step is SubmitStep.FIND:
        assert batch.fenced_at > 0
        assert now_ms - batch.fenced_at >= settle_s * 1000 - 1
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


def _found(token: str, job: str, **fields: Any) -> JobStatus:
    return msgspec.structs.replace(JobStatus(job=job, display_name=token, state=JobState.RUNNING), **fields)


def _doubted(**fields: Any) -> Batch:
    made = Batch(id="b", v=1, state=BatchState.SUBMITTING, lane=LANE, fence=1)
    past: dict[str, Any] = {"intent_token": "t3", "past_tokens": "t1 t2", "missed_jobs": "batches/0"}
    return msgspec.structs.replace(made, **past | fields)


def test_any_job_of_the_batch_is_adopted() -> None:
    """That of the standing intent first, whatever became of it; else one thought dead that lives or has results."""
    failed = {"state": JobState.FAILED}
    own, dead = _found("t3", "batches/3", **failed), _found("t2", "batches/2", **failed)
    alive, brought = _found("t1", "batches/1"), _found("t1", "batches/1", output_file="files/o", **failed)
    replaced = _found("t1", "batches/0")
    assert submitting.tokens_of(_doubted()) == {"t1", "t2", "t3"}
    cases = [((alive, own), own), ((dead, alive), alive), ((dead, brought), brought), ((dead,), None), ((), None)]
    for jobs, expected in cases:
        assert submitting.adopted(Search(jobs=jobs), _doubted()) == expected
    assert submitting.adopted(Search(jobs=(replaced,)), _doubted()) is None


def test_a_listing_without_a_known_job_says_nothing() -> None:
    """Jobs of the account that were created after the intent must be listed, once they had time to show.

    That of a batch with earlier intents may be older than the last of them, and than the listing goes back.
    """
    doubted, now_ms = _doubted(intent_at=1_000_000), 2_000_000

    def other(job: str, intent_at: int, accepted_at: int, **fields: Any) -> Batch:
        made = Batch(id=job, v=1, state=BatchState.SUBMITTED, lane=LANE, fence=1, job=job)
        return msgspec.structs.replace(made, intent_at=intent_at, accepted_at=accepted_at, **fields)

    others = [
        other("batches/later", 1_100_000, 1_101_000),
        other("batches/before", 900_000, 1_101_000),
        other("batches/just", 1_950_000, 1_951_000),
        other("batches/found", 1_100_000, 1_101_000, created_at=900_000, past_tokens="gq-found-1"),
        other("batches/ended", 1_100_000, 1_101_000, state=BatchState.ENDED),
        other("batches/unknown", 1_100_000, 1_101_000, seen_what="job_unknown"),
        other("batches/foreign", 1_100_000, 1_101_000, lane=Lane.parse("b/m/generate/batch")),
    ]
    must = submitting.must_be_listed(doubted, others, now_ms, SETTINGS)
    assert must == {"batches/later"}
    assert submitting.shown_by_listing(Search(), must) == ""
    whole = submitting.shown_by_listing(Search(listed=frozenset({"batches/later", "batches/x"})), must)
    assert (whole, pace_of(whole)) == ("not_created witnessed", Pace.SECOND)
    assert pace_of(submitting.shown_by_listing(Search(), frozenset())) is Pace.LISTINGS


def test_each_death_makes_the_next_look_later() -> None:
    """Four times as long each time, and an hour at the most: who is away is not sent create after create."""
    waits = [submitting.look_at_ms(_doubted(fenced_at=0, deaths=n), SETTINGS) / 1000 for n in range(6)]
    assert waits == [90, 360, 1440, 3600, 3600, 3600]
