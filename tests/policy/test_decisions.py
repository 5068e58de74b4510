"""Every decision, held against what it promises for any record and any event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.errors import Ambiguous, ProviderError, Rejected, ShortRead, Transient
from gemqueue.language.gemini.rows import Verdict
from gemqueue.policy import backoff, holds, resolving, submitting, tracking
from gemqueue.policy.resolving import ResolvePlan, RowFate
from gemqueue.policy.submitting import Refusal, SubmitStep
from gemqueue.policy.tracking import TrackStep
from gemqueue.provider import JobStatus
from gemqueue.records import Batch, Lane, WebhookHealth
from gemqueue.states import BatchState, Cause, JobState

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = Settings()
numbers = st.integers(0, 10**6)
states = st.sampled_from(BatchState)
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


LANE = Lane.parse("a/m/generate/batch")


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
        denials=draw(st.integers(0, 20)),
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


@given(batch=batches(), now_ms=numbers, settle_s=st.floats(1, 100))
def test_submit_steps_never_send_over_an_intent(batch: Batch, now_ms: int, settle_s: float) -> None:
    """Only a sealed batch is uploaded; one with an intent is fenced, then waited for, and only then looked at."""
    step = submitting.submit_step(batch, now_ms, settle_s)
    assert (step is SubmitStep.UPLOAD) == (batch.state is BatchState.SEALED)
    if step is SubmitStep.LOOK:
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


@given(batch=batches(), status=statuses(), now_ms=st.integers(0, 10**10))
def test_polls_are_bounded_and_end_with_the_job(batch: Batch, status: JobStatus, now_ms: int) -> None:
    """Looks keep to their delays; a batch ends exactly when its job has; 404 is no end for two days."""
    after = tracking.after_poll(batch, status, SETTINGS)
    assert (after.step is TrackStep.END) == status.state.terminal
    if after.step is TrackStep.LATER:
        assert SETTINGS.poll_first_s <= after.delay_s <= SETTINGS.poll_max_s
    else:
        assert after.job_state is status.state
        assert (after.delay_s > 0) == (status.state is JobState.CANCELLED)
    missing = tracking.after_missing(batch, now_ms, SETTINGS)
    assert missing.alarm
    assert (missing.step is TrackStep.END) == (now_ms - batch.accepted_at > 50 * 3600 * 1000)
    assert tracking.poll_delay_s(batch.polls, SETTINGS) <= tracking.poll_delay_s(batch.polls + 1, SETTINGS)


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


@given(batch=batches(), error=st.sampled_from(["away", "short", "denied", "refused"]))
def test_an_outage_is_no_evidence(batch: Batch, error: str) -> None:
    """Only a denial counts towards believing that results are gone, only a short reading towards missing rows."""
    said: dict[str, Exception] = {
        "away": Transient("503", call="results"),
        "short": ShortRead("1 of 2 rows came", call="results"),
        "denied": Rejected("404", call="poll", missing=True),
        "refused": Rejected("403", call="poll", auth=True),
    }
    after = msgspec.structs.replace(batch, **backoff.counted(batch, said[error]).fields())
    assert after.tries == batch.tries + 1
    assert after.denials == batch.denials + (error == "denied")
    assert after.short_reads == batch.short_reads + (error == "short")
    if error in {"away", "refused"}:
        assert resolving.believe_gone(after) == resolving.believe_gone(batch)


WORDS: list[tuple[Callable[[], ProviderError], str]] = [
    (lambda: Transient("429", quota=True, call="create"), "quota (create): 429"),
    (lambda: Transient("429", spend=True, call="create"), "spend (create): 429"),
    (lambda: Transient("503", call="poll"), "provider (poll): 503"),
    (lambda: Rejected("403", auth=True, call="upload"), "account (upload): 403"),
]


@pytest.mark.parametrize(("error", "reason"), WORDS)
def test_held_reasons_say_whose_fault_it_is(error: Callable[[], ProviderError], reason: str) -> None:
    """What a batch waits for names the limit, account or provider, and the call; code asks for the cause."""
    held = holds.why_call_failed(error())
    assert held.text == reason
    assert str(held.cause) == reason.partition(" ")[0]


@pytest.mark.parametrize(
    ("cause", "reason", "expected"),
    [
        ("", "", Cause.NONE),
        ("account", "", Cause.NONE),
        ("", "account (poll): 403", Cause.ACCOUNT),
        ("", "open jobs: 3 of 3 in use", Cause.QUOTA),
        ("", "spend: the provider refuses for want of money", Cause.SPEND),
        ("", "replica: no replica confirms", Cause.REPLICA),
        ("", "crashes: 5 leases on this batch ran out", Cause.CRASHES),
        ("", "KeyError: 'x'", Cause.DEFECT),
        ("provider", "the provider does not know the job", Cause.PROVIDER),
        ("account", "quota (create): 429", Cause.QUOTA),  # a worker of 0.2.0 has written the reason since
        ("weather", "hail", Cause.DEFECT),  # of a newer one
    ],
)
def test_the_cause_of_a_record(cause: str, reason: str, expected: Cause) -> None:
    """A record of 0.2.0 has words alone: its causes are read from them, also where an older cause stands beside."""
    assert holds.cause_of(cause, reason) is expected


healths = st.builds(WebhookHealth, numbers, numbers)


@given(healths, numbers)
def test_webhooks_make_looks_rarer_only_while_they_prove_healthy(health: WebhookHealth, now_ms: int) -> None:
    """Never below one, never above six; one as long as there were fewer than five in a row, or none for a day."""
    factor = tracking.webhook_factor(health, now_ms)
    assert factor in {1.0, 6.0}
    if health.announced < 5:
        assert factor == 1.0
    assert tracking.webhook_factor(health, health.announced_at + 24 * 3600 * 1000) == 1.0


@given(batches(), numbers, st.floats(0.01, 1e6), healths, numbers)
def test_polling_never_stops(record: Batch, event_at: int, delay_s: float, health: WebhookHealth, now_ms: int) -> None:
    """Whatever webhooks say, the next look comes within six times its pause; after an event no later than without."""
    record = msgspec.structs.replace(record, event_at=event_at)
    found_s = tracking.announced_delay_s(record, delay_s, health, now_ms, SETTINGS)
    assert 0 < found_s <= 6 * delay_s
    if record.event_at:
        assert found_s <= delay_s


def test_a_job_whose_event_came_early_is_looked_at_soon() -> None:
    """The event is ahead of the state: after ``poll_first_s``, then after half the time since the event."""
    settings = Settings(poll_first_s=5.0)
    for since_s, pause_s in ((0, 5), (4, 5), (60, 30), (10_000, 300)):
        record = Batch(id="b", v=1, state=BatchState.SUBMITTED, lane=LANE, fence=1, event_at=1)
        found_s = tracking.announced_delay_s(record, 300, WebhookHealth(9, 1), 1 + since_s * 1000, settings)
        assert found_s == pause_s


@given(crashes=st.integers(0, 100), held=st.integers(0, 100))
def test_a_batch_that_kills_its_workers_is_held_once_for_each_death(crashes: int, held: int) -> None:
    """Below crashes_max a batch is tried; from there each death holds it once, for a bounded time, and then it is."""
    batch = Batch(id="b", v=1, state=BatchState.SEALED, lane=LANE, fence=1, crashes=crashes, crashes_held=held)
    hold_s = backoff.crash_hold_s(batch, SETTINGS)
    assert (hold_s is None) == (crashes < SETTINGS.crashes_max or crashes == held)
    assert hold_s is None or 0 < hold_s <= SETTINGS.backoff_max_s


@given(batch=batches(), rows=numbers)
def test_a_denied_job_keeps_its_count_of_rows(batch: Batch, rows: int) -> None:
    """What was seen of a job at its end is what is known of it when the provider denies it: how many rows, too."""
    known = resolving.known_output(
        msgspec.structs.replace(batch, output_file="files/out", job_state="succeeded", rows=rows)
    )
    assert known is not None
    assert (known.rows, known.output_file, known.has_output) == (rows, "files/out", True)
    assert resolving.known_output(msgspec.structs.replace(batch, output_file="")) is None
