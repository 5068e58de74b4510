"""What the answers of a batch took, by the model that gave them, and an alarm when that is not the one that was asked.

Every answer is looked at, since a service may begin to route in the middle of a job: the modelVersion is read where the
row is decoded anyway. Nothing is held for it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import structlog

from gemqueue.language.gemini.usage import Spent
from gemqueue_workers.model_table import billed_as, is_rerouted
from gemqueue_workers.prices import charge

if TYPE_CHECKING:
    from gemqueue.language.gemini.usage import Charge, Usage
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.resolve")

_VERSION_CHARS_MAX = 80


class Spending:
    """Counts answers, and writes them to the lane's account."""

    def __init__(self, kit: Kit, batch: Batch) -> None:
        self._kit = kit
        self._lane = batch.lane
        self._asked = batch.lane.model
        self._asked_at_ms = batch.intent_at
        self._spent: dict[str | None, Spent] = {}

    def count(self, usage: Usage | None, version: str | None) -> None:
        """One more answer, with the model that it says it is by."""
        spent = self._spent.get(version)
        if spent is None:
            spent = self._spent[version] = Spent()
        spent.count(usage)

    def forget(self) -> None:
        """What was counted since the last write was written down before."""
        self._spent = {}

    async def write(self) -> None:
        """Write down what was counted, and say so where a model has answered in place of another for the first time."""
        if not self._spent:
            return
        spent, self._spent = self._spent, {}
        day = dt.datetime.fromtimestamp((self._asked_at_ms or self._kit.store.clock.now_ms()) / 1000, tz=dt.UTC).date()
        charges: dict[Charge, Spent] = {}
        for version, one in spent.items():  # several may be charged alike: none at all and an empty one, say
            by = charge(self._asked, _clean(version or ""), day)
            charges[by] = charges.get(by, Spent()) + one
        other = {by.version: one.answers for by, one in charges.items() if is_rerouted(self._asked, by.version)}
        new = await self._kit.store.add_spent(self._lane, charges, sum(other.values()))
        for version in sorted(new & other.keys()):
            log.warning(
                "model.rerouted",
                lane=self._lane,
                asked=self._asked,
                answered_by=version,
                answers=other[version],
                billed_as=billed_as(self._asked, version),
            )


def _clean(version: str) -> str:
    """What it says, as short as it should be, and without what separates the fields of a record."""
    return version[:_VERSION_CHARS_MAX].replace("|", "_")
