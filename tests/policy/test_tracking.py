"""What follows from a look at a job, and when the next one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.policy import tracking
from gemqueue.policy.tracking import TrackStep
from gemqueue.records import Batch, WebhookHealth
from gemqueue.states import BatchState, JobState

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
from tests.policy.records import LANE, SETTINGS, batches, numbers, statuses


@given(batch=batches(), status=statuses())
def test_polls_are_bounded_and_end_with_the_job(batch: Batch, status: JobStatus) -> None:
    """Looks keep to their delays; a batch ends exactly when its job has; without output it waits for a second look."""
    after = tracking.after_poll(batch, status, SETTINGS)
    assert (after.step is TrackStep.END) == status.state.terminal
    if after.step is TrackStep.LATER:
        assert SETTINGS.poll_first_s <= after.delay_s <= SETTINGS.poll_max_s
    else:
        assert after.job_state is status.state
        assert (after.delay_s > 0) == (status.state is JobState.CANCELLED or not status.has_output)
        assert after.delay_s <= 600
    assert tracking.poll_delay_s(batch.polls, SETTINGS) <= tracking.poll_delay_s(batch.polls + 1, SETTINGS)


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
