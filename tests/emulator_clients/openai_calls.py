"""The OpenAI-compatible batch calls by openai for Python; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from typing import Any

import openai

URL, CHAT = sys.argv[1], "/v1/chat/completions"
CLIENT: Any = openai.OpenAI(api_key="k", base_url=f"{URL}/v1beta/openai/", max_retries=0)
CALLS: dict[str, Any] = {}


def call(function: Any) -> Any:
    """Register a call under its name."""
    CALLS[function.__name__.replace("_", " ")] = function
    return function


def post(path: str, data: bytes, headers: dict[str, str]) -> Any:
    """A native call, for files."""
    request = urllib.request.Request(path, data, {"x-goog-api-key": "k"} | headers)  # noqa: S310 - our own address
    return urllib.request.urlopen(request)  # noqa: S310


def uploaded(url: str, body: dict[str, Any]) -> str:
    """A native file with one row."""
    row = {"custom_id": "request-1", "method": "POST", "url": url, "body": body}
    started = post(f"{URL}/upload/v1beta/files", b"{}", {"X-Goog-Upload-Command": "start"})
    finish = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
    return str(json.load(post(started.headers["X-Goog-Upload-URL"], json.dumps(row).encode(), finish))["file"]["name"])


def completed(url: Any, body: dict[str, Any]) -> dict[str, Any]:
    """The body of the response of a batch of one row."""
    made = CLIENT.batches.create(input_file_id=uploaded(url, body), endpoint=url, completion_window="24h")
    deadline = time.monotonic() + 60
    while (batch := CLIENT.batches.retrieve(made.id)).status not in {"completed", "failed", "cancelled", "expired"}:
        if time.monotonic() > deadline:
            raise TimeoutError(made.id)
        time.sleep(0.02)
    address = f"{URL}/download/v1beta/{batch.output_file_id}:download?alt=media&key=k"
    with urllib.request.urlopen(address) as reply:  # noqa: S310 - our own address
        row = json.loads(reply.read())
    assert (batch.status, row["custom_id"], row["response"]["status_code"]) == ("completed", "request-1", 200)
    found: dict[str, Any] = row["response"]["body"]
    return found


@call
def batches_chat_create_retrieve() -> None:
    body = completed(CHAT, {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": "hi"}]})
    assert body["choices"][0]["message"]["content"].startswith("[emulated]")


@call
def batches_embeddings_create_retrieve() -> None:
    body = completed("/v1/embeddings", {"model": "gemini-embedding-001", "input": "hi", "dimensions": 4})
    assert len(body["data"][0]["embedding"]) == 4


@call
def batches_list() -> None:
    assert len([batch.id for batch in CLIENT.batches.list(limit=1)]) >= 2


@call
def batches_cancel() -> None:
    body = {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": "hi"}]}
    made = CLIENT.batches.create(input_file_id=uploaded(CHAT, body), endpoint=CHAT, completion_window="24h")
    assert CLIENT.batches.cancel(made.id).id == made.id


@call
def files_create_is_refused() -> None:
    try:
        CLIENT.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    except openai.NotFoundError:
        return
    raise AssertionError("the upload was accepted")


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
