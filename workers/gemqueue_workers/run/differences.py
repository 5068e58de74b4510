"""How a row of IN differs from what was submitted under its key.

The old request comes from the store while it has it; after that there is what the index remembers of the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.errors import SubmitError
from gemqueue.store import codec
from gemqueue_workers.run.index import BEGIN_BYTES
from gemqueue_workers.screen import stripped

if TYPE_CHECKING:
    from gemqueue.store.runs import RunStore
    from gemqueue_workers.run.index import Seen
    from gemqueue_workers.run.source.rows import Row
    from gemqueue_workers.run.submitting import RowEncoder

_AROUND_CHARS: Final = 24
_AFTER_CHARS: Final = 60
_ENTRIES_A_LOOK: Final = 32


class _Line(msgspec.Struct):
    key: str
    request: msgspec.Raw


_decode_line: Final = msgspec.json.Decoder(_Line).decode


class Differences:
    """Compares rows with what the run ``name`` of ``account`` has submitted."""

    def __init__(self, store: RunStore, account: str, name: str, encoder: RowEncoder) -> None:
        self._store = store
        self._account = account
        self._name = name
        self._encoder = encoder

    async def __call__(self, row: Row, before: Seen | None) -> str:
        """The first difference, in words that are safe to print."""
        submitted = await self._submitted(row.key)
        try:
            forms = self._encoder.identified(row)
        except SubmitError as error:
            return f"now {stripped(str(error))}"
        if submitted in forms:
            return "only its JSON is written in another way, the request is the same"
        if submitted is not None:
            return first_difference(submitted, max(forms, key=lambda now: _common(submitted, now)))
        if before is None:
            return f"what it was is no longer kept, now it begins {_quoted(row.content, 0)}"
        return _from_begin(before, row.content.removesuffix(b"\0"))

    async def _submitted(self, key: str) -> bytes | None:
        """The request that was submitted under the key, while its segment has a body."""
        record = await self._store.run_record(self._account, self._name)
        for stop in range(record.entries if record else 0, 0, -_ENTRIES_A_LOOK):
            start = max(0, stop - _ENTRIES_A_LOOK)
            for entry in reversed(await self._store.run_entries(self._account, self._name, start, stop)):
                if key in entry.keys and entry.segment:
                    return await self._request(entry.segment, f"{entry.segment}.{entry.keys.index(key)}")
        return None

    async def _request(self, segment: str, key: str) -> bytes | None:
        (body,) = await self._store.bodies([segment])
        start = b'{"key":"%b",' % key.encode()
        if body is None:
            return None
        text = self._store.unreadable.read(f"body of segment {segment}", codec.expand, body)
        for line in (text or b"").split(b"\n"):
            if line.startswith(start):
                return bytes(_decode_line(line).request)
        return None


def first_difference(old: bytes, new: bytes) -> str:
    """Where two requests begin to differ, and how each goes on."""
    at = _common(old, new)
    return f"the first difference: it was {_quoted(old, at)}, now it is {_quoted(new, at)}"


def _from_begin(before: Seen, content: bytes) -> str:
    now = content[:BEGIN_BYTES]
    at = _common(before.begin, now)
    if at < len(now) or at < len(before.begin):
        return first_difference(before.begin, now if len(before.begin) == BEGIN_BYTES else content)
    return (
        f"it had {before.size:,} bytes, now it has {len(content):,}, and the first {BEGIN_BYTES} are the same "
        "(more of what it was is no longer kept)"
    )


def _common(old: bytes, new: bytes) -> int:
    """How many bytes are the same at the start."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[:middle] == new[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _quoted(text: bytes, at: int) -> str:
    start = max(0, at - _AROUND_CHARS)
    shown = text[start : at + _AFTER_CHARS].replace(b"\0", b" ").decode("utf-8", "ignore")
    return f"{'…' if start else ''}{stripped(shown)!r}{'…' if len(text) > at + _AFTER_CHARS else ''}"
