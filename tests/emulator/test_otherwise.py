"""Faults by which the service is other than gemqueue takes it to be: each driven once and seen by a plain client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.emulator.plain import Plain, texts, until

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess


def created(plain: Plain, name: str, *texts_of_rows: str) -> dict[str, Any]:
    """A batch over a fresh file."""
    body = {"displayName": name, "inputConfig": {"fileName": plain.upload(texts(*texts_of_rows or ("a",)))}}
    found: dict[str, Any] = plain.post_batch(body).raise_for_status().json()
    return found


def ended(plain: Plain, name: str) -> list[str]:
    """The keys of a batch's result file, in its order, once it has ended."""

    def done() -> Any:
        found = plain.http.get(f"/v1beta/{name}").json()
        return found if found.get("done") else None

    file = until(done)["response"]["responsesFile"]
    lines = plain.http.get(f"/v1beta/{file}:download?alt=media").content.splitlines()
    return [msgspec.json.decode(line)["key"] for line in lines]


def test_a_deleted_file_that_a_create_still_takes(plain: Plain, emulator: EmulatorProcess) -> None:
    """Deleted with "usable", a file is gone for every look and every second deletion, but not for a create."""
    file = plain.upload(texts("a"))
    emulator.faults([{"on": "delete_file", "do": "usable"}])
    assert plain.http.delete(f"/v1beta/{file}").status_code == 200
    assert plain.http.get(f"/v1beta/{file}").status_code == 403
    assert plain.http.get("/v1beta/files").json() == {}
    assert plain.http.delete(f"/v1beta/{file}").status_code == 403
    reply = plain.post_batch({"displayName": "x", "inputConfig": {"fileName": file}})
    assert ended(plain, reply.raise_for_status().json()["name"]) == ["k0"]


def test_a_list_that_begins_with_the_oldest(plain: Plain, emulator: EmulatorProcess) -> None:
    """With "oldest_first" the page is turned round, and nothing is missing from it."""
    for name in ("x", "y", "z"):
        created(plain, name)
    emulator.faults([{"on": "list", "do": "oldest_first"}])
    found = plain.http.get("/v1beta/batches?pageSize=100").json()["operations"]
    assert [entry["metadata"]["displayName"] for entry in found] == ["x", "y", "z"]


@pytest.mark.parametrize("code", [200, 403, 404])
def test_what_is_gone_is_answered_with_the_code(plain: Plain, emulator: EmulatorProcess, code: int) -> None:
    """The first deletion is as ever; each one after it has the fault's code, for files and for batches."""
    emulator.faults([{"on": on, "do": "gone", "code": code} for on in ("delete", "delete_file")])
    for name in (plain.upload(texts("a")), created(plain, "x")["name"]):
        statuses = [plain.http.delete(f"/v1beta/{name}").status_code for _ in range(3)]
        assert statuses == [200, code, code]


def test_a_bad_key_is_answered_with_the_code(plain: Plain, emulator: EmulatorProcess) -> None:
    """A bad key is told so by 400 and a reason; with the fault by its code alone, and a good key sees no change."""
    bad = Plain(emulator.url, key="invalid-key")
    with bad.http:
        assert bad.http.get("/v1beta/batches").json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        emulator.faults([{"on": "any", "do": "bad_key", "code": 404}])
        refused = bad.http.get("/v1beta/batches")
    assert (refused.status_code, "details" in refused.json()["error"]) == (404, False)
    assert plain.http.get("/v1beta/batches").status_code == 200


def test_a_job_whose_rows_keep_their_order(plain: Plain, emulator: EmulatorProcess) -> None:
    """With "ordered" the result file has the order of the input, and without it another one."""
    words = [f"t{n}" for n in range(40)]
    keys = [f"k{n}" for n in range(40)]
    shuffled = ended(plain, created(plain, "x", *words)["name"])
    emulator.faults([{"on": "job", "do": "ordered"}])
    ordered = ended(plain, created(plain, "y", *words)["name"])
    assert (sorted(shuffled), shuffled != keys, ordered) == (sorted(keys), True, keys)


def test_a_job_that_is_billed_at_the_full_price(plain: Plain, emulator: EmulatorProcess) -> None:
    """With "dear" the ledger has twice the sum for the same tokens."""
    ended(plain, created(plain, "x")["name"])
    emulator.faults([{"on": "job", "do": "dear"}])
    ended(plain, created(plain, "y")["name"])
    half, full = emulator.ledger()["jobs"]
    assert full["usd"] == pytest.approx(2 * half["usd"], abs=2e-6)
    assert half["usd"] > 0


def test_a_job_that_names_its_results_late(plain: Plain, emulator: EmulatorProcess) -> None:
    """With "late_output" a look shows that the job has succeeded, and only later looks show where its results are."""
    emulator.faults([{"on": "job", "do": "late_output", "seconds": 3600}])
    name = created(plain, "x")["name"]
    found = until(lambda: (seen := plain.http.get(f"/v1beta/{name}").json()).get("done") and seen)
    assert (found["metadata"]["state"], "response" in found) == ("BATCH_STATE_SUCCEEDED", False)
    emulator.advance(3601)
    assert ended(plain, name) == ["k0"]
