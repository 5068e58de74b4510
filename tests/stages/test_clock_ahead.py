"""The server's clock jumps ahead: every wait is over at once, and still nothing is bought twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.errors import Rejected, StaleFence
from gemqueue.states import BatchState, Kind, Step
from gemqueue_workers.stages.contents import BatchContents
from tests.worlds.stages import ACCOUNT, MODEL

if TYPE_CHECKING:
    from tests.worlds.stages import Stages

pytestmark = pytest.mark.usefixtures("no_leaks")

HOUR_S = 3600.0
LAG_S = 45.0
LAGS = {"on": "list", "do": "lag", "seconds": LAG_S}


@pytest.mark.parametrize(
    "faults",
    [
        [{"on": "create", "do": "lost_after", "nth": [1]}, LAGS],
        [{"on": "create", "do": "delayed", "seconds": 10, "nth": [1]}, LAGS],
    ],
)
async def test_an_hour_ahead_while_a_create_is_in_doubt(stages: Stages, faults: list[dict[str, Any]]) -> None:
    """Between fence and first look the clock jumps, and the list lacks the job: it is adopted, or never was."""
    stages.emulator.faults(faults)
    await stages.submit("one", "two")
    batch = await stages.sealed()
    await stages.step(Step.SUBMIT, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.fenced_at > 0
    stages.clock.advance(HOUR_S)
    await stages.step(Step.SUBMIT, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.state is BatchState.SUBMITTING
    await stages.drain()
    assert stages.emulator.ledger()["rows_bought"] == 2
    assert await stages.count("answered") == 2
    assert await stages.count("bought_twice") == 0


async def test_an_hour_ahead_before_the_create_is_sent(stages: Stages) -> None:
    """The holder's lease ends early and another worker has the batch: the create that comes late is refused."""
    await stages.submit("one", "two")
    batch = await stages.sealed()
    taken = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert taken is not None
    contents = await BatchContents.load(stages.store, batch)
    size_bytes = await contents.upload_bytes()
    file = await stages.provider.upload(contents.upload_chunks(), size_bytes=size_bytes, name="late")
    token = f"gq-late-{batch}-1"
    claim = await stages.store.begin(taken[0], token, file)
    stages.clock.advance(HOUR_S)
    await stages.step(Step.SUBMIT, batch)
    with pytest.raises(Rejected):
        await stages.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=token)
    with pytest.raises(StaleFence):
        await stages.store.accept(claim, "batches/late", "created", 0.0)
    await stages.drain()
    assert stages.emulator.ledger()["rows_bought"] == 2
    assert await stages.count("answered") == 2
