"""A refusal for want of money as a decision: how long it waits, and where a pool goes meanwhile."""

from __future__ import annotations

import pytest

from gemqueue.config import Settings
from gemqueue.errors import Transient
from gemqueue.policy import backoff, quota
from gemqueue.policy.pools import Room, why_left
from gemqueue.policy.quota import Correction, Ledger
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState
from tests.policy.test_quota import OPEN
from tests.worlds.bench import LANE

HOUR_S = 3600
WHY = "Your project has exceeded its monthly spending cap."


def test_how_long_a_batch_waits_for_money() -> None:
    """Calls that buy wait the long pause or the provider's wish; a look is only made again, as after any trouble."""
    settings = Settings()
    batch = Batch(id="b", v=1, state=BatchState.SEALED, lane=Lane.parse(LANE), fence=1, prompts=10)
    said = {
        call: backoff.transient_delay_s(batch, Transient("429", call=call, spend=True, retry_after_s=wish_s), settings)
        for call, wish_s in (("create", None), ("upload", 60.0), ("answer", 9_000.0), ("poll", None))
    }
    assert said == {"create": HOUR_S, "upload": HOUR_S, "answer": 9_000.0, "poll": pytest.approx(1, abs=0.3)}
    assert quota.spend_pauses_s(settings) == (HOUR_S, 4 * HOUR_S)


def test_a_pool_goes_past_an_account_without_money() -> None:
    """Until the pause is over; then it may take a batch to try."""
    lesson = Correction(ceiling=0, max=0, held_until=1_000, why=WHY)
    room = Room(account="a", batches=(), ledger=Ledger((), {"spend": lesson}), now_ms=999)
    assert WHY in why_left(room, "m", 10, OPEN)
    after = Room(account="a", batches=(), ledger=Ledger((), {"spend": lesson}), now_ms=1_000)
    assert why_left(after, "m", 10, OPEN) == ""
