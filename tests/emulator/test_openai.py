"""The OpenAI-compatible batches, by the unmodified openai client; files go the native way, as they must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.emulator.plain import MODEL, Plain, error_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulator_process import EmulatorProcess

CHAT: Any = "/v1/chat/completions"


@pytest.fixture
def client(emulator: EmulatorProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="test-key", base_url=f"{emulator.url}/v1beta/openai/", max_retries=0) as made:
        yield made


def rows(*bodies: dict[str, Any], url: str = CHAT) -> bytes:
    """An input file in OpenAI's format."""
    lines = [
        {"custom_id": f"c{place}", "method": "POST", "url": url, "body": {"model": MODEL} | body}
        for place, body in enumerate(bodies)
    ]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def chat(text: str, **more: Any) -> dict[str, Any]:
    """The body of one chat completion."""
    return {"messages": [{"role": "system", "content": "sys"}, {"role": "user", "content": text}]} | more


def finished(client: openai.OpenAI, plain: Plain, data: bytes, endpoint: Any = CHAT) -> tuple[Any, dict[str, Any]]:
    """The batch once it is completed, and its result rows by id."""
    made = client.batches.create(
        input_file_id=plain.upload(data), endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )
    assert made.status in {"validating", "in_progress", "completed"}

    def ended() -> Any:
        batch = client.batches.retrieve(made.id)
        return batch if batch.status not in {"validating", "in_progress"} else None

    batch = until(ended)
    raw = plain.http.get(f"/download/v1beta/{batch.output_file_id}:download?alt=media").raise_for_status().content
    return batch, {row["custom_id"]: row for row in map(msgspec.json.decode, raw.splitlines())}


def test_chat_completions(client: openai.OpenAI, plain: Plain, emulator: EmulatorProcess) -> None:
    """A chat batch runs to its end; its lines are OpenAI's, and say what the native request would have got."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tool: dict[str, Any] = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    batch, found = finished(
        client,
        plain,
        rows(
            chat("hi", max_tokens=100),
            chat("b", response_format=wanted),
            chat("c", tools=[tool]),
            chat("d [[fault:invalid]]"),
            chat("e [[fault:safety]]"),
        ),
    )
    assert (batch.status, batch.object, batch.endpoint, batch.metadata) == ("completed", "batch", CHAT, {"a": "b"})
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 4, 1)
    body = found["c0"]["response"]["body"]
    native = {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "sys"}]},
        "generationConfig": {"maxOutputTokens": 100},
    }
    expected = emulator.expect(MODEL, native)["candidates"][0]["content"]["parts"][0]["text"]
    completion = ChatCompletion.model_validate(body)
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (expected, "stop")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens + completion.usage.completion_tokens == completion.usage.total_tokens
    assert set(msgspec.json.decode(found["c1"]["response"]["body"]["choices"][0]["message"]["content"])) == {"n"}
    assert found["c2"]["response"]["body"]["choices"][0]["finish_reason"] == "tool_calls"
    assert found["c3"]["response"]["status_code"] == 400
    assert found["c3"]["response"]["body"]["error"]["status"] == "INVALID_ARGUMENT"
    assert found["c4"]["response"]["body"]["choices"][0]["finish_reason"] == "content_filter"


def test_embeddings(client: openai.OpenAI, plain: Plain) -> None:
    """An embedding batch gives a vector of the asked dimension for each row."""
    data = rows({"model": "gemini-embedding-001", "input": "a", "dimensions": 4}, url="/v1/embeddings")
    _, found = finished(client, plain, data, "/v1/embeddings")
    reply = openai.types.CreateEmbeddingResponse.model_validate(found["c0"]["response"]["body"])
    assert len(reply.data[0].embedding) == 4


def test_both_slashes(client: openai.OpenAI, plain: Plain) -> None:
    """The id's slash may come raw, as old clients send it, or encoded, as new ones do."""
    batch, _ = finished(client, plain, rows(chat("a")))
    for name in (batch.id, batch.id.replace("/", "%2F"), batch.id.removeprefix("batches/")):
        assert plain.http.get(f"/v1beta/openai/batches/{name}").raise_for_status().json()["id"] == batch.id
        assert plain.http.post(f"/v1beta/openai/batches/{name}/cancel").raise_for_status().json()["id"] == batch.id


def test_cancel_and_list(client: openai.OpenAI, plain: Plain, emulator: EmulatorProcess) -> None:
    """A cancelled batch says so; the list pages through OpenAI's batches, newest first."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 600}])
    names = [
        client.batches.create(input_file_id=plain.upload(rows(chat("a"))), endpoint=CHAT, completion_window="24h").id
        for _ in range(3)
    ]
    assert client.batches.cancel(names[0]).status == "cancelled"
    assert [batch.id for batch in client.batches.list(limit=2)] == names[::-1]
    assert [batch.status for batch in client.batches.list(limit=1)] == ["validating", "validating", "cancelled"]


def test_files_are_not_supported(client: openai.OpenAI) -> None:
    """Uploads and downloads of this layer fail, as at the service; errors come in a list of one."""
    with pytest.raises(openai.NotFoundError) as uploaded:
        client.files.create(file=("in.jsonl", rows(chat("a"))), purpose="batch")
    assert isinstance(uploaded.value.body, list)
    with pytest.raises(openai.NotFoundError):
        client.files.content("files/batch-abc")


BAD_ROWS = [
    (rows(chat("a"), chat("b", model="gemini-2.5-pro")), "Error on line 2: every row must name the same model"),
    (rows(chat("a"), url="/v1/embeddings"), "Error on line 1: method and url must be POST /v1/chat/completions"),
    (b"\n{}\n", "Error on line 2: invalid JSON"),
    (rows({"messages": [{"role": "user"}]}), "Error on line 1: a message has no content"),
    (rows({"messages": []}), "contents is not specified"),
    (rows(chat("a", model="")), "Error on line 1: model is required"),
]


@pytest.mark.parametrize(("data", "message"), BAD_ROWS)
def test_bad_rows(client: openai.OpenAI, plain: Plain, data: bytes, message: str) -> None:
    """A bad row refuses the whole batch, and names its line."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=plain.upload(data), endpoint=CHAT, completion_window="24h")
    assert message in str(caught.value.body)


def test_the_wrong_bearer(emulator: EmulatorProcess) -> None:
    """A bad key is 400, a missing one 403, another project's batch 404."""
    url = f"{emulator.url}/v1beta/openai/"
    with (
        openai.OpenAI(api_key="invalid-key", base_url=url, max_retries=0) as bad,
        pytest.raises(openai.BadRequestError),
    ):
        bad.batches.list()
    plain = Plain(emulator.url)
    with plain.http:
        native = plain.create(b'{"contents": [{"parts": [{"text": "a"}]}]}\n')
        reply = plain.http.get(f"/v1beta/openai/{native}")
        assert error_of_list(reply.json())[0] == 404
        del plain.http.headers["x-goog-api-key"]
        assert error_of_list(plain.http.get("/v1beta/openai/batches").json())[0] == 403
        assert error_of(plain.http.get("/v1beta/batches"))[0] == 403


def error_of_list(value: Any) -> tuple[int, str]:
    """Code and status of an error in a list of one."""
    [envelope] = value
    return envelope["error"]["code"], envelope["error"]["status"]
