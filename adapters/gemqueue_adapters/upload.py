"""The resumable upload of the Files API (protocol section 8.2): start, 8 MiB chunks, finalize; after a break, query.

The chunk in flight is the only part of the file that is held, and all uploads of a provider together have a few chunks
in flight: the others wait before they gather theirs. Nothing here is risky: an upload buys nothing, and one
that is given up before it is finished leaves at most a stray file, which expires by itself after 48 hours.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from gemqueue.errors import Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    import httpx

    from gemqueue_adapters.http import Http, Reply

CHUNK_BYTES: Final = 8 * 1024 * 1024
CHUNKS_AT_ONCE: Final = 3
PIECE_BYTES: Final = 1024 * 1024  # the write timeout holds for each piece, so a slow line is no failure
HEARTBEAT_S: Final = 5.0
RESUMES_MAX: Final = 5
BACKOFF_S: Final = 0.5
MIME_TYPE: Final = "application/jsonl"

T = TypeVar("T")


async def no_progress(_sent_bytes: int) -> None:
    """For callers that do not ask."""


async def rechunk(
    chunks: AsyncIterator[bytes], *, size_bytes: int, chunk_bytes: int
) -> AsyncGenerator[list[bytes], None]:
    """Gather ``chunks`` into lots of ``chunk_bytes``, the last one smaller; an empty input gives one empty lot.

    A lot's parts are the incoming bytes themselves, cut only at its ends. The last lot comes only when ``chunks`` is
    over, so an input of a wrong size is never finished. Raises ``ValueError`` when there are more or fewer than
    ``size_bytes``.
    """
    lot: list[bytes] = []
    room_bytes = chunk_bytes
    seen_bytes = 0
    async for incoming in chunks:
        seen_bytes += len(incoming)
        if seen_bytes > size_bytes:
            raise ValueError(f"the input holds more than the {size_bytes} bytes announced")
        start = 0
        while start < len(incoming):
            if not room_bytes:
                yield lot
                lot, room_bytes = [], chunk_bytes
            lot.append(incoming[start : start + room_bytes])
            start += len(lot[-1])
            room_bytes -= len(lot[-1])
    if seen_bytes != size_bytes:
        raise ValueError(f"the input holds {seen_bytes} bytes, {size_bytes} were announced")
    yield lot


class _Position(msgspec.Struct, frozen=True):
    """Where the server says that the upload is; ``received_bytes`` is -1 where it does not say."""

    status: str
    received_bytes: int
    body: bytes

    def complete(self, *, end: int, last: bool) -> bool:
        """Whether the chunk that ends at ``end`` is in, or, if it is the ``last``, the file finished."""
        if self.status == "final" and not last:
            raise Transient("upload: the server ended it early", call="upload")
        return self.status == "final" if last else self.status == "active" and self.received_bytes == end


class ResumableUpload:
    """One upload. ``run`` may be called once; ``body``, that of the final reply, describes the file."""

    def __init__(
        self,
        http: Http,
        *,
        size_bytes: int,
        name: str,
        progress: Callable[[int], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
        slots: asyncio.Semaphore,
    ) -> None:
        self._http = http
        self._slots = slots
        self._size_bytes = size_bytes
        self._name = name
        self._progress = progress
        self._sleep = sleep
        self._sent_bytes = 0
        self.body = b""

    async def run(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Start at ``path`` and send everything."""
        url = await self._beating(self._start(path))
        async with aclosing(rechunk(chunks, size_bytes=self._size_bytes, chunk_bytes=CHUNK_BYTES)) as whole:
            more = True
            while more:
                await self._beating(self._next(url, whole))
                await self._progress(self._sent_bytes)
                more = self._sent_bytes < self._size_bytes

    async def _next(self, url: httpx.URL, whole: AsyncIterator[list[bytes]]) -> None:
        """Gather and send the next chunk when there is a slot for it."""
        async with self._slots:
            lot = await anext(whole)
            self.body = await self._send(url, lot)
            self._sent_bytes += sum(map(len, lot))
            lot.clear()  # the generator holds it until it is asked for the next

    async def _start(self, path: str) -> httpx.URL:
        meta = {"file": {"displayName": self._name, "mimeType": MIME_TYPE, "sizeBytes": str(self._size_bytes)}}
        headers = {
            "content-type": "application/json",
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(self._size_bytes),
            "x-goog-upload-header-content-type": MIME_TYPE,
        }
        reply = await self._http.request(
            "upload", "POST", self._http.url(path), content=msgspec.json.encode(meta), headers=headers
        )
        url = reply.headers.get("x-goog-upload-url")
        if not url:
            raise Transient("upload: the reply names no upload URL", call="upload")
        return self._http.upload_url(url)

    async def _send(self, url: httpx.URL, lot: Sequence[bytes]) -> bytes:
        """Send one chunk, resuming up to ``RESUMES_MAX`` times; returns the final reply's body, b"" before."""
        start, end = self._sent_bytes, self._sent_bytes + sum(map(len, lot))
        last, skip = end == self._size_bytes, 0
        error = Transient("upload: the server does not take a chunk as a whole", call="upload")
        for attempt in range(RESUMES_MAX + 1):
            try:
                if attempt:
                    position = await self._query(url)
                    if position.complete(end=end, last=last):
                        return position.body
                    skip = position.received_bytes - start
                position = await self._post(url, lot, start=start, skip=skip, last=last)
                if position.complete(end=end, last=last):
                    return position.body
            except (Transient, Rejected) as exc:
                error = _resumable(exc)
            await self._sleep(min(BACKOFF_S * 2**attempt, HEARTBEAT_S))
        raise error

    async def _post(self, url: httpx.URL, lot: Sequence[bytes], *, start: int, skip: int, last: bool) -> _Position:
        lot_bytes = sum(map(len, lot))
        if not 0 <= skip <= lot_bytes:
            raise Transient("upload: the server is at an offset that is not in this chunk", call="upload")
        headers = {
            "x-goog-upload-command": "upload, finalize" if last else "upload",
            "x-goog-upload-offset": str(start + skip),
            "content-length": str(lot_bytes - skip),
            "content-type": "application/octet-stream",
        }
        content = pieces_of(lot, skip) if skip < lot_bytes else b""
        reply = await self._http.request("upload", "POST", url, content=content, headers=headers, with_key=False)
        return _position(reply, unsaid=start + lot_bytes)

    async def _query(self, url: httpx.URL) -> _Position:
        headers = {"x-goog-upload-command": "query"}
        reply = await self._http.request("upload", "POST", url, headers=headers, with_key=False)
        return _position(reply, unsaid=-1)

    async def _beating(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, calling progress every ``HEARTBEAT_S`` meanwhile: a slow chunk must not cost the lease."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait((task,), timeout=HEARTBEAT_S))[0]:
                await self._progress(self._sent_bytes)
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def pieces_of(lot: Sequence[bytes], skip: int) -> AsyncIterator[bytes]:
    """What follows the first ``skip`` bytes, in pieces of at most ``PIECE_BYTES``; small parts go together."""
    group: list[bytes] = []
    room_bytes = PIECE_BYTES
    for part in lot:
        for start in range(skip, len(part), PIECE_BYTES):
            piece = part[start : start + PIECE_BYTES]
            if len(piece) > room_bytes:
                yield b"".join(group)
                group, room_bytes = [], PIECE_BYTES
            group.append(piece)
            room_bytes -= len(piece)
        skip = max(0, skip - len(part))
    if group:
        yield b"".join(group)


def _position(reply: Reply, *, unsaid: int) -> _Position:
    received = reply.headers.get("x-goog-upload-size-received", "")
    return _Position(
        status=reply.headers.get("x-goog-upload-status", "").strip().lower(),
        received_bytes=int(received) if received.isdecimal() else unsaid,
        body=reply.body,
    )


def _resumable(error: Transient | Rejected) -> Transient:
    """The error to keep while going on; raises what cannot get better within this upload."""
    if isinstance(error, Transient):
        if error.quota or error.spend:
            raise error
        return error
    if error.auth:
        raise error
    gone = Transient(f"{error}; the upload has to start again", call="upload", code=error.code)
    if error.missing:
        raise gone
    return gone
