"""Every call of the batch guide by google-genai for Python, as the guide writes it; runs in an environment of its own.

Arguments: the emulator's address. Prints one JSON object a call.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tempfile
import time
from typing import Any

from google import genai
from google.genai import types

URL = sys.argv[1]
MODEL, IMAGES, EMBEDDER = "gemini-3.8-flash", "gemini-3-pro-image-preview", "gemini-embedding-001"
CLIENT: Any = genai.Client(api_key="k", http_options={"base_url": URL})
INLINE: list[Any] = [
    {"contents": [{"parts": [{"text": "Tell me a one-sentence joke."}], "role": "user"}]},
    {"contents": [{"parts": [{"text": "Why is the sky blue?"}], "role": "user"}]},
]
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
CALLS: dict[str, Any] = {}


def call(function: Any) -> Any:
    """Register a call under its name."""
    CALLS[function.__name__.replace("_", " ")] = function
    return function


def ended(name: Any) -> Any:
    """The job when it has ended, polled as the guide does."""
    deadline = time.monotonic() + 60
    while (job := CLIENT.batches.get(name=name)).state.name not in ENDED:
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.02)
    return job


def uploaded(rows: list[Any], mime_type: str = "jsonl") -> Any:
    """A file with these rows."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    config = types.UploadFileConfig(display_name="my-batch-requests", mime_type=mime_type)
    return CLIENT.files.upload(file=file.name, config=config)


def inline_texts(job: Any) -> list[str]:
    """The texts of an inline job."""
    return [each.response.text for each in job.dest.inlined_responses]


def lines(job: Any) -> list[Any]:
    """The result rows of a file job."""
    return [json.loads(line) for line in CLIENT.files.download(file=job.dest.file_name).decode().splitlines()]


@call
def batches_create_inline() -> None:
    job = CLIENT.batches.create(model=MODEL, src=INLINE, config={"display_name": "inlined-requests-job-1"})
    assert job.state.name == "JOB_STATE_PENDING"
    assert all(text.startswith("[emulated]") for text in inline_texts(ended(job.name)))


@call
def batches_create_file() -> None:
    rows = [
        {"key": f"request-{n}", "request": {**INLINE[n], "generation_config": {"temperature": 0.7}}} for n in (0, 1)
    ]
    job = CLIENT.batches.create(model=MODEL, src=uploaded(rows).name, config={"display_name": "file-upload-job-1"})
    assert {row["key"] for row in lines(ended(job.name))} == {"request-0", "request-1"}


@call
def batches_create_system_instruction_and_tools() -> None:
    search: dict[str, Any] = {"google_search": {}}
    config = {"system_instruction": {"parts": [{"text": "You are a cat."}]}, "tools": [search]}
    job = CLIENT.batches.create(model=MODEL, src=[{**INLINE[0], "config": config}])
    assert len(inline_texts(ended(job.name))) == 1


@call
def batches_create_structured_output() -> None:
    schema = {"type": "array", "items": {"type": "object", "properties": {"recipe_name": {"type": "string"}}}}
    config = {"response_mime_type": "application/json", "response_schema": schema}
    job = CLIENT.batches.create(model=MODEL, src=[{**INLINE[0], "config": config}])
    assert set(json.loads(inline_texts(ended(job.name))[0])[0]) == {"recipe_name"}


@call
def batches_create_images() -> None:
    request = {**INLINE[0], "generation_config": {"responseModalities": ["TEXT", "IMAGE"]}}
    job = CLIENT.batches.create(model=IMAGES, src=uploaded([{"key": "a", "request": request}]).name)
    parts = lines(ended(job.name))[0]["response"]["candidates"][0]["content"]["parts"]
    assert any(part.get("inlineData", {}).get("mimeType") == "image/png" for part in parts)


@call
def batches_create_embeddings_inline() -> None:
    source = {"inlined_requests": {"contents": ["Why?", "How?"], "config": {"output_dimensionality": 5}}}
    job = CLIENT.batches.create_embeddings(model=EMBEDDER, src=source)
    found = ended(job.name).dest.inlined_embed_content_responses
    assert [len(each.response.embedding.values) for each in found] == [5, 5]


@call
def batches_create_embeddings_file() -> None:
    row = {"key": "request_1", "request": {"content": {"parts": [{"text": "x"}]}, "output_dimensionality": 512}}
    job = CLIENT.batches.create_embeddings(model=EMBEDDER, src={"file_name": uploaded([row]).name})
    assert len(lines(ended(job.name))[0]["response"]["embedding"]["values"]) == 512


@call
def batches_list() -> None:
    names = [job.name for job in CLIENT.batches.list(config={"page_size": 3})]
    assert len(names) == len(set(names)) > 3


@call
def batches_cancel_and_delete() -> None:
    job = CLIENT.batches.create(model=MODEL, src=INLINE)
    CLIENT.batches.cancel(name=job.name)
    assert CLIENT.batches.get(name=job.name).state.name in {"JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED"}
    CLIENT.batches.delete(name=job.name)
    try:
        CLIENT.batches.get(name=job.name)
    except genai.errors.ClientError as error:
        code = error.code
    else:
        code = 200
    assert code == 404


@call
def files_upload_in_chunks_get_list_delete() -> None:
    config = types.UploadFileConfig(name="my-big-file", mime_type="application/jsonl")
    file = CLIENT.files.upload(file=io.BytesIO(b"x" * (9 << 20)), config=config)
    assert CLIENT.files.get(name=file.name).size_bytes == 9 << 20
    assert "files/my-big-file" in [each.name for each in CLIENT.files.list(config={"page_size": 2})]
    CLIENT.files.delete(name=file.name)


@call
def webhooks_all() -> None:
    hook = CLIENT.webhooks.create(name="n", uri="http://127.0.0.1:1/x", subscribed_events=["batch.succeeded"])
    assert hook.new_signing_secret.startswith("whsec_")
    assert CLIENT.webhooks.get(hook.id).name == "n"
    assert hook.id in [each.id for each in CLIENT.webhooks.list(page_size=5).webhooks]
    assert CLIENT.webhooks.update(hook.id, state="disabled", update_mask="state").state == "disabled"
    CLIENT.webhooks.ping(hook.id)
    assert CLIENT.webhooks.rotate_signing_secret(hook.id).secret.startswith("whsec_")
    CLIENT.webhooks.delete(hook.id)


@call
def batches_create_with_webhook_config() -> None:
    hook = {"uris": ["http://127.0.0.1:1/x"], "user_metadata": {"a": "b"}}
    assert CLIENT.batches.create(model=MODEL, src=INLINE, config={"webhook_config": hook}).name


@call
def interactive_generate_stream_embed_count() -> None:
    assert CLIENT.models.generate_content(model=MODEL, contents="hi").text.startswith("[emulated]")
    assert "".join(each.text or "" for each in CLIENT.models.generate_content_stream(model=MODEL, contents="hi"))
    assert len(CLIENT.models.embed_content(model=EMBEDDER, contents="hi").embeddings[0].values) == 3072
    assert CLIENT.models.count_tokens(model=MODEL, contents="hi").total_tokens > 0
    assert f"models/{MODEL}" in [model.name for model in CLIENT.models.list()]
    assert CLIENT.models.get(model=MODEL).name == f"models/{MODEL}"


@call
def async_client() -> None:
    async def run() -> None:
        client = CLIENT.aio
        row = {"key": "a", "request": INLINE[0]}
        config = types.UploadFileConfig(mime_type="jsonl")
        file = await client.files.upload(file=io.BytesIO(json.dumps(row).encode()), config=config)
        job = await client.batches.create(model=MODEL, src=file.name)
        job = await asyncio.to_thread(ended, job.name)
        assert b'"key"' in await client.files.download(file=job.dest.file_name)
        assert [each.name async for each in await client.batches.list()]
        await client.batches.delete(name=job.name)

    asyncio.run(run())


def main() -> None:
    """Make the calls, one after the other."""
    for name, function in CALLS.items():
        try:
            function()
        except Exception as error:  # noqa: BLE001 - any failure is a line of the table
            found = {"call": name, "ok": False, "note": f"{type(error).__name__}: {error}"[:300]}
        else:
            found = {"call": name, "ok": True, "note": ""}
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
