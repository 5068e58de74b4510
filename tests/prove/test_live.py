"""What differs with ``--live``: the key, the question, the bill, and what may be published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.command import gemqueue
from tests.prove.command import ENV, Prove, said, verdicts
from tests.prove.unmarked import Unmarked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess

KEY = "a-secret-key-of-ours"
OTHER = "a-secret-key-of-theirs"


def test_a_service_without_a_mark(long_emulator: EmulatorProcess, tmp_path: Path) -> None:
    """With a key, a yes and no mark in the replies it is the service; the bill is for the reader to compare."""
    long_emulator.reset()
    long_emulator.faults([{"on": "job", "do": "ordered"}])
    with Unmarked(long_emulator.url) as service:
        prove = Prove(tmp_path, long_emulator)
        prove.arguments[2] = service.url
        keys = {"GEMINI_API_KEY": KEY, "OTHER_KEY": OTHER}
        report = prove.play("--live", "--yes", "--other-key-env", "OTHER_KEY", code=0, **keys)
        assert {name for name, verdict in verdicts(report).items() if verdict != "held"} == {"bill"}, report
        assert "compare it with the bill" in said(report, "bill")["said"]
        again = gemqueue(*prove.arguments, "--live", "--yes", **(ENV | keys))
    jobs = [job["name"].removeprefix("batches/") for job in long_emulator.ledger()["jobs"]]
    texts = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("report.*")}
    texts |= {"stdout": again.stdout, "stderr": again.stderr}
    assert again.returncode == 0
    assert [name for name, text in texts.items() if KEY in text or OTHER in text] == []
    public = "".join(text for name, text in texts.items() if "state" not in name)
    assert [job for job in jobs if job in public] == []
    assert report["service"] == "another address than the Gemini API's"
