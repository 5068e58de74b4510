"""What the operators' commands print for a person."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console

from gemqueue.policy.reconciling import Standing
from gemqueue_workers.manage.dead import Letter, show_letters
from gemqueue_workers.manage.reconcile import Kept, Report, show_report
from gemqueue_workers.manage.show import show_fields
from gemqueue_workers.worker.reconciler import Finding


def test_a_report_says_what_every_job_is() -> None:
    """Jobs that are over are only counted; what is held, missing and stray is said; control characters are not."""
    console = Console(record=True, width=200, quiet=False)
    name = "gq-00b-1"
    jobs = [
        Finding(job=f"batches/{standing}", state="running", batch="00b", token=name, rows=7, standing=standing)
        for standing in Standing
    ]
    jobs[0].done = "adopted \x1b[2J[red]"
    report = Report(
        account="a",
        applied=False,
        jobs=jobs,
        foreign_jobs=3,
        batches_without_job=["00bmissing"],
        stray_files=["files/x"],
        held_reason="reconciling [red]",
        counts={"bought_twice": 0},
        quarantined=[Kept(batch="00b1", reason="unknown key \x1b[2J", rows=2)],
    )
    show_report(console, report)
    text = console.export_text()
    assert "batches/twice" in text
    assert "batches/over" not in text
    assert "7 jobs are ours, 1 of them over; 3 are not ours" in text
    assert "00bmissing" in text
    assert "2 rows of batch 00b1, unknown key [2J: `gemqueue show 00b1`" in text
    assert "held: reconciling [red]" in text
    assert "\x1b[2J" not in text
    assert "Nothing was changed" in text


def test_dead_letters_are_listed() -> None:
    """Each with its key and reason; none is said, too."""
    console = Console(record=True, width=200, quiet=False)
    show_letters(console, [])
    letter = Letter(id="1-0", key="00a.1", lane="l", kind="expired", message="why [red]\x1b[2J", run="", bytes=12)
    show_letters(console, [letter])
    text = console.export_text()
    assert "No dead letters." in text
    assert "00a.1" in text
    assert "why [red]" in text
    assert "\x1b[2J" not in text
    assert "1 dead letters, 12 bytes" in text


def test_times_are_shown_as_times() -> None:
    """Whoever reads a record sees when something was, and not how many milliseconds ago 1970 is."""
    console = Console(width=120)
    with console.capture() as shown:
        show_fields(console, {"held_since": 1_795_391_665_440, "slow_at": 0, "prompts": 1_795_391_665_440})
    held_since, slow_at, prompts = shown.get().splitlines()
    assert held_since.split()[1:2] == [f"{datetime.fromtimestamp(1_795_391_665).astimezone():%Y-%m-%d}"]
    assert (slow_at.split(), prompts.split()) == (["slow_at", "0"], ["prompts", "1795391665440"])
