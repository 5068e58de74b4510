"""The commands that look after a queue."""

from __future__ import annotations

import secrets
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from tests.cli.command import gemqueue, start
from tests.cli.run.test_run import prompts
from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


KEY = {"x-goog-api-key": "emulated-local"}


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module."""
    with RunWorld(tmp_path_factory.mktemp("manage"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def test_show_and_purge_a_run(world: RunWorld, tmp_path: Path) -> None:
    """A run, a row of it and its batch can be shown; purged, none of its prompts is known, and OUT is as it was."""
    source, out = prompts(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    world.run(source, out, "--name", "mine")
    run = msgspec.json.decode(world.command("show", "mine", "--json").stdout)
    assert (run["sort"], run["rows"], run["open"], run["command.out"]) == ("run", 3, 0, str(out))
    row = msgspec.json.decode(world.command("show", "mine/k1", "--json").stdout)
    assert row["outcome"]["response"] == rows_of(out)["k1"]["response"]
    batch = msgspec.json.decode(world.command("show", row["batch"], "--json").stdout)
    assert (batch["sort"], batch["state"]) == ("batch", "closed")
    assert world.command("admin", "batches").stdout == "No batch is open.\n"
    before = out.read_bytes()
    assert msgspec.json.decode(world.command("admin", "purge", "--run", "mine", "--json").stdout)["prompts"] == 3
    gone = world.command("show", row["key"])
    assert (gone.returncode, "not known" in gone.stderr) == (2, True)
    assert out.read_bytes() == before


def test_cancel_a_run(world: RunWorld, tmp_path: Path) -> None:
    """Prompts of a run that nobody has packed yet are cancelled and never bought; the run then ends with failures."""
    source, out = prompts(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl"
    nobody = {**world.env, "GEMQUEUE_QUEUE": f"t{secrets.token_hex(6)}"}  # no worker works there
    before = world.emulator.ledger()["rows_bought"]
    with start("run", str(source), "-o", str(out), "-m", MODEL, "--name", "held", **nobody) as process:
        deadline = time.monotonic() + 60
        while '"rows":5' not in gemqueue("show", "held", "--json", **nobody).stdout and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGINT)
        assert "Go on: gemqueue run" in process.communicate(timeout=60)[1]
        assert process.returncode == 130
    found = msgspec.json.decode(gemqueue("cancel", "--run", "held", "--json", **nobody).stdout)
    assert found == {"cancelled": 5, "too_late": 0, "where": {"pending": 5}}
    ended = gemqueue("run", str(source), "-o", str(out), "-m", MODEL, "--name", "held", "--json", **nobody)
    assert (ended.returncode, msgspec.json.decode(ended.stdout)["failed"]) == (1, 5)
    assert all("cancelled" in row["error"]["message"] for row in rows_of(out).values())
    assert world.emulator.ledger()["rows_bought"] == before


def test_cancel_needs_something(world: RunWorld) -> None:
    """Without a name or a run, and for an unknown run, it says so and exits with 2."""
    assert "either" in world.command("cancel").stderr
    ended = world.command("cancel", "--run", "nobody")
    assert (ended.returncode, "no run 'nobody'" in ended.stderr) == (2, True)


def test_config_says_where_settings_come_from() -> None:
    """Each setting has its source; the URL's password and the key are hidden."""
    env = {"GEMQUEUE_REDIS_URL": "redis://user:hunter2@host:1", "GEMINI_API_KEY": "sesame", "GEMQUEUE_LINGER_S": "7"}
    ended = gemqueue("config", "--json", **env)
    values = {value["name"]: value for value in msgspec.json.decode(ended.stdout)}
    assert values["linger_s"] == {"name": "linger_s", "value": 7.0, "source": "GEMQUEUE_LINGER_S"}
    assert values["redis_url"]["value"] == "redis://***@host:1"
    assert values["API key"] == {"name": "API key", "value": "set (hidden)", "source": "GEMINI_API_KEY"}
    assert values["lease_s"]["source"] == "default"
    assert "hunter2" not in ended.stdout + gemqueue("config", **env).stdout
    assert "sesame" not in ended.stdout


def test_config_says_what_follows_from_another_setting() -> None:
    """A setting that nobody set says how it follows from ``create_timeout_s``; one that is set says who set it."""
    env = {"GEMQUEUE_CREATE_TIMEOUT_S": "120", "GEMQUEUE_DRAIN_S": "200"}
    values = {value["name"]: value for value in msgspec.json.decode(gemqueue("config", "--json", **env).stdout)}
    rule = "2 x create_timeout_s, at least 60"
    assert values["lease_s"] == {"name": "lease_s", "value": 240.0, "source": "derived", "rule": rule}
    assert values["drain_s"] == {"name": "drain_s", "value": 200.0, "source": "GEMQUEUE_DRAIN_S"}
    assert [name for name, value in values.items() if "rule" in value] == ["lease_s", "settle_s", "skew_s"]
    assert f"= 240.0 (derived: {rule})" in gemqueue("config", **env).stdout
    assert f"= 60.0 (default: {rule})" in gemqueue("config").stdout


def test_doctor_says_what_is_wrong(world: RunWorld) -> None:
    """With a server it looks at it; without one, or without a key, it says so and exits with 2."""
    healthy = world.command("doctor", "--json")
    found = {finding["what"]: finding["state"] for finding in msgspec.json.decode(healthy.stdout)}
    assert found["server"] == found["version"] == found["clock"] == "ok"
    assert healthy.returncode in {0, 1}
    sick = gemqueue("doctor", GEMQUEUE_REDIS_URL="redis://localhost:1", GEMQUEUE_EMULATE="1")
    assert (sick.returncode, "localhost:1" in sick.stdout) == (2, True)
    keyless = gemqueue("doctor", GEMQUEUE_REDIS_URL="redis://localhost:1")
    assert (keyless.returncode, "API key" in keyless.stdout) == (2, True)


def test_doctor_live_asks_the_provider(world: RunWorld) -> None:
    """Both assumptions hold at the emulator; one prompt is bought, outside the queue, and nothing is left there."""

    def counts() -> Any:
        return msgspec.json.decode(world.command("status", "--json").stdout)["counts"]

    before, counted = world.emulator.ledger(), counts()
    refused = world.command("doctor", "--live")
    assert (refused.returncode, "buys one prompt" in refused.stderr) == (2, True)
    assert world.emulator.ledger() == before
    ended = world.command("doctor", "--live", "--yes", "--json")
    found = {finding["what"]: finding for finding in msgspec.json.decode(ended.stdout)}
    assert (found["A-refused"]["state"], found["A-survives"]["state"]) == ("ok", "ok"), found
    assert httpx.get(f"{world.emulator.url}/v1beta/files", headers=KEY).json().get("files", []) == []
    assert counts() == counted


def test_doctor_live_says_when_an_assumption_fails(world: RunWorld) -> None:
    """A job that fails for want of its file is a failure with the way out, one that takes long a warning."""
    world.emulator.faults([{"on": "job", "do": "failed", "code": 5, "message": "no such file"}])
    try:
        ended = world.command("doctor", "--live", "--yes", "--json")
        world.emulator.faults([{"on": "job", "do": "pending", "seconds": 3600}])
        slow = world.command("doctor", "--live", "--yes", "--wait", "0.1", "--json")
    finally:
        world.emulator.faults([])
    (finding,) = (each for each in msgspec.json.decode(ended.stdout) if each["what"] == "A-survives")
    assert (ended.returncode, finding["state"], 'delete_files = "ended"' in finding["said"]) == (2, "failed", True)
    (finding,) = (each for each in msgspec.json.decode(slow.stdout) if each["what"] == "A-survives")
    assert (finding["state"], "--job batches/" in finding["said"]) == ("warning", True)
    world.emulator.advance(7200)
    job = finding["said"].rpartition("--job ")[2]
    later = world.command("doctor", "--live", "--job", job, "--json")
    assert msgspec.json.decode(later.stdout)[-1]["state"] == "ok"


def test_outcomes_that_are_no_longer_kept_fail_and_can_be_bought_again(world: RunWorld, tmp_path: Path) -> None:
    """OUT is lost after the outcomes have gone: every row fails as expired; only ``retry`` buys them again."""
    source, out = prompts(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    env = {"GEMQUEUE_KEEP_DELIVERED_S": "1", "GEMQUEUE_SUBMIT_TIMEOUT_S": "1"}
    command = ("run", str(source), "-o", str(out), "-m", MODEL, "--name", "late", "--json")
    assert world.command(*command, **env).returncode == 0
    bought = world.emulator.ledger()["rows_bought"]
    out.unlink()
    deadline = time.monotonic() + 60
    while world.command("show", "late/k0").returncode == 0 and time.monotonic() < deadline:
        pass
    ended = world.command(*command, **env)
    assert (ended.returncode, msgspec.json.decode(ended.stdout)["failed"]) == (1, 3)
    assert all("no longer kept" in row["error"]["message"] for row in rows_of(out).values())
    assert world.emulator.ledger()["rows_bought"] == bought
    ended = world.command("admin", "retry", "--run", "late", "--json")
    assert (ended.returncode, msgspec.json.decode(ended.stdout)["answered"]) == (0, 3)
    assert world.emulator.ledger()["rows_bought"] == bought + 3


def test_status_can_be_watched(world: RunWorld) -> None:
    """Away from a terminal, --watch is one look."""
    ended = world.command("status", "--watch")
    assert (ended.returncode, "prompts accepted" in ended.stdout) == (0, True)
