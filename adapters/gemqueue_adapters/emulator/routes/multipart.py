"""Taking a multipart/related upload apart while it arrives: a part of JSON, then the bytes (protocol section 8.2)."""

from __future__ import annotations

import re
from email.message import Message
from typing import TYPE_CHECKING

from gemqueue_adapters.emulator.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HEAD_MAX_BYTES = 64 << 10
BLANK = re.compile(rb"\r?\n\r?\n")


class Multipart:
    """The two parts of one body; read `head` first, then `media`, once."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        """Raises ApiError 400 if the content type names no boundary."""
        header = Message()
        header["Content-Type"] = content_type
        boundary = header.get_boundary()
        if header.get_content_maintype() != "multipart" or not boundary:
            raise _broken()
        self._mark = b"--" + boundary.encode("latin-1", "replace")
        self._chunks = chunks
        self._data = b""

    async def head(self) -> tuple[bytes, str | None]:
        """The JSON of the first part, and the media type of the second.

        Raises:
            ApiError: 400 for a body that is cut differently, or whose first part is too long.
        """
        while (cut := self._cut()) is None:
            chunk = await anext(self._chunks, b"")
            if not chunk or len(self._data) > HEAD_MAX_BYTES:
                raise _broken()
            self._data += chunk
        start, mark, end = cut
        json, head = self._data[start:mark].strip(), self._data[mark:end]
        kind = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
        self._data = self._data[end:]
        return json, kind[1].decode("latin-1").strip() if kind else None

    def _cut(self) -> tuple[int, int, int] | None:
        """Where the JSON starts, where the second part does, and where its head ends; None before all of it is here."""
        first = BLANK.search(self._data)
        mark = self._data.find(self._mark, first.end()) if first else -1
        second = BLANK.search(self._data, mark) if mark >= 0 else None
        return (first.end(), mark, second.end()) if first and second else None

    async def media(self) -> AsyncIterator[bytes]:
        """The bytes of the second part, as they arrive.

        Raises:
            ApiError: 400 if the body ends before its last boundary.
        """
        end, keep = b"\n" + self._mark, len(self._mark) + 2
        while (at := self._data.find(end)) < 0:
            if len(self._data) > keep:
                yield self._data[:-keep]
                self._data = self._data[-keep:]
            chunk = await anext(self._chunks, b"")
            if not chunk:
                raise _broken()
            self._data += chunk
        yield self._data[:at].removesuffix(b"\r")


def _broken() -> ApiError:
    return ApiError(400, "Failed to parse the multipart body: expected multipart/related, JSON first, then the media.")
