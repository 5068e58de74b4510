"""Open connections by the client's address, so that a fault can drop one without an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

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


class Cut(Response):
    """An answer that announces its whole length, then breaks off when `body` has been sent."""

    def __init__(self, body: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self._parts = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the part, then close the connection."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        transport = _open[scope["client"]]
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for "written"
            await asyncio.sleep(0.001)
        await _drop(scope, receive)


async def _drop(scope: Scope, receive: Receive) -> None:
    _open[scope["client"]].abort()
    while (await receive())["type"] != "http.disconnect":
        pass
