"""A run that is killed, stopped, given up or out of budget: the same command goes on, and buys nothing again."""

from __future__ import annotations

import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.errors import ConfigError
from gemqueue_workers.prove.assumptions import ASSUMPTIONS
from gemqueue_workers.prove.state import write_whole
from tests.cli.command import gemqueue
from tests.emulator.plain import Plain
from tests.prove.command import ENV, LONG_JOB_S, PROJECT, SETTLE_S, said, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.prove.command import Prove

HELD = "held"
OTHER_KEY = ("--other-key-env", "OTHER_KEY")
PENDING_CREATE = 3
"""The create of the trial "pending", counted from 1: the refused one and the killed one come before."""


def step(slot: str, *steps: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a trial's job has come to one of these steps."""
    return lambda state: state.get("jobs", {}).get(slot, {}).get("step") in steps


def created(prove: Prove, slot: str) -> bool:
    """Whether the emulator has taken the create of this trial, even if its reply is still on the way."""
    return any(f"-{slot}-" in call.get("display_name", "") for call in prove.emulator.requests())


def test_killed_four_times(long_prove: Prove) -> None:
    """Killed at a create's reply, among the creates, after a deletion, among the results: all held, bought once."""
    prove, emulator = long_prove, long_prove.emulator
    slow = {"on": "create", "do": "slow", "bytes_per_s": 20, "nth": [PENDING_CREATE]}
    emulator.faults([slow, {"on": "job", "do": "ordered"}])
    moments: list[tuple[float, Callable[[dict[str, Any]], bool]]] = [
        (0, lambda _: created(prove, "pending")),
        (0, step("running", "created")),
        (0.4 * LONG_JOB_S, lambda state: bool(state["jobs"]["running"].get("gone_to"))),
        (LONG_JOB_S, lambda state: any(job["step"] in ("ended", "read") for job in state["jobs"].values())),
    ]
    for later_s, moment in moments:
        command = prove.start(*OTHER_KEY)
        if later_s:
            prove.until(step("rows", "created"))
            emulator.advance(later_s)
        prove.until(moment)
        command.kill()
        command.communicate()
    report = prove.run(*OTHER_KEY, code=0)
    assert set(verdicts(report).values()) == {HELD}, report
    assert said(report, "found-again")["evidence"]["found"] == 2
    ledger = emulator.ledger()
    slots = sorted(job["display_name"].split("-")[3] for job in ledger["jobs"])
    assert slots == ["json_schema", "killed", "pending", "rows", "running", "schema"]
    assert report["spent_usd"] == pytest.approx(sum(job["usd"] for job in ledger["jobs"]), abs=1e-5)
    assert (ledger["bought_twice"], prove.left()) == ([], [])


def test_a_create_that_never_happened(prove: Prove) -> None:
    """Killed with an intent whose create never came: fenced, looked for, and begun anew, once."""
    prove.emulator.faults([{"on": "create", "do": "delayed", "seconds": 3600, "nth": [1]}])
    command = prove.start("--only", "rows-once")
    prove.until(lambda state: step("rows", "intended")(state) and prove.emulator.fault_hits() == [1])
    command.kill()
    command.communicate()
    report = prove.run("--only", "rows-once", code=0)
    assert verdicts(report) == {"rows-once": HELD}
    prove.emulator.advance(7200)
    assert len(prove.emulator.ledger()["jobs"]) == 1
    assert len(prove.state["dead"]) in (1, 2)  # one more where it was killed before its create was on the way


def test_killed_at_the_first_upload(prove: Prove) -> None:
    """What was uploaded by a command that was killed before it had seen anything goes at the end, too."""
    prove.emulator.faults([{"on": "delete_file", "do": "slow", "bytes_per_s": 1, "nth": [1]}])
    command = prove.start("--only", "file-deletion")
    prove.until(lambda _: any(call["point"] == "delete_file" for call in prove.emulator.requests()))
    command.kill()
    command.communicate()
    prove.emulator.faults([])
    stray = Plain(prove.emulator.url, key=PROJECT)
    with stray.http:
        upload = stray.start(1, display_name=f"gemqueue-prove-{prove.state['run']}-look-0")
        stray.chunk(upload, b"x", 0)
    assert len(prove.left()) == 1
    assert verdicts(prove.run("--only", "file-deletion", code=0)) == {"file-deletion": HELD}
    assert prove.left() == []


def test_a_finished_run_asks_nothing_more(prove: Prove) -> None:
    """The same command after the end writes the same report, without a call to the provider."""
    first = prove.run("--only", "file-deletion", code=0)
    calls = len(prove.emulator.requests())
    again = prove.run("--only", "file-deletion", code=0)
    assert (verdicts(again), len(prove.emulator.requests())) == (verdicts(first), calls)
    assert "nothing is asked again" in gemqueue(*prove.arguments, "--only", "file-deletion", **ENV).stdout


def test_a_finished_part_is_not_the_whole(prove: Prove) -> None:
    """A run that was asked about one assumption does not pass for one that was asked about all."""
    prove.run("--only", "file-deletion", code=0)
    assert "another --only" in prove.refused()
    assert "another --only" in prove.refused("--only", "bad-key")


def test_clean_needs_a_run_and_takes_it_as_it_was_begun(prove: Prove) -> None:
    """--clean ends a run of another model and other rows; where there is none it says so, and promises nothing."""
    prove.run("--only", "rows-once", "--wait-s", "0", "--rows", "3", "--model", "gemini-2.5-flash-lite", code=1)
    assert prove.left() != []
    assert prove.clean() == 0
    assert (prove.left(), prove.state) == ([], {})
    assert "there is no run" in prove.refused("--clean")


def test_files_that_cannot_be_written(prove: Prove) -> None:
    """A folder that is not there, or in the report's place, is the user's to mend, before anything is begun."""
    (prove.folder / "taken.md").mkdir()
    assert "taken.md is a folder" in prove.refused("-o", str(prove.folder / "taken"))
    missing = prove.refused("-o", str(prove.folder / "nowhere" / "report"))
    assert "No such file or directory" in missing
    assert "defect" not in missing
    assert prove.emulator.requests() == []


def test_a_full_disk(tmp_path: Path) -> None:
    """A file that cannot be written whole leaves the old one as it was, nothing beside it, and says what to mend."""
    file = tmp_path / "state.json"
    write_whole(file, b"old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(ConfigError, match=r"state.json cannot be written .*the same command goes on"):
            write_whole(file, b"new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("state.json", b"old")]


def test_never_past_the_budget(prove: Prove) -> None:
    """What would pass the budget is not begun, and not seen; with a larger one the same command begins that alone."""
    report = prove.run("--budget-usd", "0.008", code=1)
    assert report["spent_usd"] <= 0.008
    assert said(report, "A-survives-running")["said"].startswith("budget")
    assert verdicts(report)["rows-once"] == HELD
    before = {job["name"] for job in prove.emulator.ledger()["jobs"]}
    report = prove.run("--budget-usd", "1", code=0)
    assert "budget" not in said(report, "A-survives-running")["said"]
    names = [job["display_name"] for job in prove.emulator.ledger()["jobs"] if job["name"] not in before]
    assert any("-running-" in name for name in names)
    assert not any("-pending-" in name for name in names)
    assert prove.left() == []


def test_nothing_without_a_price(prove: Prove) -> None:
    """A model that has no price cannot be held to a budget: nothing is begun."""
    refused = prove.refused("--model", "gemini-3-pro-nobody-knows")
    assert "no price for gemini-3-pro-nobody-knows" in refused
    assert (prove.left(), prove.state) == ([], {})


def test_given_up(prove: Prove) -> None:
    """With --clean, jobs that run are cancelled, all is deleted, and the run is forgotten."""
    prove.emulator.faults([{"on": "job", "do": "pending", "seconds": LONG_JOB_S}])
    command = prove.start()
    prove.until(step("rows", "created"))
    second = prove.refused()
    command.kill()
    command.communicate()
    assert "another gemqueue prove" in second
    assert len(prove.left()) > 6
    assert prove.clean() == 0
    assert (prove.left(), prove.state) == ([], {})


def test_given_up_in_doubt(prove: Prove) -> None:
    """--clean looks for a job whose create is in doubt as long as the list may hide it, before it forgets the run."""
    lag = {"on": "list", "do": "lag", "seconds": 0.8 * SETTLE_S}
    prove.emulator.faults([{"on": "create", "do": "slow", "bytes_per_s": 20}, lag])
    command = prove.start("--only", "rows-once")
    prove.until(lambda _: created(prove, "rows"))
    command.kill()
    command.communicate()
    assert prove.state["jobs"]["rows"]["step"] == "intended"
    assert prove.clean() == 0
    prove.emulator.faults([])
    assert (prove.left(), prove.state) == ([], {})


def test_ctrl_c_says_how_to_go_on(prove: Prove) -> None:
    """Ctrl-C ends it with what to do next, and the same command has the report."""
    command = prove.start("--only", "rows-once")
    prove.until(step("rows", "created"))
    command.send_signal(signal.SIGINT)
    stdout, _ = command.communicate()
    assert (command.returncode, "the same command goes on" in stdout) == (130, True), stdout
    assert verdicts(prove.run("--only", "rows-once", code=0)) == {"rows-once": HELD}
    assert len(prove.emulator.ledger()["jobs"]) == 1


def test_a_wait_that_is_bounded(prove: Prove) -> None:
    """After --wait-s the report says that it is not complete, and nothing that runs is thrown away."""
    early = prove.run("--only", "rows-once", "--wait-s", "0", code=1)
    assert (early["complete"], said(early, "rows-once")["said"]) == (False, "no job brought rows")
    assert verdicts(prove.run("--only", "rows-once", code=0)) == {"rows-once": HELD}
    assert len(prove.emulator.ledger()["jobs"]) == 1


def test_the_files_of_a_run_belong_to_it(prove: Prove) -> None:
    """The same report with another model, or a broken state, is refused with the way out."""
    prove.run("--only", "file-deletion", code=0)
    assert "another model" in prove.refused("--model", "gemini-2.5-flash-lite")
    (prove.folder / "report.state.json").write_bytes(b"{")
    assert "cannot be read" in prove.refused()


def test_the_real_service_is_asked_only_when_told(prove: Prove) -> None:
    """--live needs a key and its word, and refuses an emulator's answers."""
    assert "No API key" in prove.refused("--live", "--yes")
    assert "say --yes" in prove.refused("--live", GEMINI_API_KEY="some-key")
    assert "is an emulator" in prove.refused("--live", "--yes", GEMINI_API_KEY="some-key")


def test_all_assumptions_have_their_words() -> None:
    """Every row of the table is filled, its name is unlike the others, and a single thing rests on nothing."""
    words = [(each.assumes, each.source, each.breaks) for each in ASSUMPTIONS]
    assert all(all(word.strip() for word in row) for row in words)
    assert len({each.name for each in ASSUMPTIONS}) == len(ASSUMPTIONS)
    assert [each.name for each in ASSUMPTIONS if not each.relied] == ["rows-in-order"]
