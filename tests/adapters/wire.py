"""A server for exact wire shapes: a handler sees each request and writes its reply byte by byte, or hangs up.

For what an emulator would never send: half a body, a cut connection, a redirect, a page that is no JSON.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.gemini import GeminiProvider

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

KEY = "test-key-0123456789"
HANG_UP = b""


class Seen(msgspec.Struct, frozen=True):
    """One request as it came in; header names in lower case, ``target`` with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def command(self) -> str:
        """The upload command, or ""."""
        return self.headers.get("x-goog-upload-command", "")


class Wire:
    """A running server: where it is, what it saw, and the handler that writes its replies."""

    def __init__(self, handler: Callable[[Seen], bytes]) -> None:
        self.handler: Callable[[Seen], bytes] = handler
        self.seen: list[Seen] = []
        self.base_url = ""
        self._connections: set[asyncio.Task[None]] = set()

    def count(self, method: str, part: str) -> int:
        """How many requests came with this method and this in their target."""
        return sum(seen.method == method and part in seen.target for seen in self.seen)

    @property
    def open_connections(self) -> int:
        """How many connections neither side has closed."""
        return sum(not connection.done() for connection in self._connections)

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self.connect, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection in a task that ``close`` can end."""
        self._connections.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def close(self) -> None:
        """Stop listening and hang up everywhere."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.seen.append(await _request(reader))
                answer = self.handler(self.seen[-1])
                writer.write(answer)
                await writer.drain()
                if answer == HANG_UP or b"connection: close" in answer:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def wire(handler: Callable[[Seen], bytes]) -> AsyncGenerator[Wire, None]:
    """A server on a free loopback port."""
    served = Wire(handler)
    await served.start()
    try:
        yield served
    finally:
        await served.close()


@asynccontextmanager
async def provider(served: Wire, **settings: Any) -> AsyncGenerator[GeminiProvider, None]:
    """A provider that talks to ``served``, with short waits."""
    common: dict[str, Any] = {"api_key": KEY, "account": "test", "base_url": served.base_url, "sleep": no_sleep}
    made = GeminiProvider(**(common | settings))
    try:
        yield made
    finally:
        await made.aclose()


async def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Look often until it holds; fails after ``deadline_s``."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - a condition of another task's, for which there is no event
            await asyncio.sleep(0.005)


async def no_sleep(_seconds: float) -> None:
    """Let others run, do not wait."""
    await asyncio.sleep(0)


def reply(body: object = None, *, code: int = 200, headers: Sequence[str] = ()) -> bytes:
    """A whole reply; ``body`` is raw bytes or becomes JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode({} if body is None else body)
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def error(code: int, status: str = "", message: str = "no", *, details: Sequence[object] = ()) -> bytes:
    """An error envelope (protocol section 2.1)."""
    inner = {"code": code, "status": status, "message": message, "details": list(details)}
    return reply({"error": inner}, code=code)


def operation(job: str = "batches/b1", **metadata: object) -> dict[str, object]:
    """An operation as create, get and list return it (protocol section 3.1)."""
    return {"name": job, "metadata": {"name": job, "state": "BATCH_STATE_PENDING", **metadata}}


async def _request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)
