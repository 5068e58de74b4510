"""Batches on the wire: shapes, states, refusals (protocol sections 3 to 7, 10 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.plain import MODEL, Plain, by_key, error_of, lines, text_request, texts
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 24 * 3600
TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """An emulator whose jobs take an hour of virtual time."""
    with EmulatorProcess(tmp_path / "data", job_s=3600) as process:
        yield process


def test_the_life_of_an_operation(slow: EmulatorProcess) -> None:
    """PENDING, RUNNING, SUCCEEDED by the clock, in the shapes that were captured from the service."""
    plain = Plain(slow.url)
    with plain.http:
        file = plain.upload(texts("a", "b [[fault:invalid]]", "c"))
        made = plain.post_batch({"display_name": "demo", "input_config": {"fileName": file}, "priority": "2"}).json()
        metadata = made["metadata"]
        assert set(made) == {"name", "metadata"}
        assert metadata["@type"] == TYPE + "GenerateContentBatch"
        assert metadata["name"] == made["name"]
        assert metadata["model"] == f"models/{MODEL}"
        assert metadata["inputConfig"] == {"fileName": file}
        assert metadata["batchStats"] == {"requestCount": "3", "pendingRequestCount": "3"}
        assert (metadata["state"], metadata["priority"]) == ("BATCH_STATE_PENDING", "2")
        slow.advance(1800)
        running = plain.get(made["name"])
        assert (running["metadata"]["state"], "done" in running) == ("BATCH_STATE_RUNNING", False)
        slow.advance(1800)
        done = plain.ended(made["name"])
        output = {"responsesFile": "files/batch-" + made["name"].removeprefix("batches/")}
        assert done["response"] == {"@type": TYPE + "GenerateContentBatchOutput", **output}
        assert done["metadata"]["output"] == output
        assert done["metadata"]["batchStats"] == {
            "requestCount": "3",
            "successfulRequestCount": "2",
            "failedRequestCount": "1",
        }


def test_expiry_after_48_hours(plain: Plain, emulator: EmulatorProcess) -> None:
    """A job that is pending for too long ends EXPIRED, without results and without cost."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 10 * DAY_S}])
    name = plain.create(texts("a"))
    emulator.advance(DAY_S)
    assert plain.get(name)["metadata"]["state"] == "BATCH_STATE_PENDING"
    emulator.advance(DAY_S)
    done = plain.get(name)
    assert (done["done"], done["metadata"]["state"]) == (True, "BATCH_STATE_EXPIRED")
    assert "output" not in done["metadata"]
    assert emulator.ledger()["rows_bought"] == 0


def test_results_go_after_48_hours(plain: Plain, emulator: EmulatorProcess) -> None:
    """A result file lives for 48 hours from the end of its job, and only its download answers at all."""
    done = plain.ended(plain.create(texts("a")))
    file = done["metadata"]["output"]["responsesFile"]
    assert plain.http.get(f"/download/v1beta/{file}:download?alt=media").content == plain.download(done)
    assert plain.http.get(f"/v1/{file}").status_code == 400
    emulator.advance(2 * DAY_S + 1)
    assert error_of(plain.http.get(f"/v1/{file}:download?alt=media"))[:2] == (404, "NOT_FOUND")


def test_only_generated_files_can_be_downloaded(plain: Plain) -> None:
    """An upload cannot be read back."""
    name = plain.upload(b"x")
    assert error_of(plain.http.get(f"/v1/{name}:download?alt=media"))[0] == 400


def test_a_job_outlives_its_input_file(plain: Plain, emulator: EmulatorProcess) -> None:
    """Deleting the input file does not hurt a job that was accepted, but a create that names it is refused."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 100, "times": 1}])
    file = plain.upload(texts("a", "b"))
    batch = {"inputConfig": {"fileName": file}}
    name = plain.post_batch(batch).json()["name"]
    assert plain.http.delete(f"/v1/{file}").json() == {}
    assert error_of(plain.post_batch(batch)) == (404, "NOT_FOUND", "Requested entity was not found.")
    emulator.advance(101)
    assert {row["key"] for row in plain.results(name)} == {"k0", "k1"}


def test_results_are_shuffled_but_complete(plain: Plain) -> None:
    """Every key comes back once, and not in the order of the input."""
    keys = [row["key"] for row in plain.run(*[f"t{n}" for n in range(300)])]
    assert keys != sorted(keys, key=lambda key: int(key[1:]))
    assert sorted(keys) == sorted(f"k{n}" for n in range(300))


def test_many_blocks(plain: Plain, emulator: EmulatorProcess) -> None:
    """A file of several blocks, one line longer than a block, keeps every row and its right answer."""
    sizes = [100, 3 << 20, *[5000] * 1000]
    rows = [(f"k{n}", text_request(f"{n} " + "x" * size)) for n, size in enumerate(sizes)]
    found = by_key(plain.results(plain.create(lines(*rows))))
    assert len(found) == len(rows)
    for key, request in [rows[1], rows[500], rows[-1]]:
        assert found[key]["response"] == emulator.expect(MODEL, request)


def test_list_has_no_output_and_ends(plain: Plain) -> None:
    """Entries are newest first, without results; only a page that is followed by another has a token."""
    assert plain.http.get("/v1/batches?pageSize=5").json() == {}
    names = [plain.create(texts("a"), name=f"b{n}") for n in range(4)]
    plain.ended(names[-1])
    first = plain.http.get("/v1/batches?pageSize=2").json()
    second = plain.http.get(f"/v1/batches?pageSize=2&pageToken={first['nextPageToken']}").json()
    assert "nextPageToken" not in second
    listed = first["operations"] + second["operations"]
    assert [entry["name"] for entry in listed] == names[::-1]
    assert all("response" not in entry and "output" not in entry["metadata"] for entry in listed)


def test_other_projects_see_nothing(plain: Plain, emulator: EmulatorProcess) -> None:
    """Another key gets 404 for the batch and the input file, and an empty list."""
    file = plain.upload(texts("a"))
    name = plain.post_batch({"inputConfig": {"fileName": file}}).json()["name"]
    stranger = Plain(emulator.url, key="other")
    with stranger.http:
        assert error_of(stranger.http.get(f"/v1/{name}"))[:2] == (404, "NOT_FOUND")
        assert stranger.http.get("/v1/batches?pageSize=5").json() == {}
        assert error_of(stranger.post_batch({"inputConfig": {"fileName": file}}))[:2] == (404, "NOT_FOUND")


def test_keys(emulator: EmulatorProcess) -> None:
    """No key is 403, a bad key is 400, and the query parameter is a key as good as the header."""
    plain = Plain(emulator.url, key="")
    with plain.http:
        del plain.http.headers["x-goog-api-key"]
        assert error_of(plain.http.get("/v1/batches"))[:2] == (403, "PERMISSION_DENIED")
        bad = plain.http.get("/v1/batches?key=invalid-key")
        assert error_of(bad)[:2] == (400, "INVALID_ARGUMENT")
        assert bad.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert plain.http.get("/v1/batches?key=fine").json() == {}


def test_every_reply_is_marked(plain: Plain) -> None:
    """Answers, refusals and unknown addresses all carry the emulator's mark and a JSON body."""
    for path in ("/v1/batches", "/v1/batches/x", "/v1/nothing", "/nothing", "/_emulator/health"):
        reply = plain.http.get(path)
        assert reply.headers["x-gemini-emulator"] == "1"
        assert reply.headers["content-type"].startswith("application/json")
        reply.json()
    assert error_of(plain.http.put("/v1/batches"))[0] == 405


def test_names_that_cannot_be_parsed(plain: Plain) -> None:
    """An id that is not in the service's format is 400; an unknown one 404."""
    assert error_of(plain.http.get("/v1/batches/test-batch"))[2] == "Could not parse the batch name"
    assert error_of(plain.http.get("/v1/batches/" + "a" * 36))[:2] == (404, "NOT_FOUND")
    assert error_of(plain.http.post("/v1/batches/test-batch:cancel"))[0] == 400


BAD_CREATES: list[tuple[dict[str, Any], str]] = [
    ({"inputConfig": {"fileName": "files/x"}, "x": 1}, "Unknown name \"x\" at 'batch': Cannot find field."),
    ({"inputConfig": {"files": "x"}}, "Unknown name \"files\" at 'batch.input_config'"),
    ({"displayName": "no input"}, "input_config is required"),
    ({"inputConfig": {"fileName": "files/x", "requests": {"requests": []}}}, "exactly one of"),
    ({"inputConfig": {"requests": {"requests": [{"request": {"config": {}}}]}}}, "requests[0].request'"),
    ({"inputConfig": {"requests": {"requests": [{}]}}}, "request is required"),
]


@pytest.mark.parametrize(("batch", "message"), BAD_CREATES)
def test_bad_creates(plain: Plain, batch: dict[str, Any], message: str) -> None:
    """A create with unknown fields, no input, two inputs or a bad row names the place."""
    code, status, text = error_of(plain.post_batch(batch))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert message in text


def test_unknown_models(plain: Plain) -> None:
    """A model that does not exist, or cannot do this, is 404."""
    batch = {"inputConfig": {"fileName": plain.upload(texts("a"))}}
    assert error_of(plain.post_batch(batch, model="gemini-0-nothing"))[:2] == (404, "NOT_FOUND")
    assert error_of(plain.post_batch(batch, model="gemini-embedding-001"))[:2] == (404, "NOT_FOUND")
    assert error_of(plain.post_batch(batch, verb="asyncBatchEmbedContent"))[:2] == (404, "NOT_FOUND")


def test_quotas_of_a_tier(tmp_path: Path) -> None:
    """A tier limits the tokens that are enqueued for a model, until the jobs have ended."""
    with EmulatorProcess(tmp_path / "data", job_s=60, tier="1") as small:
        plain = Plain(small.url)
        with plain.http:
            data = texts("x" * 7_000_000)
            plain.create(data)
            batch = {"inputConfig": {"fileName": plain.upload(data)}}
            assert error_of(plain.post_batch(batch))[:2] == (429, "RESOURCE_EXHAUSTED")
            small.advance(61)
            assert plain.post_batch(batch).status_code == 200


def test_bought_twice(plain: Plain, emulator: EmulatorProcess) -> None:
    """The ledger counts answered rows, names keys that were answered in two jobs, and says where a key appeared."""
    first = plain.create(texts("a", "b", "c [[fault:internal]]"))
    plain.ended(first)
    assert emulator.ledger()["bought_twice"] == []
    second = plain.create(
        lines(("k1", text_request("b")), ("k2", text_request("c")), ('é"', text_request("d"))), name="again"
    )
    plain.ended(second)
    ledger = emulator.ledger()
    assert (ledger["rows_bought"], ledger["bought_twice"]) == (5, ["k1"])
    assert [(job["name"], job["rows"], job["state"]) for job in ledger["jobs"]] == [
        (first, 3, "SUCCEEDED"),
        (second, 3, "SUCCEEDED"),
    ]
    assert emulator.rows("k2") == [{"job": first, "outcome": "internal"}, {"job": second, "outcome": "answered"}]
    assert emulator.rows('é"') == [{"job": second, "outcome": "answered"}]


def test_the_log_holds_no_secrets(plain: Plain, emulator: EmulatorProcess) -> None:
    """The request log names the call and the display name, never a key or a prompt."""
    plain.http.get("/v1/batches?key=very-secret")
    plain.create(texts("private words"), name="shown")
    log = emulator.requests()
    assert [entry.get("display_name") for entry in log if entry["point"] == "create"] == ["shown"]
    assert "secret" not in str(log)
    assert "private" not in str(log)
