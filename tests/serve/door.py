"""``gemqueue serve`` as a process, for tests, and deliveries as the provider signs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import msgspec

from tests.cli.command import COMMAND, environment

if TYPE_CHECKING:
    from types import TracebackType

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - a test vector of the protocol
START_S = 60.0


class Door:
    """A server on a free port; ``arguments`` go to the command, ``env`` to its environment."""

    def __init__(self, folder: Path, env: dict[str, str], *arguments: str, name: str = "door", port: int = 0) -> None:
        self.log_path = folder / f"{name}.log"
        self._ready = folder / f"{name}.json"
        self._command = [*COMMAND, "serve", "--ready-file", str(self._ready), *arguments]
        self._env = env
        self._port = port
        self.url = ""

    def start(self) -> Self:
        """Start it and wait until it listens; a second start keeps the port."""
        self._ready.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", str(self._port)], env=environment(**self._env), stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while not self._ready.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        self.url = msgspec.json.decode(self._ready.read_bytes())["url"]
        self._port = httpx.URL(self.url).port or 0
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Where a plain socket connects to."""
        return "127.0.0.1", self._port

    @property
    def log(self) -> str:
        """What it has written."""
        return self.log_path.read_text()

    @property
    def rss_mb(self) -> float:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096 / 1e6

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Deliver; the status."""
        return self.http.post("/webhook", content=body, headers=headers).status_code

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def event(job: str, kind: str = "batch.succeeded", **data: Any) -> bytes:
    """The body of an event."""
    return msgspec.json.encode({"type": kind, "version": "v1", "data": {"id": job, **data}})


def signed(body: bytes, *, secret: str = SECRET, message: str = "", seconds: int | None = None) -> dict[str, str]:
    """The headers of a registered hook's delivery."""
    message = message or f"msg_{uuid.uuid4()}"
    timestamp = str(int(time.time()) if seconds is None else seconds)
    text = f"{message}.{timestamp}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{digest}"}
