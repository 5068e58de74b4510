"""What goes wrong in production, in the order of the list "behaviours to test against" of reference/pains.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.emulator.plain import MODEL, Plain, by_key, error_of, lines, text_request, texts
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3600


@pytest.fixture
def small(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """An emulator of a tier 1 project."""
    with EmulatorProcess(tmp_path / "data", job_s=60, tier="1") as process:
        yield process


def state(plain: Plain, name: str) -> str:
    """The state of a batch."""
    return str(plain.get(name)["metadata"]["state"]).removeprefix("BATCH_STATE_")


def failed(rows: list[dict[str, Any]], code: int) -> int:
    """How many rows failed with this code."""
    return sum(row.get("error", {}).get("code") == code for row in rows)


def test_1_results_are_shuffled(plain: Plain) -> None:
    """The order of results is not that of the input (missing, doubled and foreign keys: test_faults)."""
    keys = [row["key"] for row in plain.run(*[str(n) for n in range(200)])]
    assert keys != [f"k{n}" for n in range(200)]
    assert sorted(keys) == sorted(f"k{n}" for n in range(200))


def test_2_a_long_pending(plain: Plain, emulator: EmulatorProcess) -> None:
    """30 h PENDING, then success; beyond 48 h, EXPIRED without results."""
    emulator.faults(
        [
            {"on": "job", "do": "pending", "seconds": 30 * HOUR_S, "nth": [1]},
            {"on": "job", "do": "pending", "seconds": 50 * HOUR_S, "nth": [2]},
        ]
    )
    late, never = plain.create(texts("a")), plain.create(texts("b"))
    emulator.advance(29.9 * HOUR_S)
    assert (state(plain, late), state(plain, never)) == ("PENDING", "PENDING")
    emulator.advance(0.2 * HOUR_S)
    assert len(plain.results(late)) == 1
    emulator.advance(18 * HOUR_S)
    expired = plain.get(never)
    assert (expired["metadata"]["state"], "output" in expired["metadata"]) == ("BATCH_STATE_EXPIRED", False)


def test_4_a_batch_deep_in_the_list(plain: Plain) -> None:
    """A batch from long ago is found by paging alone, and is on a page that no limit of 50 entries would reach."""
    file = plain.upload(texts("a"))
    batch = {"inputConfig": {"fileName": file}}
    wanted = plain.post_batch(batch | {"displayName": "wanted"}).json()["name"]
    for place in range(120):
        plain.post_batch(batch | {"displayName": f"other {place}"}).raise_for_status()
    found: list[str] = []
    page: dict[str, Any] = {"nextPageToken": ""}
    while "nextPageToken" in page:
        query = {"pageSize": "50", "pageToken": page["nextPageToken"]}
        page = plain.http.get("/v1/batches", params=query).raise_for_status().json()
        assert page["operations"]
        found.extend(entry["name"] for entry in page["operations"])
    assert (len(found), found[-1]) == (121, wanted)


def test_6_429_for_uploads_alone(plain: Plain, emulator: EmulatorProcess) -> None:
    """The first create of the day is refused; or uploads are, while creates go on."""
    batch = {"inputConfig": {"fileName": plain.upload(texts("a"))}}
    emulator.faults([{"on": "create", "do": "429", "nth": [1]}])
    assert [plain.post_batch(batch).status_code for _ in range(2)] == [429, 200]
    emulator.faults([{"on": "upload_start", "do": "429"}])
    assert plain.http.post("/upload/v1/files", headers={"X-Goog-Upload-Command": "start"}).status_code == 429
    assert plain.post_batch(batch).status_code == 200


def test_6_open_batches_of_a_project(small: EmulatorProcess) -> None:
    """The 101st open batch is refused, until one has ended; another project is not concerned."""
    plain, other = Plain(small.url), Plain(small.url, key="another")
    with plain.http, other.http:
        batch = {"inputConfig": {"fileName": plain.upload(texts("a"))}}
        codes = [plain.post_batch(batch).status_code for _ in range(101)]
        assert codes == [200] * 100 + [429]
        other.create(texts("a"))
        small.advance(61)
        assert plain.post_batch(batch).status_code == 200


def test_7_rows_that_fail_inside_a_success(plain: Plain, emulator: EmulatorProcess) -> None:
    """SUCCEEDED with every row code 3; with half of them code 13; with a handful of code 14."""
    emulator.faults([{"on": "row", "do": "invalid"}])
    assert failed(plain.run(*"abcd"), 3) == 4
    emulator.faults([{"on": "row", "do": "internal", "p": 0.5}])
    assert 60 < failed(plain.run(*["x"] * 200), 13) < 140
    emulator.faults([{"on": "row", "do": "unavailable", "times": 7, "p": 0.01}])
    rows = plain.run(*["x"] * 2000)
    assert (failed(rows, 14), len(rows)) == (7, 2000)


def test_9_a_bad_line_is_named(plain: Plain) -> None:
    """One bad line among thousands refuses the whole file, and is named."""
    data = texts(*["x"] * 5000).splitlines(keepends=True)
    data[4016] = lines(("bad", text_request("x") | {"config": 1}))
    batch = {"inputConfig": {"fileName": plain.upload(b"".join(data))}}
    assert error_of(plain.post_batch(batch))[2].startswith("Error on line 4017: invalid JSON, near column ")
    assert plain.http.get("/v1/batches").json() == {}


def test_10_files_that_are_not_there(plain: Plain, emulator: EmulatorProcess) -> None:
    """A file is PROCESSING for 40 s and cannot be used before; a result file is gone after two days."""
    emulator.faults([{"on": "upload", "do": "processing", "seconds": 40}])
    file = plain.upload(texts("a"))
    batch = {"inputConfig": {"fileName": file}}
    assert plain.get(file)["state"] == "PROCESSING"
    assert error_of(plain.post_batch(batch))[:2] == (400, "FAILED_PRECONDITION")
    emulator.advance(41)
    operation = plain.ended(plain.post_batch(batch).json()["name"])
    assert plain.download(operation)
    emulator.advance(48 * HOUR_S)
    gone = plain.http.get(f"/v1/{operation['metadata']['output']['responsesFile']}:download")
    assert error_of(gone)[:2] == (404, "NOT_FOUND")
    assert error_of(plain.http.get(f"/v1/{file}"))[0] == 403


def test_10_a_full_store(tmp_path: Path) -> None:
    """More than 2 GB is refused, and more than the store of a project holds, announced or not; deleting makes room."""
    with EmulatorProcess(tmp_path / "data", storage_max_bytes=1000) as process:
        plain, other = Plain(process.url), Plain(process.url, key="another")
        with plain.http, other.http:
            file = plain.upload(b"x" * 900)
            for size in (101, None):
                with pytest.raises(httpx.HTTPStatusError) as full:
                    plain.chunk(plain.start(size), b"x" * 101, 0).raise_for_status()
                assert error_of(full.value.response)[:2] == (429, "RESOURCE_EXHAUSTED")
            other.upload(b"x" * 900)
            plain.http.delete(f"/v1/{file}").raise_for_status()
            plain.upload(b"x" * 900)


def test_11_cancelled_yet_succeeded(plain: Plain, emulator: EmulatorProcess) -> None:
    """A batch that was cancelled while it ran ends SUCCEEDED, half of its rows with code 1."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 600}, {"on": "cancel", "do": "half"}])
    name = plain.create(texts(*"abcdef"))
    plain.http.post(f"/v1/{name}:cancel").raise_for_status()
    rows = plain.results(name)
    assert (failed(rows, 1), len(rows)) == (3, 6)
    assert plain.get(name)["metadata"]["batchStats"]["failedRequestCount"] == "3"


def test_priority_and_name_can_be_changed(plain: Plain, emulator: EmulatorProcess) -> None:
    """The update answers with the bare resource; the mask says what changes; the verb must fit the kind."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 600}])
    name = plain.create(texts("a"))
    path = f"/v1beta/{name}:updateGenerateContentBatch"
    changed = plain.http.patch(f"{path}?updateMask=priority", json={"priority": "-3", "displayName": "x"}).json()
    assert (changed["name"], changed["priority"], changed["displayName"]) == (name, "-3", "demo")
    assert plain.http.patch(path, json={"display_name": "x"}).json()["displayName"] == "x"
    assert plain.get(name)["metadata"]["priority"] == "-3"
    assert error_of(plain.http.patch(f"{path}?updateMask=state", json={}))[0] == 400
    assert error_of(plain.http.patch(path, json={"state": "x"}))[0] == 400
    assert error_of(plain.http.patch(f"/v1/{name}:updateEmbedContentBatch", json={"priority": 1}))[0] == 400


def test_bare_lines_without_keys(plain: Plain) -> None:
    """The guide's shell sample writes bare requests; they are answered, though nobody can tell which is which."""
    data = b"".join(lines(("", text_request(text))).removeprefix(b'{"key":"","request":')[:-2] + b"\n" for text in "ab")
    assert data.startswith(b'{"contents"')
    rows = plain.results(plain.create(data))
    assert [("key" in row, "response" in row) for row in rows] == [(False, True)] * 2
    bad = {"inputConfig": {"fileName": plain.upload(b'{"contents": [], "x": 1}\n')}}
    assert error_of(plain.post_batch(bad))[0] == 400


def test_a_multipart_upload(plain: Plain) -> None:
    """JSON and media in one body of multipart/related make a file, in pieces of any size; a torn one is refused."""
    media = texts("a", "b") + b"--not the boundary\n"
    head = b'--xyz\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{"file": {"display_name": "m"}}\r\n'
    body = head + b"--xyz\r\nContent-Type: application/jsonl\r\n\r\n" + media + b"\r\n--xyz--\r\n"
    for version in ("v1", "v1beta"):
        for step in (1, 7, len(body)):
            pieces = (body[at : at + step] for at in range(0, len(body), step))
            reply = plain.http.post(
                f"/upload/{version}/files?uploadType=multipart",
                headers={"Content-Type": "multipart/related; boundary=xyz"},
                content=pieces,
            )
            file = reply.raise_for_status().json()["file"]
            assert (file["displayName"], file["mimeType"]) == ("m", "application/jsonl")
            assert file["sizeBytes"] == str(len(media))
    torn = plain.http.post(
        "/upload/v1/files",
        headers={"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=xyz"},
        content=body[:-12],
    )
    assert error_of(torn)[:2] == (400, "INVALID_ARGUMENT")


def test_slow_bytes(plain: Plain, emulator: EmulatorProcess) -> None:
    """An answer that trickles arrives whole, but takes its time; a client that gives up is let go."""
    name = plain.create(texts("a"))
    whole = plain.ended(name)
    emulator.faults([{"on": "get", "do": "slow", "bytes_per_s": 2000, "times": 1}])
    slow = plain.http.get(f"/v1beta/{name}")
    assert slow.json() == whole
    assert slow.elapsed.total_seconds() > len(slow.content) / 2000 / 2
    emulator.faults([{"on": "get", "do": "truncated", "at_bytes": 10, "times": 1}])
    assert plain.http.get(f"/v1beta/{name}").content == slow.content[:10]


def test_rows_by_key_of_an_echo(echo: EmulatorProcess) -> None:
    """In echo mode answers are told apart by the bytes of their requests."""
    plain = Plain(echo.url)
    with plain.http:
        rows = by_key(plain.run("a", "b"))
    request = b'{"contents":[{"parts":[{"text":"b"}],"role":"user"}]}'
    assert rows["k1"]["response"] == echo.expect(MODEL, request)
