"""``gemqueue run --deadline``: it travels with the rows, and the report says what each way cost."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cli.run_world import RunWorld, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


def test_a_run_by_a_deadline(valkey: ValkeyServer, tmp_path: Path) -> None:
    """Rows that a batch cannot make come by Flex, at half price; status and the run's report say so."""
    world = RunWorld(tmp_path, valkey.url, f"t{secrets.token_hex(6)}")
    world.env |= {"GEMQUEUE_DEADLINE_POLICY": "flex", "GEMQUEUE_INTERACTIVE_PER_MIN_MAX": "60000"}
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"key": "k{n}", "prompt": "Say {n}"}}\n' for n in range(20)))
    with world:
        report = world.run(source, tmp_path / "out.jsonl", "--deadline", "2h")
        assert len(rows_of(tmp_path / "out.jsonl")) == 20
        assert list(report["services"]) == ["flex"]
        cost = report["services"]["flex"]
        assert cost["answers"] == 20
        assert cost["usd"] == cost["saved_usd"] == pytest.approx(report["interactive_usd"] / 2, abs=1e-6)
        status = world.command("status", "--json").stdout
        lanes = {lane["lane"].rpartition("/")[2]: lane["cost"] for lane in msgspec.json.decode(status)["lanes"]}
        assert lanes["flex"]["usd"] == pytest.approx(cost["usd"], abs=1e-6)
        assert lanes["batch"]["answers"] == 0
        assert "Cost by lane" in world.command("status").stdout
        assert world.emulator.ledger()["interactive"]["usd"] == pytest.approx(cost["usd"], rel=0.2)
        for wrong in ("soon", "2026-10-07T18:00", "-1h", "nan"):
            assert "--deadline" in world.refused(source, tmp_path / "other.jsonl", f"--deadline={wrong}")
