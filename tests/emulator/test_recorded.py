"""The recorded requests of the protocol's section 18, replayed byte by byte over a raw socket."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from tests.emulator.plain import MODEL, Plain, texts

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess

SDK = (
    "x-goog-api-key: test-key\r\nContent-Type: application/json\r\n"
    "user-agent: google-genai-sdk/3.4.0 gl-python/3.11.7\r\n"
    "x-goog-api-client: google-genai-sdk/3.4.0 gl-python/3.11.7\r\n"
)
NODE = SDK.replace("gl-python/3.11.7", "gl-node/24.0.0")
CHUNK = "User-Agent: python-httpx2/2.16.2\r\nContent-Type: application/json\r\n"
OPENAI = (
    "authorization: Bearer test-key\r\naccept: application/json\r\ncontent-type: application/json\r\n"
    "user-agent: OpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\nx-stainless-retry-count: 0\r\n"
)


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Wire:
    """Sends the bytes of one request over a connection of its own."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)

    def __call__(self, line: str, headers: str = SDK, body: bytes = b"", *, length: bool = True) -> Reply:
        """Send it, and read until the connection closes."""
        head = f"{line} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{headers}"
        head += f"Content-Length: {len(body)}\r\n" if length else ""
        with contextlib.closing(socket.create_connection((self.host, self.port), 60)) as connection:
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
            raw = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        top, _, rest = raw.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        pairs = (each.split(": ", 1) for each in lines)
        return Reply(int(first.split()[1]), {name.lower(): text for name, text in pairs}, rest)


@pytest.fixture
def wire(emulator: EmulatorProcess) -> Wire:
    return Wire(emulator.url)


def started(wire: Wire, size: int, body: bytes, headers: str = SDK) -> str:
    """Begin an upload as recorded; the path and query of its address."""
    reply = wire(
        "POST /upload/v1/files",
        f"{headers}X-Goog-Upload-Protocol: resumable\r\nX-Goog-Upload-Command: start\r\n"
        f"X-Goog-Upload-Header-Content-Length: {size}\r\nX-Goog-Upload-Header-Content-Type: jsonl\r\n"
        "X-Goog-Upload-File-Name: in.jsonl\r\n",
        body,
    )
    assert (reply.status, reply.body, reply.headers["x-goog-upload-status"]) == (200, b"", "active")
    url = reply.headers["x-goog-upload-url"]
    assert url.startswith(f"http://{wire.host}:{wire.port}/upload/v1/files?upload_id=")
    return url.removeprefix(f"http://{wire.host}:{wire.port}")


def test_upload_from_a_path(wire: Wire) -> None:
    """Start and keyless final chunk, as google-genai for Python sends them, give the file."""
    data = b'{"key":"k1"}\n'
    path = started(wire, 13, b'{"file": {"display_name": "d", "mime_type": "jsonl", "size_bytes": 13}}')
    reply = wire(
        f"POST {path}",
        f"{CHUNK}X-Goog-Upload-Protocol: resumable\r\nX-Goog-Upload-Command: upload, finalize\r\n"
        "X-Goog-Upload-Header-Content-Length: 13\r\nX-Goog-Upload-Header-Content-Type: jsonl\r\n"
        "X-Goog-Upload-File-Name: in.jsonl\r\nX-Goog-Upload-Offset: 0\r\n",
        data,
    )
    assert (reply.status, reply.headers["x-goog-upload-status"]) == (200, "final")
    file = reply.json["file"]
    assert (file["displayName"], file["sizeBytes"], file["state"], file["source"]) == ("d", "13", "ACTIVE", "UPLOADED")


def test_upload_in_two_chunks(wire: Wire) -> None:
    """A stream of 9 MiB under a chosen name arrives in 8 MiB and 1 MiB; JavaScript sends the key along."""
    size = 9437184
    start = b'{"file":{"mimeType":"application/jsonl","name":"files/my-id","sizeBytes":"9437184"}}'
    path = started(wire, size, start, NODE)
    first = wire(f"POST {path}", NODE + "X-Goog-Upload-Command: upload\r\nX-Goog-Upload-Offset: 0\r\n", b"x" * 8388608)
    assert (first.status, first.headers["x-goog-upload-status"]) == (200, "active")
    assert first.headers["x-goog-upload-size-received"] == "8388608"
    query = wire(f"POST {path}", "X-Goog-Upload-Command: query\r\n")
    assert (query.headers["x-goog-upload-status"], query.headers["x-goog-upload-size-received"]) == (
        "active",
        "8388608",
    )
    last = wire(
        f"POST {path}",
        NODE + "X-Goog-Upload-Command: upload, finalize\r\nX-Goog-Upload-Offset: 8388608\r\n",
        b"x" * 1048576,
    )
    assert (last.headers["x-goog-upload-status"], last.json["file"]["name"]) == ("final", "files/my-id")


PYTHON_FULL = (
    b'{"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": [{"parts": [{"text": "q1"}], '
    b'"role": "user"}], "systemInstruction": {"parts": [{"text": "sys"}]}, "safetySettings": [{"category": '
    b'"HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}], "tools": [{"googleSearch": {}}], "generationConfig": '
    b'{"temperature": 0.5, "maxOutputTokens": 10, "responseMimeType": "application/json"}}, "metadata": {"key": '
    b'"k1"}}]}}, "displayName": "demo", "webhookConfig": {"uris": ["https://h/x"], "user_metadata": {"a": "b"}}}}'
)
PYTHON_LEAST = (
    b'{"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": [{"parts": [{"text": "q1"}], '
    b'"role": "user"}]}}]}}}}'
)
NODE_FULL = (
    b'{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"contents":[{"parts":[{"text":"q1"}],"role":'
    b'"user"}],"systemInstruction":{"parts":[{"text":"sys"}]},"generationConfig":{"temperature":0.5}},"metadata":'
    b'{"key":"k1"}}]}},"displayName":"demo","webhookConfig":{"uris":["https://h/x"],"userMetadata":{"a":"b"}}}}'
)
INLINE = [(SDK, PYTHON_FULL), (SDK, PYTHON_LEAST), (NODE, NODE_FULL)]


@pytest.mark.parametrize(("headers", "body"), INLINE)
def test_create_inline(wire: Wire, plain: Plain, headers: str, body: bytes) -> None:
    """The recorded inline creates give a PENDING operation without their input, and a result with its metadata."""
    reply = wire(f"POST /v1/models/{MODEL}:batchGenerateContent", headers, body)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    metadata = reply.json["metadata"]
    assert (metadata["state"], metadata["batchStats"]) == (
        "BATCH_STATE_PENDING",
        {"requestCount": "1", "pendingRequestCount": "1"},
    )
    assert "inputConfig" not in metadata
    done = plain.ended(reply.json["name"])
    [row] = done["response"]["inlinedResponses"]["inlinedResponses"]
    assert row.get("metadata") == ({"key": "k1"} if b"metadata" in body.replace(b"_metadata", b"") else None)
    assert "response" in row


EMBED = (
    b'{"batch": {"inputConfig": {"requests": {"requests": [{"request": {"content": {"parts": [{"text": "1"}]}, '
    b'"taskType": "RETRIEVAL_DOCUMENT", "outputDimensionality": 5}}, {"request": {"content": {"parts": [{"text": '
    b'"2"}]}, "taskType": "RETRIEVAL_DOCUMENT", "outputDimensionality": 5}}]}}, "displayName": "emb"}}'
)


def test_embedding_creates(wire: Wire, plain: Plain) -> None:
    """Inline, and by file with the snake_case name that the clients really send."""
    reply = wire("POST /v1/models/gemini-embedding-001:asyncBatchEmbedContent", SDK, EMBED)
    rows = plain.ended(reply.json["name"])["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]
    assert [len(row["response"]["embedding"]["values"]) for row in rows] == [5, 5]
    line = b'{"key": "request_1", "request": {"content": {"parts": [{"text": "a"}]}, "output_dimensionality": 512}}'
    body = b'{"batch": {"inputConfig": {"file_name": "%b"}, "displayName": "emb"}}' % plain.upload(line).encode()
    reply = wire("POST /v1/models/gemini-embedding-001:asyncBatchEmbedContent", SDK, body)
    assert reply.json["metadata"]["@type"].endswith("v1main.EmbedContentBatch")
    assert plain.results(reply.json["name"])[0]["key"] == "request_1"


def test_the_remaining_calls(wire: Wire, plain: Plain, emulator: EmulatorProcess) -> None:
    """Get, list, download, cancel and delete, with the odd bodies that each client sends."""
    file = plain.upload(texts("a"))
    body = f'{{"batch": {{"inputConfig": {{"fileName": "{file}"}}, "displayName": "demo"}}}}'.encode()
    name = wire(f"POST /v1/models/{MODEL}:batchGenerateContent", SDK, body).json["name"]
    plain.ended(name)
    operation = wire(f"GET /v1/{name}", SDK, length=False).json
    assert operation["metadata"]["output"] == {"responsesFile": operation["response"]["responsesFile"]}
    result = operation["response"]["responsesFile"]
    assert result == f"files/batch-{name.removeprefix('batches/')}"
    for path in (f"/v1/{result}:download?alt=media", f"/download/v1/{result}:download?alt=media"):
        assert b'"key":"k0"' in wire(f"GET {path}", SDK, length=False).body
    assert wire(f"GET /v1/{result}", SDK, length=False).status == 400
    second = plain.create(texts("b"))
    page = wire("GET /v1/batches?pageSize=1", SDK, length=False).json
    assert [entry["name"] for entry in page["operations"]] == [second]
    last = wire(f"GET /v1/batches?pageSize=1&pageToken={page['nextPageToken']}", SDK, length=False).json
    assert ([entry["name"] for entry in last["operations"]], "nextPageToken" in last) == ([name], False)
    assert wire(f"GET /v1/{file}", SDK, length=False).json["name"] == file
    assert len(wire("GET /v1/files?pageSize=2", SDK, length=False).json["files"]) == 2
    emulator.faults([{"on": "job", "do": "pending", "seconds": 600}])
    for cancelled, headers, body in ((plain.create(texts("c")), SDK, b""), (plain.create(texts("d")), NODE, b"{}")):
        assert wire(f"POST /v1/{cancelled}:cancel", headers, body).json == {}
        assert plain.get(cancelled)["metadata"]["state"] == "BATCH_STATE_CANCELLED"
        assert wire(f"DELETE /v1/{cancelled}", headers, body).json == {}
    assert wire(f"DELETE /v1/{file}", NODE, b"{}").json == {}
    assert wire(f"GET /v1/{file}", SDK, length=False).status == 403


def test_webhook_calls(wire: Wire) -> None:
    """The generated sub-client's requests, with their empty cookie, get snake_case answers."""
    headers = NODE + "Accept: application/json\r\ncookie: \r\n"
    create = b'{"subscribed_events":["batch.succeeded","batch.failed"],"uri":"https://my-api.com/cb","name":"MyBatchWebhook"}'
    made = wire("POST /v1/webhooks", headers, create).json
    assert set(made) >= {"id", "name", "uri", "subscribed_events", "state", "signing_secrets", "new_signing_secret"}
    path = f"/v1/webhooks/{made['id']}"
    assert wire("GET /v1/webhooks?page_size=5", headers, length=False).json["webhooks"][0]["id"] == made["id"]
    assert wire(f"GET {path}", headers, length=False).json["name"] == "MyBatchWebhook"
    assert wire(f"PATCH {path}", headers, b'{"name":"n2","subscribed_events":["batch.succeeded"]}').json["name"] == "n2"
    assert wire(f"PATCH {path}?update_mask=state", headers, b'{"state":"disabled"}').json["state"] == "disabled"
    assert wire(f"POST {path}:ping", headers).json == {}
    for body in (b'{"revocation_behavior":"revoke_previous_secrets_after_h24"}', b"{}"):
        assert wire(f"POST {path}:rotateSigningSecret", headers, body).json["secret"].startswith("whsec_")
    assert wire(f"DELETE {path}", headers).json == {}
    assert wire("GET /v1/webhooks", headers, length=False).json == {}


def test_openai_calls(wire: Wire, plain: Plain) -> None:
    """openai-python's create, retrieve, list, cancel and multipart upload."""
    row = (
        b'{"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": '
        b'"gemini-3.5-flash", "messages": [{"role": "user", "content": "hi"}]}}'
    )
    file = plain.upload(row)
    body = (
        '{"completion_window":"24h","endpoint":"/v1/chat/completions",'
        f'"input_file_id":"{file}","metadata":{{"a":"b"}}}}'
    ).encode()
    made = wire("POST /v1beta/openai/batches", OPENAI, body).json
    assert (made["object"], made["metadata"], made["request_counts"]["total"]) == ("batch", {"a": "b"}, 1)
    encoded = made["id"].replace("/", "%2F")
    assert wire(f"GET /v1beta/openai/batches/{encoded}", OPENAI, length=False).json["id"] == made["id"]
    after = wire(f"GET /v1beta/openai/batches?after={encoded}&limit=5", OPENAI, length=False).json
    assert (after["data"], after["has_more"]) == ([], False)
    assert wire(f"POST /v1beta/openai/batches/{encoded}/cancel", OPENAI).json["id"] == made["id"]
    form = OPENAI.replace("application/json\r\nuser", "multipart/form-data; boundary=b\r\nuser")
    part = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
    refused = wire("POST /v1beta/openai/files", form, part)
    assert (refused.status, refused.json[0]["error"]["status"]) == (404, "NOT_FOUND")
    content = wire("GET /v1beta/openai/files/files%2Fbatch-abc/content", OPENAI, length=False)
    assert content.status == 404


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions(wire: Wire, version: str) -> None:
    """The same resources are under v1 and v1beta."""
    for path in ("batches", "files", "webhooks", "models"):
        assert wire(f"GET /{version}/{path}", SDK, length=False).status == 200
