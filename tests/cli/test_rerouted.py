"""What the commands say of models: before a run, after it, in ``status`` and in ``doctor``."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cli.run_world import MODEL, RunWorld

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

OTHER = "gemini-3.6-flash"
UNPRICED = "gemini-3-pro-new"


@pytest.fixture
def world(valkey: ValkeyServer, tmp_path: Path) -> Generator[RunWorld]:
    """An emulator whose answers come from another model than is asked, and rows to ask."""
    (tmp_path / "in.txt").write_text("".join(f"Say {n}\n" for n in range(12)))
    with RunWorld(tmp_path, valkey.url, f"t{secrets.token_hex(6)}", reroute=f"{MODEL}={OTHER}") as made:
        yield made


def test_a_run_says_which_model_answered_it(world: RunWorld, tmp_path: Path) -> None:
    """The report and the words of a run, status and doctor tell of the other model; the cost is what it billed."""
    ended = world.command("run", str(tmp_path / "in.txt"), "-o", str(tmp_path / "o.jsonl"), "-m", MODEL, "--json")
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = msgspec.json.decode(ended.stdout)
    assert (report["answered_by"], report["rerouted"], report["answered"]) == ({OTHER: 12}, 12, 12)
    said = f"12 answers came from {OTHER}, and {MODEL} was asked: billed at the price of {OTHER}"
    assert said in report["warnings"]
    assert f"Warning: {said}" in ended.stderr
    billed_usd = sum(job["usd"] for job in world.emulator.ledger()["jobs"])
    assert report["batch_usd"] == report["services"]["batch"]["usd"] == pytest.approx(billed_usd, abs=1e-5)
    assert f"Warning: {said}" in world.command("status").stdout
    findings: list[dict[str, str]] = msgspec.json.decode(world.command("doctor", "--json").stdout)
    assert {"what": "models", "state": "warning", "said": said} in findings


def test_a_model_without_a_price_says_so(world: RunWorld, tmp_path: Path) -> None:
    """Nowhere does what has no price look free: not before the run, not after it, not in status, not in doctor."""
    command = ("run", str(tmp_path / "in.txt"), "-o", str(tmp_path / "o.jsonl"), "-m", UNPRICED)
    planned = world.command(*command, "--dry-run", "--json")
    assert msgspec.json.decode(planned.stdout)["batch_input_usd"] is None
    ended = world.command(*command, "--json")
    report: dict[str, Any] = msgspec.json.decode(ended.stdout)
    assert (report["batch_usd"], report["services"]["batch"]["usd"]) == (None, None)
    status, doctor = world.command("status").stdout, world.command("doctor").stdout
    for text in (planned.stderr, ended.stderr, status, doctor):
        assert f"{UNPRICED} has no price in the model table" in text
        assert "$0.0" not in text


@pytest.mark.parametrize("more", [("--dry-run",), ()])
def test_a_run_of_a_model_that_has_ended_is_warned_of(world: RunWorld, tmp_path: Path, more: tuple[str, ...]) -> None:
    """A model that is routed, and parameters that it ignores, are named before anything is bought."""
    (tmp_path / "config.json").write_text('{"temperature": 0, "max_output_tokens": 9}')
    command = ("run", str(tmp_path / "in.txt"), "-o", str(tmp_path / "o.jsonl"), "-m", "gemini-3.7-flash")
    ended = world.command(*command, "--config", str(tmp_path / "config.json"), *more)
    assert ended.returncode == 0, ended.stderr
    assert "gemini-3.7-flash ended on 2026-10-08: since then gemini-3.8-flash answers in its place" in ended.stderr
    assert "gemini-3.7-flash ignores temperature" in ended.stderr
