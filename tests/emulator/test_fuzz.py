"""Garbage on every route: no 500, no hang, no crash; what is refused has a proper envelope.

The routes come from the application itself, so a new one is fuzzed as soon as it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from gemqueue_adapters.emulator.app import build
from gemqueue_adapters.emulator.options import Options
from gemqueue_adapters.emulator.proto import GenerateContentRequest
from gemqueue_adapters.emulator.wire import STATUS_NAMES
from tests.emulator.plain import MODEL, text_request, texts, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess

EXAMPLES = 300
DEADLINE_S = 60.0
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)
SPELLINGS = sorted(field.name for field in msgspec.structs.fields(GenerateContentRequest))
NAMES = [*SPELLINGS, "batch", "inputConfig", "requests", "request", "fileName", "priority", "metadata", "content"]
MORE_NAMES = ["uri", "subscribed_events", "state", "endpoint", "input_file_id", "advance_s", "on", "do", "p", "nth"]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, *MORE_NAMES]) | st.text(max_size=8), inner)
    ),
    max_leaves=12,
)


def nearly(noise: Any, place: dict[str, Any]) -> dict[str, Any]:
    """The body of a create with something in the place of its request."""
    return {"batch": {"inputConfig": {"requests": {"requests": [{"request": noise}]}}, **place}}


def amended(more: dict[str, Any]) -> dict[str, Any]:
    """A good request with more fields."""
    return text_request("a") | more


near = st.builds(
    nearly,
    values | st.builds(amended, st.dictionaries(st.sampled_from(SPELLINGS), values)),
    st.dictionaries(st.sampled_from(["displayName", "priority", "webhookConfig", "x"]), values, max_size=2),
)
anything: st.SearchStrategy[Any] = values | near
bodies = st.binary(max_size=200) | anything.map(msgspec.json.encode)
ids = st.sampled_from(["a" * 36, "batch-" + "a" * 36, "x", MODEL, "gemini-embedding-001", "openai", "%2F", "..", "é"])
ids = ids | st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=60)
tokens = st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["LTE=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk=", ""])
queries = st.dictionaries(
    st.sampled_from(["pageSize", "pageToken", "page_size", "after", "limit", "updateMask", "update_mask", "alt"])
    | st.sampled_from(["uploadType", "upload_id", "key"]),
    tokens,
    max_size=3,
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "X-Goog-Upload-Command",
            "X-Goog-Upload-Offset",
            "X-Goog-Upload-Protocol",
            "X-Goog-Upload-Header-Content-Length",
            "Content-Type",
            "Authorization",
        ]
    ),
    st.sampled_from(
        [
            *("start", "upload", "upload, finalize", "query", "cancel", "multipart", "0", "-1", "9" * 30),
            *("multipart/related", "multipart/related; boundary=x", "multipart/related; boundary*=utf-8''%ff"),
            *("application/json", "Bearer x"),
        ]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip),
    max_size=3,
)


@pytest.fixture(autouse=True)
def nothing_failed_inside(emulator: EmulatorProcess) -> Iterator[None]:
    """After the garbage the emulator still answers, and no job has failed, since nobody has ordered that."""
    yield
    assert "FAILED" not in {job["state"] for job in emulator.ledger()["jobs"]}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=DEADLINE_S, headers={"x-goog-api-key": "test-key"}) as made:
        yield made


@pytest.fixture(scope="session")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Method and path of every route."""
    folder: Path = tmp_path_factory.mktemp("routes")
    table = [route for route in build(Options(), folder).routes if isinstance(route, Route)]
    found = [(method, route.path) for route in table for method in sorted(route.methods or ()) if method != "HEAD"]
    return [each for each in found if each[1] != "/_emulator/clock" or each[0] == "GET"]


def checked(reply: httpx.Response) -> None:
    """Neither a 500 nor an error without its envelope; and the mark."""
    assert reply.status_code < 500, reply.text
    assert reply.headers["x-gemini-emulator"] == "1"
    if reply.status_code >= 400:
        envelopes: list[Any] = msgspec.json.decode(b"[" + reply.content.strip(b"[]") + b"]")
        error = envelopes[0]["error"]
        assert (error["code"], error["message"] != "") == (reply.status_code, True)
        assert error["status"] in {*STATUS_NAMES.values(), "FAILED_PRECONDITION"}


@QUIET
@given(data=st.data())
def test_garbage_on_every_route(
    emulator: EmulatorProcess, client: httpx.Client, routes: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Any body, any query, any header, any id, on any route."""
    method, path = data.draw(st.sampled_from(routes))
    for name in ("model", "id:path", "id", "verb"):
        if "{" + name + "}" in path:
            path = path.replace("{" + name + "}", data.draw(ids))
    path = quote(path, safe="/:%.")
    more = data.draw(headers)
    query, body = data.draw(queries), data.draw(bodies)
    checked(client.request(method, f"{emulator.url}{path}", params=query, headers=more, content=body))


@QUIET
@given(
    request=st.dictionaries(st.sampled_from(SPELLINGS), values, max_size=3), verb=st.sampled_from(["generate", "count"])
)
def test_requests_that_are_nearly_right(
    emulator: EmulatorProcess, client: httpx.Client, request: dict[str, Any], verb: str
) -> None:
    """A good request with fields of any content is answered or refused, and a batch of it ends."""
    url, whole = emulator.url, text_request("a") | request
    call = "generateContent" if verb == "generate" else "countTokens"
    checked(client.post(f"{url}/v1beta/models/{MODEL}:{call}", content=msgspec.json.encode(whole)))
    batch = {"batch": {"inputConfig": {"requests": {"requests": [{"request": whole}]}}}}
    made = client.post(f"{url}/v1/models/{MODEL}:batchGenerateContent", content=msgspec.json.encode(batch))
    checked(made)
    if made.status_code == 200:
        operation = until(
            lambda: found if (found := client.get(f"{url}/v1/{made.json()['name']}").json()).get("done") else 0
        )
        assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


@QUIET
@given(line=st.binary(max_size=60) | values.map(msgspec.json.encode))
def test_files_of_garbage(emulator: EmulatorProcess, client: httpx.Client, line: bytes) -> None:
    """Any bytes can be uploaded; the create that names them, native or OpenAI's, is refused or gives a batch."""
    url = emulator.url
    start = client.post(f"{url}/upload/v1/files", headers={"X-Goog-Upload-Command": "start"})
    finish = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
    sent = client.post(start.headers["x-goog-upload-url"], headers=finish, content=texts("a") + line)
    file = sent.json()["file"]["name"]
    batch = {"batch": {"inputConfig": {"fileName": file}}}
    checked(client.post(f"{url}/v1/models/{MODEL}:batchGenerateContent", json=batch))
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    checked(client.post(f"{url}/v1beta/openai/batches", json=asked))
    client.delete(f"{url}/v1/{file}").raise_for_status()
