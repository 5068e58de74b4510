"""The soak, short: each disturbance at least once, and every promise kept. ``make soak`` is the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue_adapters.emulator.service.lies import parse
from tests.proofs.soak.chaos import Options, soak
from tests.proofs.soak.disturbances import DISTURBANCES, LIES

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_short_soak_keeps_every_promise(tmp_path: Path) -> None:
    """Kills, stops, a server that dies, lost replies, provider faults: nothing lost, bought twice, wrong or leaked."""
    options = Options(seconds=12.0, seed=5, producers=2, workers=2, per_s=30.0, pause_s=0.5)
    report = await soak(tmp_path, options)
    assert report.holds, (report.verdict.complaints, report.leaked)
    assert set(report.done) == set(DISTURBANCES)
    assert report.verdict.answered > 100
    assert report.resets > 0


def test_every_lie_can_be_told() -> None:
    """The emulator knows each lie that the soak draws."""
    assert len(parse(msgspec.json.encode(LIES))) == len(LIES)
