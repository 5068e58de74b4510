"""A plain script on google-genai: a file of requests, an upload, a job, looks at it, a download, answers by key."""

import json
import time

from choice import MODEL, OUT, POLL_S, rows, write
from google import genai
from google.genai import types

ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}


def create(client):
    """Write the requests, upload them, make a job of them."""
    requests = OUT.with_name("requests.jsonl")
    with requests.open("w", encoding="utf-8") as lines:
        for row in rows():
            request = {"contents": [{"parts": [{"text": row["prompt"]}]}]}
            lines.write(json.dumps({"key": row["key"], "request": request}) + "\n")
    config = types.UploadFileConfig(display_name="requests", mime_type="jsonl")
    uploaded = client.files.upload(file=str(requests), config=config)
    return client.batches.create(model=MODEL, src=uploaded.name, config={"display_name": "requests"})


def main():
    """One file, one job, its results joined by key, as the guide shows it."""
    client = genai.Client()
    job = create(client)
    while job.state.name not in ENDED:
        time.sleep(POLL_S)
        job = client.batches.get(name=job.name)
    if job.state.name != "JOB_STATE_SUCCEEDED":
        raise SystemExit(f"{job.name} ended as {job.state.name}: {job.error}")
    found = {}
    for line in client.files.download(file=job.dest.file_name).decode().splitlines():
        row = json.loads(line)
        if "response" in row:
            found[row["key"]] = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
    write((row["key"], found[row["key"]]) for row in rows() if row["key"] in found)


if __name__ == "__main__":
    main()
