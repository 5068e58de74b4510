"""A few of the lie points, other ones with each day; and the exchanges and kinds that all of them are made of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gemqueue.policy.beliefs import Belief
from tests.proofs.liepoints import SCENARIOS, Point, run, sample, verdicts
from tests.worlds.lying import KINDS

COUNT = 16
NEEDS = {
    Belief.NOT_CREATED: Point("doubt", "list:1", "blank", "once"),
    Belief.REFUSED: Point("plain", "create:1", "refused", "30s"),
    Belief.NO_OUTPUT: Point("plain", "poll:1", "failed", "30s"),
    Belief.RESULTS_GONE: Point("plain", "download:1", "denied", "30s"),
    Belief.ROWS_MISSING: Point("plain", "download:1", "short", "30s"),
    Belief.JOB_UNKNOWN: Point("plain", "poll:1", "denied", "30s"),
    Belief.FILE_UNUSABLE: Point("plain", "upload:1", "never ready", "30s"),
    Belief.FILE_GONE: Point("plain", "poll:1", "blames input", "30s"),
    Belief.NOT_ANSWERED: Point("flex", "answer:1", "lost", "30s"),
}
"""For each row of the table of beliefs a point that holds for its evidence alone."""


@pytest.mark.timeout(600)
def test_lies_at_an_exchange_buy_nothing_again() -> None:
    """Whatever is told at whichever exchange, each prompt gets its answer, and is bought once."""
    every = [point for point, _ in verdicts(None)]
    assert {point.scenario for point in every} == set(SCENARIOS)
    assert {point.at.partition(":")[0] for point in every} >= KINDS.keys() - {"files"}
    seed = datetime.now(UTC).toordinal()
    assert harmed(sample(every, COUNT, seed)) == {}, f"seed {seed}"


@pytest.mark.timeout(600)
def test_no_belief_is_concluded_without_its_evidence() -> None:
    """For each row of the table: a lie that would buy again, if one look were believed, harms nobody."""
    assert set(NEEDS) == set(Belief)
    assert harmed(list(NEEDS.values())) == {}


@pytest.mark.timeout(600)
def test_an_outage_denies_nothing() -> None:
    """However long results cannot be read: what nobody denied is not given up."""
    assert harmed([Point("plain", "download:1", kind, "8h") for kind in ("html 404", "html 503", "lost")]) == {}


@pytest.mark.timeout(600)
def test_a_cancellation_is_asked_for_until_the_job_has_ended() -> None:
    """A slow job whose cancellation was denied once, as if it were not there, does not hold its prompts for days."""
    assert harmed([Point("cancelled", "cancel:1", "denied", "once")]) == {}


def harmed(points: list[Point]) -> dict[str, str]:
    """Those that do not hold, and what broke."""
    return {point.name: broken for point, broken in run(points, 1) if broken}
