"""Input files as decisions: when they may go, and what a failure says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError
from gemqueue.policy import inputs
from gemqueue.provider import JobStatus
from gemqueue.records import Batch
from gemqueue.states import BatchState, JobState
from tests.worlds.bench import LANE

if TYPE_CHECKING:
    from pathlib import Path


FILE = "files/abcdef123456"


def failed(code: int, message: str, **changed: Any) -> JobStatus:
    """A job that has failed so."""
    plain: dict[str, Any] = {"state": JobState.FAILED, "raw_state": "BATCH_STATE_FAILED", "input_file": FILE}
    return JobStatus(job="batches/j", error_code=code, error_message=message, **(plain | changed))


def batch(**changed: Any) -> Batch:
    """A batch whose job runs over ``FILE``."""
    plain: dict[str, Any] = {"state": BatchState.SUBMITTED, "lane": LANE, "fence": 1}
    plain |= {"intent_file": FILE, "input_file": FILE}
    return Batch(id="b", v=1, job="batches/j", **(plain | changed))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (5, "", True),
        (5, "Requested entity was not found.", True),
        (5, "no such file", True),
        (7, f"You do not have permission to access the File {FILE[6:]} or it may not exist.", True),
        (9, f"File {FILE} has expired.", True),
        (13, "Failed to read the input file: it no longer exists.", True),
        (5, "models/gemini-9 is not found for API version v1beta", False),
        (5, "cachedContents/c1 was not found", False),
        (5, "files/of-a-row was not found", False),
        (7, "You do not have permission to access the File of-a-row or it may not exist.", False),
        (13, "Internal error.", False),
        (3, f"Line 7 of {FILE} is malformed.", False),
    ],
)
def test_what_blames_the_input(code: int, message: str, expected: bool) -> None:
    """The want of the input is known by its words; that of another resource, or another fault of the file, is none."""
    assert inputs.blames_input(failed(code, message)) is expected


def test_only_a_failed_job_misses_its_input() -> None:
    """Whatever a job of another state says; where the provider does not name the job's file, the intent does."""
    for state in set(JobState) - {JobState.FAILED}:
        assert not inputs.blames_input(failed(5, "", state=state))
    named = failed(9, f"{FILE} was not found", input_file="")
    assert (inputs.blames_input(named), inputs.blames_input(named, FILE)) == (False, True)
    assert inputs.begins_anew(batch(), named)


@pytest.mark.parametrize("results", [{"output_file": "files/results"}, {"inline": True}])
def test_a_job_with_results_had_its_input(results: dict[str, Any]) -> None:
    """What it brought is bought: it is collected, and not asked again."""
    brought = failed(5, f"{FILE} was not found", **results)
    assert not inputs.begins_anew(batch(), brought)


def test_a_provider_that_always_says_so_is_not_believed_for_ever() -> None:
    """After three jobs the want of an input is a failure like any other."""
    says = failed(5, "Requested entity was not found.")
    anew = [inputs.begins_anew(batch(inputs_missed=n), says) for n in range(5)]
    assert anew == [True, True, True, False, False]


def test_what_is_known_of_the_deletion() -> None:
    """A fence deletes the file, and so does a look at a running job; else nobody of ours did."""
    assert inputs.was_deleted(batch(input_file=""))
    assert inputs.was_deleted(batch(fenced_at=1))
    assert not inputs.was_deleted(batch())
    assert not inputs.was_deleted(batch(input_file="", intent_file=""))


@pytest.mark.parametrize(("chosen", "expected"), [("ended", False), ("running", True), ("never", False)])
def test_only_where_it_is_chosen_a_running_job_loses_its_file(chosen: str, expected: bool) -> None:
    """By default it keeps it, and always while it is pending, or when a job of its batch has missed one."""
    runs = JobStatus(job="batches/j", state=JobState.RUNNING, raw_state="BATCH_STATE_RUNNING", begun=True)
    pending = JobStatus(job="batches/j", state=JobState.RUNNING, raw_state="BATCH_STATE_PENDING")
    settings = Settings(delete_files=chosen)
    assert inputs.may_go_while_running(batch(), runs, settings) is expected
    assert not inputs.may_go_while_running(batch(), pending, settings)
    assert not inputs.may_go_while_running(batch(inputs_missed=1), runs, settings)
    assert not inputs.may_go_while_running(batch(input_file=""), runs, settings)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", "ended"), ("false", "never"), ('"ended"', "ended"), ('"running"', "running"), ('"never"', "never")],
)
def test_the_setting_of_0_2_0_is_read(tmp_path: Path, written: str, meant: str) -> None:
    """True and false of a file, a variable or a keyword mean what they meant; the three words are new."""
    file = tmp_path / "gemqueue.toml"
    file.write_text(f"delete_files = {written}\n")
    word = written.strip('"')
    assert load_settings(file, {}).delete_files == meant
    assert load_settings(env={"GEMQUEUE_DELETE_FILES": word}).delete_files == meant
    given = {"true": True, "false": False}.get(word, word)
    assert load_settings(env={}, delete_files=given).delete_files == meant
    assert load_settings(env={"GEMQUEUE_DELETE_FILES": "1" if meant == "ended" else "0"}).delete_files != "running"


def test_other_words_and_more_than_a_project_stores_are_refused() -> None:
    """The error names the setting and what it may be."""
    with pytest.raises(ConfigError, match='delete_files must be "ended", "running" or "never"'):
        load_settings(env={"GEMQUEUE_DELETE_FILES": "soon"})
    with pytest.raises(ConfigError, match="stored_bytes_max must be at most 20000000000"):
        load_settings(env={}, stored_bytes_max=20_000_000_001)
