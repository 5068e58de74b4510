"""A line of an input file as the body of a synchronous call."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gemqueue.states import Kind

FLEX: Final = "flex"


class _Line(msgspec.Struct):
    request: dict[str, Raw]


_decode_line = msgspec.json.Decoder(_Line).decode


def interactive_request(line: bytes, kind: Kind, service: str) -> bytes:
    """The request of a line, asked of ``service``. Raises ValueError where the line has none.

    A tier that the caller wrote into the request is taken out: the lane decides what is paid.
    """
    request = _decode_line(line).request
    for field in ("serviceTier", "service_tier"):
        request.pop(field, None)
    if service == FLEX and kind is Kind.GENERATE:
        request["serviceTier"] = Raw(b'"flex"')
    return msgspec.json.encode(request)
