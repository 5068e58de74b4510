"""Each assumption once true and once false: what ``gemqueue prove`` says of it, against the emulator over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue_workers.prove.assumptions import ASSUMPTIONS
from tests.prove.command import LONG_JOB_S, PROJECT, said, verdicts

if TYPE_CHECKING:
    from tests.prove.command import Prove

HELD, FAILED = "held", "did not hold"
OTHER_KEY = ("--other-key-env", "OTHER_KEY")

FALSE: dict[str, dict[str, Any]] = {
    "A-survives-pending": {"on": "job", "do": "needs_input_pending"},
    "A-survives-running": {"on": "job", "do": "needs_input_running"},
    "list-order": {"on": "list", "do": "oldest_first"},
    "file-deletion": {"on": "delete_file", "do": "gone", "code": 404},
    "job-deletion": {"on": "delete", "do": "gone", "code": 403},
    "bad-key": {"on": "any", "do": "bad_key", "code": 404},
    "response-schema": {"on": "row", "do": "max_tokens", "match": {"key": "schema.3"}},
    "response-json-schema": {"on": "row", "do": "wrong_shape", "match": {"key": "json_schema.3"}},
    "model": {"on": "row", "do": "rerouted", "model": "gemini-3.6-flash", "match": {"key": "rows.1"}},
    "rows-once": {"on": "row", "do": "missing", "match": {"key": "rows.2"}},
    "own-answers": {"on": "row", "do": "swapped", "match": {"key_contains": "rows.3"}},
    "results-at-once": {"on": "job", "do": "late_output", "seconds": LONG_JOB_S},
    "bill": {"on": "job", "do": "dear"},
}
"""What makes each assumption false that can be so beside all the others."""
BY_ITSELF = {"rows-in-order", "other-key", "counters"}
"""False without a fault of their own: rows are shuffled, the other key is the very same one, missing rows count."""


def test_where_all_is_so_all_is_held(long_prove: Prove) -> None:
    """Each assumption is held by an emulator that keeps them all, and nothing is left at it."""
    long_prove.emulator.faults([{"on": "job", "do": "ordered"}])
    report = long_prove.play(*OTHER_KEY, code=0)
    assert verdicts(report) == {assumption.name: HELD for assumption in ASSUMPTIONS}, report
    assert long_prove.left() == []
    assert long_prove.emulator.ledger()["bought_twice"] == []


def test_where_it_is_otherwise_it_is_said(long_prove: Prove) -> None:
    """Thirteen assumptions are false by a fault, three by themselves; each is said not to hold, and no other."""
    long_prove.emulator.faults(list(FALSE.values()))
    report = long_prove.play(*OTHER_KEY, code=1, OTHER_KEY=PROJECT)
    found = verdicts(report)
    assert {name for name, verdict in found.items() if verdict == FAILED} == FALSE.keys() | BY_ITSELF, report
    assert {found[name] for name in ("A-refused", "list-lag", "found-again")} == {HELD}
    assert long_prove.left() == []


def test_a_deleted_file_that_a_create_still_takes(prove: Prove) -> None:
    """A-refused does not hold where the create is taken; its job is followed, billed and deleted as the others."""
    prove.emulator.faults([{"on": "delete_file", "do": "usable"}])
    report = prove.run("--only", "A-refused", code=1)
    assert verdicts(report) == {"A-refused": FAILED}
    assert (report["jobs"], prove.left()) == (2, [])


def test_a_list_that_hides_its_jobs(prove: Prove) -> None:
    """A job that the list hides longer than settle_s is not found again, and is not bought again either."""
    prove.emulator.faults([{"on": "list", "do": "lag", "seconds": 3600}])
    report = prove.run("--only", "list-lag", "--only", "found-again", code=1)
    assert verdicts(report) == {"list-lag": FAILED, "found-again": FAILED}
    assert len(prove.emulator.ledger()["jobs"]) == 1


def test_a_job_that_fails_whatever_becomes_of_its_file(prove: Prove) -> None:
    """Where jobs fail that keep their input, its deletion is not to blame: not seen."""
    prove.emulator.faults([{"on": "job", "do": "failed", "code": 13}])
    report = prove.run("--only", "A-survives-pending", "--only", "rows-once", code=0)
    assert verdicts(report) == {"A-survives-pending": "not seen", "rows-once": "not seen"}
    assert "left alone" in said(report, "A-survives-pending")["said"]


@pytest.mark.parametrize("fault", ["429", "lost_after"])
def test_creates_that_go_wrong_at_first(prove: Prove, fault: str) -> None:
    """A create that is put off is tried again; one whose reply was lost is found by its token, not sent again."""
    prove.emulator.faults([{"on": "create", "do": fault, "nth": [1]}])
    report = prove.run("--only", "rows-once", code=0)
    assert verdicts(report) == {"rows-once": HELD}
    assert len(prove.emulator.ledger()["jobs"]) == 1


def test_a_create_that_is_put_off_leaves_no_file(prove: Prove) -> None:
    """Each try uploads its input again, and deletes it where the create did nothing; the job comes all the same."""
    prove.emulator.faults([{"on": "create", "do": "spend_cap", "times": 3}])
    report = prove.run("--only", "rows-once", "--wait-s", "0.1", code=1)
    assert (report["complete"], prove.left()) == (False, [])
    prove.emulator.faults([])
    assert verdicts(prove.run("--only", "rows-once", code=0)) == {"rows-once": HELD}


def test_a_key_that_is_refused_ends_nothing(prove: Prove) -> None:
    """A suspended key says nothing of what is asked: the command stops with its words, and goes on with a good one."""
    words = "Permission denied: Consumer 'api_key:AIzaSyA-1b_c-D3efGhIjK' has been suspended."
    prove.emulator.faults([{"on": "create", "do": "403", "message": words}])
    refused = prove.refused("--only", "A-refused")
    assert ("has been suspended" in refused, "AIza" in refused) == (True, False)
    prove.emulator.faults([])
    report = prove.run("--only", "A-refused", code=0)
    assert said(report, "A-refused")["said"] == "refused with 404"
    assert len(prove.emulator.ledger()["jobs"]) == 1
