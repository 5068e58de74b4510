"""Each fault, driven once and seen by a plain client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from tests.emulator.plain import MODEL, Plain, by_key, error_of, lines, text_request, texts, until

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess

Dropped = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


def names(plain: Plain) -> list[str]:
    """The display names in the list."""
    found = plain.http.get("/v1/batches?pageSize=100").json()
    return [entry["metadata"]["displayName"] for entry in found.get("operations", [])]


def batch(plain: Plain, name: str) -> dict[str, Any]:
    """The body of a create over a fresh file."""
    return {"displayName": name, "inputConfig": {"fileName": plain.upload(texts("a"))}}


def test_a_reply_lost_before_the_effect(plain: Plain, emulator: EmulatorProcess) -> None:
    """The connection closes without an answer, and nothing was created."""
    body = batch(plain, "x")
    emulator.faults([{"on": "create", "do": "lost_before", "nth": [1]}])
    with pytest.raises(Dropped):
        plain.post_batch(body)
    assert names(plain) == []
    assert plain.post_batch(body).status_code == 200
    assert emulator.fault_hits() == [1]


def test_a_reply_lost_after_the_effect(plain: Plain, emulator: EmulatorProcess) -> None:
    """The connection closes without an answer, but the batch exists."""
    body = batch(plain, "x")
    emulator.faults([{"on": "create", "do": "lost_after", "times": 1}])
    with pytest.raises(Dropped):
        plain.post_batch(body)
    assert names(plain) == ["x"]


def test_an_effect_that_comes_late(plain: Plain, emulator: EmulatorProcess) -> None:
    """The batch appears only when virtual time has passed; not at all if its file was deleted before."""
    bodies = [batch(plain, "x"), batch(plain, "y")]
    emulator.faults([{"on": "create", "do": "delayed", "seconds": 60}])
    for body in bodies:
        with pytest.raises(Dropped):
            plain.post_batch(body)
    plain.http.delete(f"/v1/{bodies[1]['inputConfig']['fileName']}")
    assert names(plain) == []
    emulator.advance(61)
    assert until(lambda: names(plain)) == ["x"]
    # The two effects come in the order of their requests, so the second has been refused or is about to be.
    emulator.advance(61)
    assert names(plain) == ["x"]


def test_an_upload_whose_reply_is_lost(plain: Plain, emulator: EmulatorProcess) -> None:
    """The bytes have arrived, as a query tells, and finishing gives the file."""
    url = plain.start(3)
    emulator.faults([{"on": "upload", "do": "lost_after", "nth": [1]}])
    with pytest.raises(Dropped):
        plain.chunk(url, b"abc", 0)
    assert plain.http.post(url, headers={"X-Goog-Upload-Command": "query"}).headers["x-goog-upload-status"] == "final"
    assert plain.http.post(url, headers={"X-Goog-Upload-Command": "finalize"}).json()["file"]["sizeBytes"] == "3"


def test_429_in_its_forms(plain: Plain, emulator: EmulatorProcess) -> None:
    """With and without Retry-After and RetryInfo, in the service's words."""
    emulator.faults(
        [
            {"on": "upload_start", "do": "429", "nth": [1]},
            {"on": "create", "do": "429", "nth": [1], "retry_after_s": 7, "retry_info_s": 17},
        ]
    )
    bare = plain.http.post("/upload/v1/files", headers={"X-Goog-Upload-Command": "start"})
    assert error_of(bare)[:2] == (429, "RESOURCE_EXHAUSTED")
    assert "retry-after" not in bare.headers
    told = plain.post_batch(batch(plain, "x"))
    assert told.headers["retry-after"] == "7"
    assert told.json()["error"]["details"][1]["retryDelay"] == "17s"


@pytest.mark.parametrize("code", [400, 403, 404, 408, 409, 429, 500, 502, 503, 504])
def test_errors_with_and_without_effect(plain: Plain, emulator: EmulatorProcess, code: int) -> None:
    """Any error can be ordered, with its envelope; whether the create happened all the same is ordered apart."""
    body = batch(plain, "x")
    emulator.faults([{"on": "create", "do": str(code), "nth": [1]}, {"on": "create", "do": str(code), "effect": True}])
    assert error_of(plain.post_batch(body))[0] == code
    assert names(plain) == []
    assert error_of(plain.post_batch(body))[0] == code
    assert names(plain) == ["x"]


def test_any_call_can_fail(plain: Plain, emulator: EmulatorProcess) -> None:
    """Point "any" stands for all routes, by probability with a seed."""
    emulator.faults([{"on": "any", "do": "503", "p": 0.5}])
    first = [plain.http.get("/v1/batches").status_code for _ in range(30)]
    emulator.faults([{"on": "any", "do": "503", "p": 0.5}])
    assert [plain.http.get("/v1/batches").status_code for _ in range(30)] == first
    assert {200, 503} == set(first)


def test_a_list_that_lags(plain: Plain, emulator: EmulatorProcess) -> None:
    """A batch is not in the list until it is old enough, though get finds it."""
    emulator.faults([{"on": "list", "do": "lag", "seconds": 30}])
    name = plain.create(texts("a"), name="x")
    assert names(plain) == []
    assert plain.get(name)["name"] == name
    emulator.advance(31)
    assert names(plain) == ["x"]


@pytest.mark.parametrize(
    ("do", "state", "code"), [("expired", "EXPIRED", 4), ("failed", "FAILED", 8), ("cancelled", "CANCELLED", 8)]
)
def test_jobs_that_end_badly(plain: Plain, emulator: EmulatorProcess, do: str, state: str, code: int) -> None:
    """The operation is done, has an error and no output, and nothing was bought."""
    emulator.faults([{"on": "job", "do": do, "code": 8}])
    done = plain.ended(plain.create(texts("a")))
    assert done["metadata"]["state"] == f"BATCH_STATE_{state}"
    assert done["error"]["code"] == (13 if do == "cancelled" else code)
    assert "response" not in done
    assert emulator.ledger()["rows_bought"] == 0


def test_a_job_that_is_cancelled_half_way(plain: Plain, emulator: EmulatorProcess) -> None:
    """It ends SUCCEEDED all the same, the later rows with code 1: by itself, or when the client cancels."""
    emulator.faults(
        [{"on": "job", "do": "half", "nth": [1]}, {"on": "job", "do": "pending", "seconds": 60, "nth": [2]}]
    )
    first, second = plain.create(texts(*"abcd")), plain.create(texts(*"efgh"))
    emulator.faults([{"on": "cancel", "do": "half"}])
    plain.http.post(f"/v1/{second}:cancel")
    for name in (first, second):
        rows = by_key(plain.results(name))
        assert [rows[f"k{n}"].get("error") for n in range(4)] == [None, None, {"code": 1}, {"code": 1}]
    assert emulator.ledger()["rows_bought"] == 4


def test_other_spellings_of_an_operation(plain: Plain, emulator: EmulatorProcess) -> None:
    """Inline output for a file job, JOB_STATE names, and the bare resource can be ordered."""
    emulator.faults(
        [
            {"on": "job", "do": "inline_output", "nth": [1]},
            {"on": "job", "do": "job_state", "nth": [1]},
            {"on": "job", "do": "flat", "nth": [2]},
        ]
    )
    done = plain.ended(plain.create(texts("a", "b")))
    assert done["metadata"]["state"] == "JOB_STATE_SUCCEEDED"
    inlined = done["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]
    assert {row["metadata"]["key"] for row in inlined} == {"k0", "k1"}
    assert done["response"]["inlinedResponses"]["inlinedResponses"] == inlined
    name = plain.create(texts("a"))
    until(lambda: plain.get(name)["state"] == "BATCH_STATE_SUCCEEDED")
    flat = plain.get(name)
    assert "metadata" not in flat
    assert flat["output"]["responsesFile"].startswith("files/batch-")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cancelled", 1),
        ("unknown", 2),
        ("invalid", 3),
        ("deadline", 4),
        ("not_found", 5),
        ("exhausted", 8),
        ("internal", 13),
        ("unavailable", 14),
    ],
)
def test_rows_that_fail(plain: Plain, emulator: EmulatorProcess, fault: str, code: int) -> None:
    """A marked row fails with its code, the others do not, and the counters say so."""
    name = plain.create(texts("a", f"b [[fault:{fault}]]"))
    rows = by_key(plain.results(name))
    assert rows["k1"]["error"]["code"] == code
    assert "response" in rows["k0"]
    assert plain.get(name)["metadata"]["batchStats"]["failedRequestCount"] == "1"
    assert emulator.ledger()["rows_bought"] == 1


def test_a_marker_that_counts(plain: Plain, emulator: EmulatorProcess) -> None:
    """A counted marker is at work only the first times that its key runs; a job that was cancelled does not count."""
    text = "a [[fault:internal:2]]"
    emulator.faults([{"on": "job", "do": "pending", "seconds": 60, "nth": [1]}])
    plain.http.post(f"/v1/{plain.create(texts(text))}:cancel")
    assert ["error" in plain.run(text)[0] for _ in range(3)] == [True, True, False]


def test_rows_by_the_engine(plain: Plain, emulator: EmulatorProcess) -> None:
    """Faults choose rows by key, index or text, with any code and message."""
    emulator.faults(
        [
            {"on": "row", "do": "error", "code": 7, "message": "m", "match": {"key": "k1"}},
            {"on": "row", "do": "missing", "match": {"key_index": 2}},
            {"on": "row", "do": "invalid", "match": {"text_contains": "needle"}, "times": 1},
        ]
    )
    rows = by_key(plain.run("a", "b", "c", "a needle", "d"))
    assert set(rows) == {"k0", "k1", "k3", "k4"}
    assert rows["k1"]["error"] == {"code": 7, "message": "m"}
    assert rows["k3"]["error"]["code"] == 3
    assert emulator.fault_hits() == [1, 1, 1]


def test_keys_that_go_wrong(plain: Plain, emulator: EmulatorProcess) -> None:
    """Rows are missing, doubled, foreign and swapped, as marked."""
    rows = plain.run(
        "a",
        "b [[fault:missing]]",
        "c [[fault:doubled]]",
        "d [[fault:foreign]]",
        "e [[fault:swapped]]",
        "f [[fault:swapped]]",
    )
    keys = sorted(row["key"] for row in rows)
    assert keys[1:] == ["k0", "k2", "k2", "k4", "k5"]
    assert keys[0].startswith("foreign-")
    expected = emulator.expect(MODEL, {"contents": [{"parts": [{"text": "f [[fault:swapped]]"}], "role": "user"}]})
    assert by_key(rows)["k4"]["response"] == expected


def test_lines_that_are_broken(plain: Plain) -> None:
    """A malformed line and one that is not UTF-8 stand among good ones."""
    done = plain.ended(plain.create(texts("a", "b [[fault:malformed]]", "c [[fault:not_utf8]]", "d")))
    good, broken, foul = 0, 0, 0
    for line in plain.download(done).splitlines():
        try:
            msgspec.json.decode(line.decode())
            good += 1
        except UnicodeDecodeError:
            foul += 1
        except msgspec.DecodeError:
            broken += 1
    assert (good, broken, foul) == (2, 1, 1)


def test_successes_without_an_answer(plain: Plain, emulator: EmulatorProcess) -> None:
    """Blocked, withheld, cut and empty answers have the service's shapes; only a cut text counts as bought."""
    faults = ["blocked", "safety", "recitation", "max_tokens", "max_tokens_empty", "empty"]
    rows = by_key(plain.run(*[f"a [[fault:{fault}]]" for fault in faults]))
    blocked, safety, recitation, cut, spent, empty = (rows[f"k{n}"]["response"] for n in range(6))
    assert "candidates" not in blocked
    assert blocked["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert safety["candidates"] == [{"finishReason": "SAFETY", "index": 0}]
    assert recitation["candidates"] == [{"finishReason": "RECITATION", "index": 0}]
    assert cut["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert cut["candidates"][0]["content"]["parts"][0]["text"].startswith("[emulated]")
    assert spent["candidates"] == [{"finishReason": "MAX_TOKENS", "index": 0}]
    assert empty["candidates"][0]["content"] == {"role": "model"}
    for response in (blocked, safety, recitation, cut, spent, empty):
        usage = response["usageMetadata"]
        assert usage["promptTokenCount"] + usage.get("candidatesTokenCount", 0) == usage["totalTokenCount"]
    assert emulator.ledger()["rows_bought"] == 1


def test_downloads_that_break(plain: Plain, emulator: EmulatorProcess) -> None:
    """A body may be short with a length that fits, short without a length, or cut off in the middle."""
    done = plain.ended(plain.create(texts("a", "b")))
    whole = plain.download(done)
    emulator.faults(
        [
            {"on": "download", "do": "truncated", "at_bytes": 100, "nth": [1]},
            {"on": "download", "do": "truncated_chunked", "nth": [1]},
            {"on": "download", "do": "cut", "at_bytes": 50, "nth": [1]},
        ]
    )
    assert plain.download(done) == whole[:100]
    assert plain.download(done) == whole[: len(whole) // 2]
    with pytest.raises(Dropped):
        plain.download(done)
    assert plain.download(done) == whole


def test_markers_in_echo_mode(echo: EmulatorProcess) -> None:
    """Markers work in echo mode as well."""
    plain = Plain(echo.url)
    with plain.http:
        rows = by_key(plain.run("a", "b [[fault:internal]]"))
        assert ("response" in rows["k0"], rows["k1"]["error"]["code"]) == (True, 13)


def test_faults_that_do_not_exist(plain: Plain) -> None:
    """A fault with a typing error is refused, and the old ones stay."""
    for wrong in ({"on": "create", "do": "lag"}, {"on": "x", "do": "429"}, {"on": "get", "do": "429", "n": 1}):
        assert error_of(plain.http.post("/_emulator/faults", json=[wrong]))[0] == 400


SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.mark.parametrize("spelling", ["responseJsonSchema", "response_json_schema"])
def test_answers_of_the_wrong_shape(plain: Plain, emulator: EmulatorProcess, spelling: str) -> None:
    """In a batch, rows that ask by responseJsonSchema get JSON of another shape; all else is answered rightly."""
    asked = {
        name: text_request(name) | {"generationConfig": {"responseMimeType": "application/json", **more}}
        for name, more in {"json": {spelling: SCHEMA}, "own": {"responseSchema": SCHEMA}, "free": {}}.items()
    }
    emulator.faults([{"on": "row", "do": "wrong_shape"}])
    rows = by_key(plain.results(plain.create(lines(*asked.items()))))
    said = {key: row["response"]["candidates"][0]["content"]["parts"][0]["text"] for key, row in rows.items()}
    assert isinstance(msgspec.json.decode(said["json"]), list)
    assert set(msgspec.json.decode(said["own"])) == {"label"}
    assert msgspec.json.decode(said["free"])["emulated"] is True
    alone = plain.http.post(f"/v1/models/{MODEL}:generateContent", json=asked["json"]).json()
    assert set(msgspec.json.decode(alone["candidates"][0]["content"]["parts"][0]["text"])) == {"label"}
    assert emulator.ledger()["rows_bought"] == 3


@pytest.mark.parametrize(
    ("do", "code", "status"),
    [
        ("spend_cap", 429, "RESOURCE_EXHAUSTED"),
        ("no_credits", 429, "RESOURCE_EXHAUSTED"),
        ("no_billing", 403, "PERMISSION_DENIED"),
        ("unpaid", 400, "FAILED_PRECONDITION"),
    ],
)
def test_refusals_for_want_of_money(plain: Plain, emulator: EmulatorProcess, do: str, code: int, status: str) -> None:
    """A create is refused in the service's words, and nothing was created."""
    body = batch(plain, "x")
    emulator.faults([{"on": "create", "do": do}])
    assert error_of(plain.post_batch(body))[:2] == (code, status)
    assert names(plain) == []
