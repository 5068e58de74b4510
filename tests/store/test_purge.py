"""Taking one prompt's line out of what it shares with others."""

# pyright: reportPrivateUsage=false
# A test may look inside.

from __future__ import annotations

import pytest

from gemqueue.store.purge import _without

PURGED = b'{"key":"s.1","failure":{"kind":"expired"}}'


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"s.1","response":{"a":1}}',
        b'{"key": "s.1", "response": {"a": 1}}',
        b'{"response":{"a":1},"key":"s.1"}',
        b'{"key":"s.\\u0031","response":{}}',
    ],
)
def test_a_line_is_found_by_its_key_however_it_is_spelled(line: bytes) -> None:
    """Wherever it stands; its neighbours stay as they are, though they quote it; twice changes nothing."""
    others = [b'{"key":"s.10","response":{"key":"s.1"}}', b"{", b'{"response":{"t":"\\"key\\":\\"s.1\\""},"key":"s.2"}']
    for at in range(4):
        lines = [*others[:at], line, *others[at:], b""]
        purged = _without(b"\n".join(lines), "s.1", PURGED) or b""
        assert purged == b"\n".join([*others[:at], PURGED, *others[at:], b""])
        assert _without(purged, "s.1", PURGED) is None
    assert _without(b"\n".join(others), "s.1", PURGED) is None
