"""A killed emulator goes on where it was."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.emulator.plain import MODEL, Plain, by_key, lines, text_request, texts, until
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from pathlib import Path


def test_kill_and_start_again(tmp_path: Path) -> None:
    """Files, half an upload, batches before and after their end, the ledger and the clock survive a kill -9."""
    with EmulatorProcess(tmp_path / "data", job_s=100) as emulator:
        plain = Plain(emulator.url)
        with plain.http:
            half = plain.start(6)
            plain.chunk(half, b"abc", 0, "upload")
            done = plain.create(texts("a", "b"), name="done")
            emulator.advance(101)
            results = plain.results(done)
            file = plain.upload(texts("c"))
            open_job = plain.post_batch({"displayName": "open", "inputConfig": {"fileName": file}}).json()
            before = emulator.now_ms()
            emulator.kill()
            emulator.start()
            assert emulator.now_ms() >= before
            assert plain.results(done) == results
            assert plain.get(file)["state"] == "ACTIVE"
            assert plain.chunk(half, b"def", 3).json()["file"]["sizeBytes"] == "6"
            assert plain.get(open_job["name"])["metadata"]["createTime"] == open_job["metadata"]["createTime"]
            emulator.advance(101)
            assert by_key(plain.results(open_job["name"]))["k0"]["response"] == emulator.expect(
                MODEL, text_request("c")
            )
            assert emulator.ledger()["bought_twice"] == ["k0"]
            assert [each["name"] for each in plain.http.get("/v1/batches").json()["operations"]] == [
                open_job["name"],
                done,
            ]


def test_killed_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """A job whose results were being written runs again, to the same answers."""
    rows = [(f"k{n}", text_request("x" * 2000)) for n in range(20_000)]
    with EmulatorProcess(tmp_path / "data", job_s=0) as emulator:
        plain = Plain(emulator.url)
        with plain.http:
            name = plain.create(lines(*rows))
            emulator.kill()
            emulator.start()
            assert len(by_key(plain.results(name))) == len(rows)
            assert emulator.ledger()["rows_bought"] == len(rows)


def test_a_clean_stop(tmp_path: Path) -> None:
    """SIGTERM ends the process with code 0, and the ready file goes."""
    emulator = EmulatorProcess(tmp_path / "data").start()
    assert emulator.stop() == 0
    assert not (tmp_path / "data.ready").exists()


def test_a_shared_clock(tmp_path: Path) -> None:
    """GEMQUEUE_TEST_CLOCK names a file through which processes share one offset."""
    file = tmp_path / "clock"
    with EmulatorProcess(tmp_path / "data", env={"GEMQUEUE_TEST_CLOCK": file.as_uri()}) as emulator:
        assert emulator.get("clock")["offset_s"] == 0
        emulator.advance(3600)
        assert float(file.read_text()) == 3600
        file.write_text("7200.5")
        until(lambda: emulator.get("clock")["offset_s"] == 7200.5)


def test_an_error_of_its_own_carries_its_mark(tmp_path: Path) -> None:
    """What breaks inside (a disk that is full, a folder that is gone) is a 500 of an emulator, not of some service."""
    with EmulatorProcess(tmp_path / "data") as emulator:
        plain = Plain(emulator.url)
        with plain.http:
            shutil.rmtree(emulator.data)
            url = "/upload/v1beta/files"
            reply = plain.http.post(
                url, headers={"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
            )
            if reply.is_success:
                reply = plain.http.post(reply.headers["x-goog-upload-url"], content=b"abc")
            assert reply.status_code == 500
            assert reply.headers["x-gemini-emulator"] == "1"
