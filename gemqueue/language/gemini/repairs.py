"""A row of results that strict JSON cannot carry, made readable: the answer in it was paid for. Pure.

Services have sent text that was cut in the middle of a surrogate pair, NaN for a number, and bytes that are no UTF-8.
Python's own decoder reads what ours refuses; what it read is written anew, with U+FFFD for what no text can hold and
null for what is no number. The bytes as they came are kept beside it by whoever asks for this.
"""

from __future__ import annotations

import json
from typing import Final

_LINE_BYTES_MAX: Final = 64_000_000


def repaired(line: bytes) -> bytes | None:
    """The line as strict JSON in UTF-8; None where it holds no JSON object at all, as a cut line does."""
    if len(line) > _LINE_BYTES_MAX:
        return None
    try:
        value: object = json.loads(line.decode("utf-8", "replace"), strict=False, parse_constant=_nothing)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _nothing(_name: str) -> None:
    return None
