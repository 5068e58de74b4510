"""The resumable upload in detail, and the life of files (protocol section 8)."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64encode
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.emulator.plain import Plain, error_of, texts, until

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess

DAY_S = 24 * 3600


def test_the_start_answers_an_absolute_address(plain: Plain) -> None:
    """The address for the bytes leads back to the host that the client used, and needs no key."""
    url = plain.start(3)
    assert url.startswith(str(plain.http.base_url))
    del plain.http.headers["x-goog-api-key"]
    reply = plain.chunk(url, b"abc", 0)
    assert (reply.headers["x-goog-upload-status"], reply.json()["file"]["sizeBytes"]) == ("final", "3")


def test_chunks_query_and_resume(plain: Plain) -> None:
    """Chunks go on at the offset that a query names; a chunk that is sent again replaces the first."""
    url = plain.start(10)
    first = plain.chunk(url, b"01234", 0, "upload")
    assert (first.headers["x-goog-upload-status"], first.headers["x-goog-upload-size-received"]) == ("active", "5")
    assert plain.chunk(url, b"234567", 2, "upload").headers["x-goog-upload-size-received"] == "8"
    asked = plain.http.post(url, headers={"X-Goog-Upload-Command": "query"})
    assert (asked.headers["x-goog-upload-status"], asked.headers["x-goog-upload-size-received"]) == ("active", "8")
    assert error_of(plain.chunk(url, b"x", 9))[:2] == (400, "INVALID_ARGUMENT")
    file = plain.chunk(url, b"89", 8).json()["file"]
    assert file["sha256Hash"] == b64encode(hashlib.sha256(b"0123456789").hexdigest().encode()).decode()
    assert plain.http.post(url, headers={"X-Goog-Upload-Command": "query"}).headers["x-goog-upload-status"] == "final"


def test_finalize_alone(plain: Plain) -> None:
    """A finalize without bytes makes the file, and again the same file."""
    url = plain.start(3)
    plain.chunk(url, b"abc", 0, "upload")
    replies = [plain.http.post(url, headers={"X-Goog-Upload-Command": "finalize"}) for _ in range(2)]
    assert replies[0].headers["x-goog-upload-status"] == "final"
    assert replies[0].json() == replies[1].json()


def test_a_size_that_was_announced_is_held(plain: Plain) -> None:
    """Finishing with less than was announced is refused; the upload goes on."""
    url = plain.start(5)
    assert error_of(plain.chunk(url, b"abc", 0))[0] == 400
    assert plain.chunk(url, b"de", 3).json()["file"]["sizeBytes"] == "5"


def test_a_file_over_the_limit_is_refused_at_the_start(plain: Plain) -> None:
    """2 GB is the most."""
    headers = {"X-Goog-Upload-Command": "start", "X-Goog-Upload-Header-Content-Length": str((2 << 30) + 1)}
    assert error_of(plain.http.post("/upload/v1/files", headers=headers))[0] == 400


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_single_quoted_json_in_the_start(plain: Plain, version: str) -> None:
    """The dialect of the guide's shell samples is understood, under both versions."""
    reply = plain.http.post(
        f"/upload/{version}/files",
        headers={"X-Goog-Upload-Command": "start", "Content-Type": "application/jsonl"},
        content=b"{'file': {'display_name': 'batch-input-file'}}",
    )
    file = plain.chunk(reply.headers["x-goog-upload-url"], b"x", 0).json()["file"]
    assert file["displayName"] == "batch-input-file"


def test_names_that_cannot_be(plain: Plain) -> None:
    """A chosen name is 40 lowercase letters, digits and inner dashes at most."""
    for name in ("files/-a", "files/A", "files/" + "a" * 41, "a"):
        reply = plain.http.post(
            "/upload/v1/files", headers={"X-Goog-Upload-Command": "start"}, json={"file": {"name": name}}
        )
        assert error_of(reply)[:2] == (400, "INVALID_ARGUMENT")


def test_missing_foreign_and_expired_files_look_the_same(plain: Plain, emulator: EmulatorProcess) -> None:
    """All three answer 403, never 404."""
    name = plain.upload(b"x")
    stranger = Plain(emulator.url, key="other")
    with stranger.http:
        assert error_of(stranger.http.get(f"/v1/{name}"))[:2] == (403, "PERMISSION_DENIED")
        assert stranger.http.get("/v1/files").json() == {}
    assert error_of(plain.http.get("/v1/files/nothere"))[:2] == (403, "PERMISSION_DENIED")
    emulator.advance(2 * DAY_S + 1)
    assert error_of(plain.http.get(f"/v1/{name}"))[:2] == (403, "PERMISSION_DENIED")


def test_processing_then_active(plain: Plain, emulator: EmulatorProcess) -> None:
    """A file that is PROCESSING cannot be used yet; later it can."""
    emulator.faults([{"on": "upload", "do": "processing", "seconds": 40}])
    name = plain.upload(texts("a"))
    assert plain.get(name)["state"] == "PROCESSING"
    batch = {"inputConfig": {"fileName": name}}
    assert error_of(plain.post_batch(batch))[:2] == (400, "FAILED_PRECONDITION")
    emulator.advance(41)
    assert plain.get(name)["state"] == "ACTIVE"
    assert plain.post_batch(batch).status_code == 200


def test_a_connection_that_breaks_in_a_chunk(plain: Plain) -> None:
    """What arrived before the break is kept, and the upload goes on from there."""
    url = httpx.URL(plain.start(6))
    head = f"POST {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\nX-Goog-Upload-Command: upload, finalize\r\n"
    with socket.create_connection((url.host, url.port or 0)) as connection:
        connection.sendall(f"{head}X-Goog-Upload-Offset: 0\r\nContent-Length: 6\r\n\r\nabc".encode())
    query = {"X-Goog-Upload-Command": "query"}
    until(lambda: plain.http.post(url, headers=query).headers["x-goog-upload-size-received"] == "3")
    assert plain.chunk(str(url), b"def", 3).json()["file"]["sizeBytes"] == "6"


def test_a_large_body_that_is_refused_unread(plain: Plain) -> None:
    """A refusal reaches the client though the emulator never looks at the body."""
    del plain.http.headers["x-goog-api-key"]
    for _ in range(3):
        assert (
            error_of(plain.http.post("/v1/models/gemini-3.8-flash:batchGenerateContent", content=b"x" * (12 << 20)))[0]
            == 403
        )
    plain.http.headers["x-goog-api-key"] = "k"
    assert (
        error_of(plain.http.post("/v1/models/gemini-3.8-flash:batchGenerateContent", content=b" " * (21 << 20)))[0]
        == 400
    )
    assert plain.http.get("/v1/batches").json() == {}
