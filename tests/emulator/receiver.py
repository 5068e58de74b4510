"""A receiver of webhooks: a real HTTP server that notes what comes and answers what it is told to."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from tests.emulator.plain import until

if TYPE_CHECKING:
    from types import TracebackType


class Delivery(NamedTuple):
    """One request that came: its headers in lower case, and its very bytes."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event in the body."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


class HookServer(ABC):
    """A real HTTP server on loopback; ``answer`` makes the status of each request from its body and headers."""

    def __init__(self) -> None:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(answer(body, {name.lower(): text for name, text in self.headers.items()}))
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhook"

    @abstractmethod
    def answer(self, body: bytes, headers: dict[str, str]) -> int:
        """The status for a request; header names are in lower case."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Receiver(HookServer):
    """Notes what comes; answers with the statuses in `answers`, one after the other, then with 200."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.answers: list[int] = []
        super().__init__()

    def answer(self, body: bytes, headers: dict[str, str]) -> int:
        """The next of `answers`."""
        self.got.append(Delivery(headers, body))
        return self.answers.pop(0) if self.answers else 200

    def wait(self, count: int = 1) -> list[Delivery]:
        """What has come, once there are `count` of them."""
        until(lambda: len(self.got) >= count)
        return self.got
