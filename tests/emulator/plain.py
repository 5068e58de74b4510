"""A plain HTTP client of the emulator, for what the official client hides: envelopes, headers, broken replies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODEL = "gemini-3.8-flash"
DEADLINE_S = 60.0


def text_request(text: str) -> dict[str, Any]:
    """A GenerateContentRequest with one text."""
    return {"contents": [{"parts": [{"text": text}], "role": "user"}]}


def lines(*rows: tuple[str, Any]) -> bytes:
    """An input file out of keys and requests."""
    return b"".join(msgspec.json.encode({"key": key, "request": request}) + b"\n" for key, request in rows)


def texts(*pairs: str) -> bytes:
    """An input file whose keys are k0, k1, ... and whose requests hold these texts."""
    return lines(*[(f"k{place}", text_request(text)) for place, text in enumerate(pairs)])


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives once that is true; a TimeoutError after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
    raise TimeoutError


class Plain:
    """Calls of the native API under one key."""

    def __init__(self, url: str, key: str = "test-key", version: str = "v1beta") -> None:
        self.version = version
        self.http = httpx.Client(base_url=url, headers={"x-goog-api-key": key}, timeout=60)

    def start(self, size_bytes: int | None = None, **file: Any) -> str:
        """Begin an upload; the address for its bytes."""
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        if size_bytes is not None:
            headers["X-Goog-Upload-Header-Content-Length"] = str(size_bytes)
        reply = self.http.post(f"/upload/{self.version}/files", headers=headers, json={"file": file})
        return str(reply.raise_for_status().headers["x-goog-upload-url"])

    def chunk(self, url: str, data: bytes, offset: int, command: str = "upload, finalize") -> httpx.Response:
        """Send bytes of an upload."""
        headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
        return self.http.post(url, headers=headers, content=data)

    def upload(self, data: bytes, **file: Any) -> str:
        """Upload a file; its name."""
        reply = self.chunk(self.start(len(data), **file), data, 0)
        return str(reply.raise_for_status().json()["file"]["name"])

    def post_batch(
        self, batch: dict[str, Any], model: str = MODEL, verb: str = "batchGenerateContent"
    ) -> httpx.Response:
        """Try to create a batch."""
        return self.http.post(f"/{self.version}/models/{model}:{verb}", json={"batch": batch})

    def create(self, data: bytes, name: str = "demo", **how: str) -> str:
        """Upload and create; the batch's name."""
        batch = {"displayName": name, "inputConfig": {"fileName": self.upload(data)}}
        return str(self.post_batch(batch, **how).raise_for_status().json()["name"])

    def get(self, name: str) -> dict[str, Any]:
        """A resource by name."""
        found: dict[str, Any] = self.http.get(f"/{self.version}/{name}").raise_for_status().json()
        return found

    def ended(self, name: str) -> dict[str, Any]:
        """The operation, once it is done."""
        found: dict[str, Any] = until(lambda: operation if (operation := self.get(name)).get("done") else None)
        return found

    def download(self, operation: dict[str, Any]) -> bytes:
        """The result file of an operation."""
        name = operation["metadata"]["output"]["responsesFile"]
        return self.http.get(f"/{self.version}/{name}:download?alt=media").raise_for_status().content

    def results(self, name: str) -> list[dict[str, Any]]:
        """The result rows of a batch from a file, once it is done."""
        return [msgspec.json.decode(line) for line in self.download(self.ended(name)).splitlines()]

    def run(self, *texts_: str) -> list[dict[str, Any]]:
        """The result rows of a batch of texts."""
        return self.results(self.create(texts(*texts_)))


def by_key(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Result rows by their keys."""
    return {row["key"]: row for row in rows}


def error_of(reply: httpx.Response) -> tuple[int, str, str]:
    """Status, status name and message of an error, whose envelope must be complete."""
    error = reply.json()["error"]
    assert error["code"] == reply.status_code
    return reply.status_code, error["status"], error["message"]
