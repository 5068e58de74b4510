"""Open connections by the client's address, so that a fault can drop one without an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from gemqueue_adapters.emulator.faults import Fault

SLOW_STEPS_PER_S = 20
_open: dict[tuple[str, int], asyncio.Transport] = {}


class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class at import
    """The server's HTTP protocol, which notes its transport."""

    _address: tuple[str, int]

    def connection_made(self, transport: Any) -> None:
        """Note the connection."""
        super().connection_made(transport)
        self._address = transport.get_extra_info("peername")[:2]
        _open[self._address] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _open.pop(self._address, None)
        super().connection_lost(exc)


class Dropped(Response):
    """No answer at all: the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Close the connection, and wait until the server has noticed."""
        await _drop(scope, receive)


class Spoiled(Response):
    """A good answer whose body does not arrive as it should: see `SPOILED` in the faults.

    With `whole_lines` it stops at the end of a line.
    """

    def __init__(self, whole: Response, fault: Fault, *, whole_lines: bool = False) -> None:
        super().__init__(status_code=whole.status_code)
        self._whole_lines = whole_lines
        self._whole = whole
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, spoiled."""
        fault = self._fault
        if fault.do == "slow":
            await self._whole(scope, receive, _slowly(send, scope, fault.bytes_per_s))
            return
        left = 0

        async def part(message: Message) -> None:
            """Pass a message on, as far as the fault lets it through."""
            nonlocal left
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                length = int(headers.get("content-length", "0"))
                left = min(length, fault.at_bytes or length // 2)
                _announce(headers, fault.do, left)
                await send(message)
            elif message["type"] == "http.response.body":
                body, more = message.get("body", b""), message.get("more_body", False)
                sent, left = body[:left], max(0, left - len(body))
                if self._whole_lines and len(sent) < len(body):
                    sent = sent[: sent.rfind(b"\n") + 1]
                if fault.do == "cut":
                    await send({"type": "http.response.body", "body": sent, "more_body": True})
                elif sent or not more:
                    await send({"type": "http.response.body", "body": sent, "more_body": more})

        await self._whole(scope, receive, part)
        if fault.do == "cut":
            transport = _open.get(scope["client"])
            while transport is not None and transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for "written"
                await asyncio.sleep(0.001)
            await _drop(scope, receive)


def _announce(headers: MutableHeaders, do: str, sent_bytes: int) -> None:
    if do != "cut" and "content-length" in headers:
        del headers["content-length"]
    if do == "truncated":
        headers["content-length"] = str(sent_bytes)


def _slowly(send: Send, scope: Scope, bytes_per_s: int) -> Send:
    step_bytes = max(1, bytes_per_s // SLOW_STEPS_PER_S)

    async def slow(message: Message) -> None:
        body = message.get("body", b"") if message["type"] == "http.response.body" else b""
        for start in range(0, len(body), step_bytes):
            if scope["client"] not in _open:
                return
            await send({"type": "http.response.body", "body": body[start : start + step_bytes], "more_body": True})
            await asyncio.sleep(step_bytes / max(1, bytes_per_s))
        await send({**message, "body": b""} if body else message)

    return slow


async def _drop(scope: Scope, receive: Receive) -> None:
    if scope["client"] in _open:
        _open[scope["client"]].abort()
    while (await receive())["type"] != "http.disconnect":
        pass
