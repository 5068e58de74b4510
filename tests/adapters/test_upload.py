"""The resumable upload over a real socket that cuts, forgets and stalls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.errors import ConfigError, Rejected, Transient
from gemqueue_adapters import upload as upload_module
from gemqueue_adapters.http import Http
from tests.adapters.wire import HANG_UP, KEY, Seen, Wire, error, provider, reply, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gemqueue.provider import Provider

CHUNK = 8
LOOK = ("GET", "/v1beta/files/in1")
BODY = bytes(range(65, 65 + 20))  # two whole chunks and a half


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(upload_module, "PIECE_BYTES", 3)


class Files:
    """The upload side of a Files API. ``faults`` maps the number of a chunk request to what goes wrong there."""

    def __init__(self, faults: dict[int, str] | None = None, *, state: str = "ACTIVE") -> None:
        self.faults = faults or {}
        self.state = state
        self.held = b""
        self.final = False
        self.chunks_seen = 0
        self.url = "/upload/v1beta/files?upload_id=secret-id&upload_protocol=resumable"
        self.base_url = ""
        self.looks = 0
        self.deleted: list[str] = []
        self.told: dict[str, str] = {}
        """What the file's description says beyond the truth."""

    def __call__(self, seen: Seen) -> bytes:  # noqa: D102 - the handler
        if seen.method == "GET":
            return self._look(seen)
        if seen.method == "DELETE":
            self.deleted.append(seen.target.rpartition("/v1beta/")[2])
            return reply({})
        match seen.command:
            case "start":
                return reply(b"", headers=[f"x-goog-upload-url: {self.base_url}{self.url}", *self._where()])
            case "query":
                return reply(self._file() if self.final else b"", headers=self._where())
            case _:
                self.chunks_seen += 1
                return self._chunk(seen, self.faults.get(self.chunks_seen, ""))

    def _look(self, seen: Seen) -> bytes:
        if "pageSize" in seen.target:
            return reply({})
        self.looks += 1
        if self.looks == 2:
            return error(503)
        if self.looks == 3:
            self.state = "ACTIVE" if self.state == "PROCESSING" else self.state
        return reply(self._file()["file"])

    def _chunk(self, seen: Seen, fault: str) -> bytes:
        assert int(seen.headers["x-goog-upload-offset"]) == len(self.held)
        assert "x-goog-api-key" not in seen.headers
        if fault == "lost":
            return HANG_UP
        if fault == "refused":
            return error(503)
        self.held += seen.body[:3] if fault in {"part", "part and gone"} else seen.body
        self.final = "finalize" in seen.command and not fault.startswith("part")
        if fault in {"reply lost", "part and gone"}:
            return HANG_UP
        return reply(self._file() if self.final else b"", headers=[] if fault == "mute" else self._where())

    def _where(self) -> list[str]:
        status = "final" if self.final else "active"
        return [f"x-goog-upload-status: {status}", f"x-goog-upload-size-received: {len(self.held)}"]

    def _file(self) -> dict[str, dict[str, str]]:
        return {"file": {"name": "files/in1", "state": self.state, "sizeBytes": str(len(self.held)), **self.told}}


async def upload(made: Provider, body: bytes = BODY, **more: Any) -> str:
    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 5):
            yield body[start : start + 5]

    settings: dict[str, Any] = {"size_bytes": len(body), "name": "a batch"}
    return await made.upload(source(), **(settings | more))


def served_by(files: Files, served: Wire) -> None:
    files.base_url = served.base_url
    served.handler = files


async def test_what_an_upload_sends() -> None:
    """Start with the sizes and the name, then chunks with offsets, the last one with finalize; no key on chunks."""
    files = Files()
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        assert await upload(made) == "files/in1"
    probe, start, *chunks = served.seen
    assert probe.target == "/v1beta/batches?pageSize=1"
    assert (start.target, start.headers["x-goog-api-key"]) == ("/upload/v1beta/files", KEY)
    assert start.headers["x-goog-upload-header-content-length"] == "20"
    described = {"displayName": "a batch", "mimeType": "application/jsonl", "sizeBytes": "20"}
    assert msgspec.json.decode(start.body) == {"file": described}
    sent = [(seen.headers["x-goog-upload-offset"], seen.command, seen.body) for seen in chunks]
    assert sent == [("0", "upload", BODY[:8]), ("8", "upload", BODY[8:16]), ("16", "upload, finalize", BODY[16:])]


async def test_uploads_together_hold_a_few_chunks() -> None:
    """Of many uploads at once a few have a chunk gathered at any time; all of them come out whole."""
    held: list[Files] = []
    gathered: set[int] = set()
    most = 0

    def handle(seen: Seen) -> bytes:
        if seen.command == "start":
            held.append(Files())
            held[-1].base_url, held[-1].url = served.base_url, f"/upload/v1beta/files?upload_id={len(held) - 1}"
        return (held[int(seen.target.rpartition("upload_id=")[2])] if "upload_id" in seen.target else held[-1])(seen)

    async def one(number: int) -> None:
        async def source() -> AsyncIterator[bytes]:
            nonlocal most
            for start in range(0, len(BODY), CHUNK):
                gathered.add(number)
                most = max(most, len(gathered))
                yield BODY[start : start + CHUNK]

        async def progress(_sent_bytes: int) -> None:
            gathered.discard(number)

        await made.upload(source(), size_bytes=len(BODY), name="a batch", progress=progress)

    async with wire(lambda _seen: reply({})) as served, provider(served) as made:
        served.handler = lambda seen: reply({}) if "pageSize" in seen.target else handle(seen)
        await asyncio.gather(*map(one, range(12)))
    assert [files.held for files in held] == [BODY] * 12
    assert most <= 2 * upload_module.CHUNKS_AT_ONCE  # as many again may have been sent and not been told of yet


@pytest.mark.parametrize("fault", ["lost", "refused", "part", "part and gone", "reply lost", "mute"])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_broken_chunk_is_resumed(fault: str, number: int) -> None:
    """Wherever a chunk or its answer breaks, the file comes out whole, and only once."""
    files = Files({number: fault})
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        assert await upload(made) == "files/in1"
    assert files.held == BODY
    assert sum(seen.command == "start" for seen in served.seen) == 1


async def test_a_server_that_takes_nothing_ends_the_upload() -> None:
    """After five resumptions of one chunk the upload is given up as Transient."""
    files = Files(dict.fromkeys(range(1, 99), "lost"))
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(Transient):
            await upload(made)
    assert files.chunks_seen == 6


@pytest.mark.parametrize("size", [0, 1, 8, 16])
async def test_sizes_at_the_borders(size: int) -> None:
    """Empty files and whole numbers of chunks are finished by exactly one finalize."""
    files = Files()
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        await upload(made, BODY[:size])
    assert files.held == BODY[:size]
    assert sum("finalize" in seen.command for seen in served.seen) == 1


@pytest.mark.parametrize("announced", [19, 21])
async def test_a_wrong_size_is_never_finished(announced: int) -> None:
    """A source that does not hold what was announced raises and leaves no file."""
    files = Files()
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(ValueError, match="announced"):
            await upload(made, size_bytes=announced)
    assert not files.final


async def test_progress_is_told_at_each_chunk_and_each_look() -> None:
    """Progress hears the bytes sent per chunk, and once per look at a file that is still processing."""
    heard: list[int] = []

    async def progress(sent_bytes: int) -> None:
        heard.append(sent_bytes)

    files = Files(state="PROCESSING")
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        assert await upload(made, progress=progress) == "files/in1"
    assert heard == [8, 16, 20, 20, 20, 20]
    assert files.looks == 3


async def test_progress_is_told_while_a_chunk_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow call does not starve whoever renews the lease, and what progress raises ends the upload."""
    monkeypatch.setattr(upload_module, "HEARTBEAT_S", 0.01)
    heard: list[int] = []

    class LeaseLost(Exception):  # noqa: N818 - a stand-in for any error of the caller
        pass

    async def progress(sent_bytes: int) -> None:
        heard.append(sent_bytes)
        if len(heard) == 3:
            raise LeaseLost

    def handle(seen: Seen) -> bytes:
        return reply({}) if seen.method == "GET" else b"HTTP/1.1 200 X\r\n"

    async with wire(handle) as served, provider(served) as made:
        with pytest.raises(LeaseLost):
            await upload(made, progress=progress)
    assert heard == [0, 0, 0]


async def test_a_file_that_fails_processing() -> None:
    """FAILED is Transient: another upload may do better; this file is deleted, and the error says what it is about."""
    files = Files(state="FAILED")
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(Transient, match="failed to process") as caught:
            await upload(made)
    assert (files.deleted, caught.value.resource) == (["files/in1"], "file")


async def test_a_file_that_is_processed_for_ever() -> None:
    """The wait for ACTIVE has an end, and leaves no file."""
    files = Files(state="PROCESSING")
    files.looks = 9
    async with wire(files) as served, provider(served, processing_timeout_s=0.05) as made:
        served_by(files, served)
        with pytest.raises(Transient, match="processed") as caught:
            await upload(made)
    assert (files.deleted, caught.value.resource) == (["files/in1"], "file")


@pytest.mark.parametrize("state", ["", "STATE_UNSPECIFIED", "SCANNING"])
async def test_a_file_that_is_not_said_to_be_active_is_looked_at(state: str) -> None:
    """Only ACTIVE is usable: what has another state, or none, is waited for like one that is processed."""
    files = Files(state=state)

    def handle(seen: Seen) -> bytes:
        files.state = "ACTIVE" if (seen.method, seen.target) == LOOK else state
        return files(seen)

    async with wire(handle) as served, provider(served) as made:
        files.base_url = served.base_url
        assert await upload(made) == "files/in1"
    assert files.looks == 1


async def test_a_file_of_another_size_is_not_used() -> None:
    """What was stored is not what was sent: it is deleted, and uploaded again."""
    files = Files()
    files.told = {"displayName": "a batch", "sizeBytes": "19"}
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(Transient, match="19 bytes of 20"):
            await upload(made)
    assert files.deleted == ["files/in1"]


@pytest.mark.parametrize("told", [{"displayName": "another"}, {"name": "batches/b1"}, {"sizeBytes": "3"}])
async def test_a_file_of_somebody_else_is_left_alone(told: dict[str, str]) -> None:
    """A reply about another file is no upload of ours, and nothing that we may delete."""
    files = Files()
    files.told = told
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(Transient, match=r"another file|no file"):
            await upload(made)
    assert files.deleted == []


async def test_a_look_at_another_file_is_no_news() -> None:
    """While the file is processed, a reply about another one does not make it usable."""
    files = Files(state="PROCESSING")
    other = reply({"name": "files/other", "state": "ACTIVE"})
    async with wire(files) as served, provider(served, processing_timeout_s=0.05) as made:
        files.base_url = served.base_url
        served.handler = lambda seen: other if (seen.method, seen.target) == LOOK else files(seen)
        with pytest.raises(Transient, match="processed"):
            await upload(made)
    assert files.looks == 0


@pytest.mark.parametrize("sent", [8, 20])
async def test_what_nobody_waits_for_any_more_is_deleted(sent: int) -> None:
    """A lease that is lost when the file exists ends the upload and takes the file with it; before, there is none."""

    class LeaseLost(Exception):  # noqa: N818 - a stand-in for any error of the caller
        pass

    async def progress(sent_bytes: int) -> None:
        if sent_bytes == sent:
            raise LeaseLost

    files = Files()
    async with wire(files) as served, provider(served) as made:
        served_by(files, served)
        with pytest.raises(LeaseLost):
            await upload(made, progress=progress)
    assert files.deleted == (["files/in1"] if sent == 20 else [])


async def test_a_cancelled_upload_leaves_no_file() -> None:
    """A worker that is told to stop while the file is processed deletes it, and is cancelled all the same."""
    files = Files(state="PROCESSING")
    looking = asyncio.Event()

    async def rest(_seconds: float) -> None:
        looking.set()
        await asyncio.Event().wait()

    async with wire(files) as served, provider(served, sleep=rest) as made:
        served_by(files, served)
        task = asyncio.ensure_future(upload(made))
        await looking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files.deleted == ["files/in1"]


@pytest.mark.parametrize("answer", [HANG_UP, error(503), error(403, "PERMISSION_DENIED"), reply(b"<html>", code=404)])
async def test_a_file_that_cannot_be_deleted_hides_no_error(answer: bytes) -> None:
    """The deletion is made once; whatever becomes of it, the upload's own error is raised."""
    files = Files(state="FAILED")
    async with wire(files) as served, provider(served) as made:
        files.base_url = served.base_url
        served.handler = lambda seen: answer if seen.method == "DELETE" else files(seen)
        with pytest.raises(Transient, match="failed to process"):
            await upload(made)
    assert served.count("DELETE", "files/in1") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/upload?upload_id=a",
        "https://upload.googleapis.com/x",
        "/upload?upload_id=a",
        "http://[",
        "x:y",
    ],
)
async def test_an_upload_url_elsewhere_is_refused(url: str) -> None:
    """No prompt goes to a host that the reply of another one made up."""
    async with wire(lambda _: reply({}, headers=[f"x-goog-upload-url: {url}"])) as served, provider(served) as made:
        with pytest.raises(Rejected, match=r"upload URL|foreign host"):
            await upload(made)
    assert len(served.seen) == 2


@pytest.mark.parametrize(
    ("base", "url", "allowed"),
    [
        ("https://generativelanguage.googleapis.com", "https://storage.googleapis.com/x?upload_id=1", True),
        ("https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com:443/x", True),
        ("https://generativelanguage.googleapis.com", "http://storage.googleapis.com/x", False),
        ("https://generativelanguage.googleapis.com", "https://storage.googleapis.com:8443/x", False),
        ("https://generativelanguage.googleapis.com", "https://evilgoogleapis.com/x", False),
        ("https://generativelanguage.googleapis.com", "https://a@storage.googleapis.com/x", False),
        ("https://gateway.example", "https://gateway.example/x", True),
        ("https://gateway.example", "https://storage.googleapis.com/x", False),
    ],
)
async def test_where_upload_bytes_may_go(base: str, url: str, allowed: bool) -> None:
    """Our own origin, or from Google to Google over https."""
    http = Http(base_url=base, api_key=KEY, emulate=False, timeout_s=1)
    try:
        assert http.upload_url(url).host in url
        assert allowed
    except Rejected:
        assert not allowed
    await http.aclose()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("emulate", [False, True])
async def test_the_mark_is_checked_on_every_reply(emulate: bool, number: int) -> None:
    """A probe, a start or a chunk answered by the wrong kind of server ends the upload, before more is sent."""
    files = Files()

    def handle(seen: Seen) -> bytes:
        right = (len(served.seen) < number) == emulate
        return files(seen).replace(b"\r\n", b"\r\nx-gemini-emulator: 1\r\n" if right else b"\r\n", 1)

    async with wire(handle) as served, provider(served, emulate=emulate) as made:
        files.base_url = served.base_url
        with pytest.raises(ConfigError, match="emulator"):
            await upload(made)
    assert len(served.seen) == number


GONE = error(404, "NOT_FOUND", "no such upload")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(GONE, Transient), (error(429), Transient), (error(403, "PERMISSION_DENIED"), Rejected)],
)
async def test_a_chunk_that_is_refused_for_good(answer: bytes, kind: type[Exception]) -> None:
    """An upload that is gone, or over a quota, starts again later; a key that is wrong does not."""
    files = Files()
    refused: Callable[[Seen], bytes] = lambda seen: answer if seen.command.startswith("upload") else files(seen)  # noqa: E731
    async with wire(refused) as served, provider(served) as made:
        files.base_url = served.base_url
        with pytest.raises(kind):
            await upload(made)
    assert sum(seen.command.startswith("upload") for seen in served.seen) == 1
