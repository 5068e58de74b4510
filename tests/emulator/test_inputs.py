"""What the deletion of its input file does to a job: nothing, or, by a fault, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator.plain import MODEL, Plain, texts
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB_S = 100.0
RUNS_AT_S = 50.0
NEEDS = ("needs_input_pending", "needs_input_running")


@pytest.fixture
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An emulator whose jobs take so long that a test finds them pending and running."""
    with EmulatorProcess(tmp_path_factory.mktemp("slow") / "data", job_s=JOB_S) as process:
        yield process


def created(plain: Plain, emulator: EmulatorProcess, *faults: str) -> tuple[str, str]:
    """A job under these faults, and its input file."""
    emulator.faults([{"on": "job", "do": fault} for fault in faults])
    file = plain.upload(texts("a"))
    job = str(plain.post_batch({"displayName": "x", "inputConfig": {"fileName": file}}, MODEL).json()["name"])
    return job, file


def deleted(plain: Plain, emulator: EmulatorProcess, *faults: str, at_s: float) -> str:
    """A job whose input is deleted ``at_s`` after its creation."""
    job, file = created(plain, emulator, *faults)
    emulator.advance(at_s)
    plain.http.delete(f"/v1/{file}").raise_for_status()
    return job


@pytest.mark.parametrize(("fault", "at_s"), [(NEEDS[0], 0), (NEEDS[1], RUNS_AT_S)])
def test_a_job_that_needs_its_input_fails_at_once(slow: EmulatorProcess, fault: str, at_s: float) -> None:
    """Deleted in the phase that the fault names, the file takes the job with it, for good; nothing is bought."""
    plain = Plain(slow.url)
    with plain.http:
        job = deleted(plain, slow, fault, at_s=at_s)
        slow.kill()
        slow.start()
        found = plain.get(job)
        assert found["metadata"]["state"] == "BATCH_STATE_FAILED"
        assert found["error"] == {"code": 5, "message": "Requested entity was not found."}
        slow.advance(JOB_S)
        assert plain.get(job)["metadata"]["state"] == "BATCH_STATE_FAILED"
        assert slow.ledger()["rows_bought"] == 0


@pytest.mark.parametrize(("faults", "at_s"), [((), 0), ((), RUNS_AT_S), (NEEDS[:1], RUNS_AT_S), (NEEDS[1:], 0)])
def test_another_deletion_hurts_nobody(slow: EmulatorProcess, faults: tuple[str, ...], at_s: float) -> None:
    """Without the fault, and in another phase than the one that it names, the job is answered."""
    plain = Plain(slow.url)
    with plain.http:
        job = deleted(plain, slow, *faults, at_s=at_s)
        slow.advance(JOB_S)
        assert plain.ended(job)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


def test_a_deletion_after_the_end_is_too_late(slow: EmulatorProcess) -> None:
    """A job that has ended keeps its results."""
    plain = Plain(slow.url)
    with plain.http:
        job, file = created(plain, slow, *NEEDS)
        slow.advance(JOB_S + 1)
        plain.ended(job)
        plain.http.delete(f"/v1/{file}").raise_for_status()
        assert plain.get(job)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
