"""The official Python client runs unchanged against the emulator (issue 4 does the same for more clients)."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from google import genai
from google.genai import errors, types

from tests.emulator.plain import MODEL, by_key, texts, until

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess

RUNNING = {types.JobState.JOB_STATE_PENDING, types.JobState.JOB_STATE_RUNNING}

pytestmark = pytest.mark.filterwarnings("ignore::google.genai.errors.ExperimentalWarning")


def upload(client: genai.Client, data: bytes, **config: Any) -> types.File:
    return client.files.upload(file=io.BytesIO(data), config=types.UploadFileConfig(mime_type="jsonl", **config))


def ended(client: genai.Client, name: str | None) -> types.BatchJob:
    def terminal() -> types.BatchJob | None:
        job = client.batches.get(name=str(name))
        return None if job.state in RUNNING else job

    return cast("types.BatchJob", until(terminal))


def test_a_batch_from_a_file(official: genai.Client, emulator: EmulatorProcess) -> None:
    """Upload, create, poll and download give each key the answer that is expected for its request."""
    file = upload(official, texts("one", "two", "three"), display_name="in")
    assert (file.display_name, file.state, file.mime_type) == ("in", types.FileState.ACTIVE, "jsonl")
    job = official.batches.create(model=MODEL, src=str(file.name), config={"display_name": "demo"})
    assert (job.state, job.display_name) == (types.JobState.JOB_STATE_PENDING, "demo")
    job = ended(official, job.name)
    assert job.state == types.JobState.JOB_STATE_SUCCEEDED
    assert job.dest is not None
    raw = official.files.download(file=str(job.dest.file_name))
    rows = by_key(msgspec.json.decode(line) for line in raw.splitlines())
    request = {"contents": [{"parts": [{"text": "two"}], "role": "user"}]}
    assert rows["k1"]["response"] == emulator.expect(MODEL, request)
    assert rows["k1"]["response"]["candidates"][0]["content"]["parts"][0]["text"].startswith("[emulated] ")


def test_an_inline_batch(official: genai.Client) -> None:
    """Inline rows come back in the job with their metadata, and structured output fits its schema."""
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}, "required": ["n"]}
    rows = [
        types.InlinedRequest(
            contents=[types.Content(parts=[types.Part(text=f"q{n}")], role="user")], metadata={"key": f"k{n}"}
        )
        for n in range(3)
    ]
    rows[0].config = types.GenerateContentConfig(
        system_instruction="sys",
        temperature=0.5,
        max_output_tokens=10,
        response_mime_type="application/json",
        response_schema=schema,
        tools=[types.Tool(google_search=types.GoogleSearch())],
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
            )
        ],
    )
    job = ended(official, official.batches.create(model=MODEL, src=rows, config={"display_name": "demo"}).name)
    assert job.dest is not None
    assert job.dest.inlined_responses is not None
    found = {str((row.metadata or {})["key"]): row.response for row in job.dest.inlined_responses}
    assert set(found) == {"k0", "k1", "k2"}
    assert found["k1"] is not None
    assert str(found["k1"].text).startswith("[emulated] ")
    assert found["k0"] is not None
    assert set(msgspec.json.decode(str(found["k0"].text))) == {"n"}


def test_inline_rows_without_metadata_keep_their_order(official: genai.Client, emulator: EmulatorProcess) -> None:
    """Rows that nobody could match are not shuffled."""
    rows = [types.InlinedRequest(contents=[types.Content(parts=[types.Part(text=f"q{n}")])]) for n in range(20)]
    job = ended(official, official.batches.create(model=MODEL, src=rows).name)
    assert job.dest is not None
    found = [row.response.text if row.response else None for row in job.dest.inlined_responses or []]
    expected = [emulator.expect(MODEL, {"contents": [{"parts": [{"text": f"q{n}"}]}]}) for n in range(20)]
    assert found == [each["candidates"][0]["content"]["parts"][0]["text"] for each in expected]


def test_embeddings_inline(official: genai.Client) -> None:
    """Vectors have the dimension that was asked for, and unit length."""
    job = official.batches.create_embeddings(
        model="gemini-embedding-001",
        src=types.EmbeddingsBatchJobSource(
            inlined_requests=types.EmbedContentBatch(
                contents=["1", "2"],
                config=types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=5),
            )
        ),
        config={"display_name": "emb"},
    )
    job = ended(official, job.name)
    assert job.dest is not None
    vectors = [
        row.response.embedding.values
        for row in job.dest.inlined_embed_content_responses or []
        if row.response and row.response.embedding
    ]
    assert [len(vector or []) for vector in vectors] == [5, 5]
    assert [sum(x * x for x in vector or []) for vector in vectors] == pytest.approx([1.0, 1.0])


def test_embeddings_from_a_file(official: genai.Client) -> None:
    """The file form works, with the default dimension."""
    line = {"key": "e1", "request": {"content": {"parts": [{"text": "1"}]}}}
    file = upload(official, msgspec.json.encode(line))
    job = official.batches.create_embeddings(model="gemini-embedding-001", src={"file_name": file.name})
    job = ended(official, job.name)
    assert job.dest is not None
    row = msgspec.json.decode(official.files.download(file=str(job.dest.file_name)))
    assert (row["key"], len(row["response"]["embedding"]["values"])) == ("e1", 3072)


def test_list_pages_batches_and_files(official: genai.Client) -> None:
    """The client's pagers go through all pages, newest first, and end."""
    files = [upload(official, texts(f"{n}")) for n in range(5)]
    jobs = [
        official.batches.create(model=MODEL, src=str(file.name), config={"display_name": f"b{n}"})
        for n, file in enumerate(files)
    ]
    assert [job.name for job in official.batches.list(config={"page_size": 2})] == [job.name for job in reversed(jobs)]
    assert [file.name for file in official.files.list(config={"page_size": 2})] == [
        file.name for file in reversed(files)
    ]


def test_empty_lists(official: genai.Client) -> None:
    """Nothing to list is an empty page, not an error."""
    assert list(official.batches.list()) == []
    assert list(official.files.list()) == []


def test_cancel_and_delete(official: genai.Client, emulator: EmulatorProcess) -> None:
    """A job that is cancelled while pending buys nothing; a deleted one is not found any more."""
    emulator.faults([{"on": "job", "do": "pending", "seconds": 60}])
    file = upload(official, texts("one"))
    job = official.batches.create(model=MODEL, src=str(file.name))
    official.batches.cancel(name=str(job.name))
    assert official.batches.get(name=str(job.name)).state == types.JobState.JOB_STATE_CANCELLED
    official.batches.delete(name=str(job.name))
    with pytest.raises(errors.ClientError) as caught:
        official.batches.get(name=str(job.name))
    assert caught.value.code == 404
    assert emulator.ledger()["rows_bought"] == 0


def test_files_get_delete_and_chosen_names(official: genai.Client) -> None:
    """A chosen name is kept, cannot be taken twice, and is gone after the deletion."""
    upload(official, b"x" * (9 << 20), name="my-id")
    assert official.files.get(name="files/my-id").size_bytes == 9 << 20
    with pytest.raises(errors.ClientError) as taken:
        upload(official, b"y", name="my-id")
    assert taken.value.code == 409
    official.files.delete(name="files/my-id")
    with pytest.raises(errors.ClientError) as caught:
        official.files.get(name="files/my-id")
    assert caught.value.code == 403


async def test_the_async_client(emulator: EmulatorProcess) -> None:
    """The async half of the official client works as well."""
    async with genai.Client(
        api_key="k", http_options={"base_url": emulator.url, "api_version": "v1beta"}
    ).aio as client:
        file = await client.files.upload(file=io.BytesIO(texts("one")), config={"mime_type": "application/jsonl"})
        job = await client.batches.create(model=MODEL, src=str(file.name))
        async with asyncio.timeout(60):
            while job.state in RUNNING:
                job = await client.batches.get(name=str(job.name))
        assert job.dest is not None
        assert b'"k0"' in await client.files.download(file=str(job.dest.file_name))
