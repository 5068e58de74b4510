"""A loopback TCP proxy before a server, for what happens between two machines: silence, and connections that break.

It tells a server's peers (its replica, its sentinel) from its clients by what they say first, so that a server can be
cut off from the one and go on answering the other: the partitioned old master.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_READ_BYTES = 1 << 20
_PEER_WORDS = (b"sentinel-", b"REPLCONF", b"PSYNC", b"*1\r\n$4\r\nPING\r\n")
"""What a sentinel or a replica says first; redis-py begins with HELLO, AUTH, SELECT or CLIENT SETINFO."""
_RESET = struct.pack("ii", 1, 0)


class _Link:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, down: asyncio.StreamWriter, up: asyncio.StreamWriter) -> None:
        self.down = down
        self.up = up
        self.peer: bool | None = None
        self.doomed = False

    def reset(self) -> None:
        """Break the client's side with RST, as a dying host or a firewall does."""
        sock: socket.socket | None = self.down.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.down.transport.abort()
        self.up.close()


class TcpProxy:
    """Listens on ``port`` and passes everything to ``target_port``; use as an async context manager."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.port = port
        self.resets = 0
        """How many connections were broken after their request had taken effect."""
        self._target_port = target_port
        self._doom = 0
        self._peers = asyncio.Event()
        self._peers.set()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The server's URL through this proxy."""
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._peers.set()
        for link in list(self._links):
            link.reset()

    def cut_peers(self) -> None:
        """From now on the server's replica and sentinel hear nothing of it, nor it of them; clients do."""
        self._peers.clear()

    def heal(self) -> None:
        """Peers are heard again: what was silenced breaks, and they connect anew."""
        for link in [link for link in self._links if link.peer]:
            link.reset()
        self._peers.set()

    def lose_replies(self, n: int) -> None:
        """The next ``n`` scripts that clients run take effect, and their connections break before the reply."""
        self._doom = n

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, up_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upwards(link, reader))
                group.create_task(self._downwards(link, up_reader))
        except* (OSError, EOFError):
            pass
        finally:
            self._links.discard(link)
            link.down.transport.abort()
            link.up.transport.abort()

    async def _upwards(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            if not link.peer and any(word in data for word in _PEER_WORDS) and link.peer is None:
                link.peer = True
            link.peer = bool(link.peer)
            if link.peer:
                await self._peers.wait()
            elif self._doom and b"EVALSHA" in data:
                self._doom -= 1
                link.doomed = True
            link.up.write(data)
            await link.up.drain()
        raise EOFError

    async def _downwards(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            if link.peer:
                await self._peers.wait()
            if link.doomed:
                self.resets += 1
                link.reset()
                raise EOFError
            link.down.write(data)
            await link.down.drain()
        raise EOFError
