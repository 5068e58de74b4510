"""A proxy before a server's Unix socket that can lose replies: the request takes effect, the answer never comes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

_READ_BYTES = 1 << 20


class LossyProxy:
    """Passes all on, but while ``lose`` is above zero, what follows a request with ``marker`` never comes back."""

    def __init__(self, server: Path, marker: bytes) -> None:
        self.lose = 0
        self._server = server
        self._marker = marker
        self._connections: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One more client."""
        self._connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side hangs up, or a reply is lost."""
        up_reader, up_writer = await asyncio.open_unix_connection(self._server)
        doomed = asyncio.Event()

        async def upwards() -> None:
            while data := await reader.read(_READ_BYTES):
                if self.lose and self._marker in data:
                    self.lose -= 1
                    doomed.set()
                up_writer.write(data)

        async def downwards() -> None:
            while data := await up_reader.read(_READ_BYTES):
                if doomed.is_set():
                    return
                writer.write(data)

        tasks = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in (up_writer, writer):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()


@asynccontextmanager
async def lossy(server: Path, folder: Path, marker: bytes) -> AsyncGenerator[tuple[LossyProxy, str]]:
    """A proxy and its URL, for as long as the block lasts."""
    proxy = LossyProxy(server, marker)
    path = folder / "lossy.sock"
    listening = await asyncio.start_unix_server(proxy.accept, path)
    try:
        yield proxy, f"unix://{path}"
    finally:
        listening.close()
        await proxy.close()
