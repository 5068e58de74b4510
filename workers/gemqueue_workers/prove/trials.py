"""The trials: jobs that are bought to see what becomes of them, with their rows and what they may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.language.lines import line
from gemqueue_workers.prices import Usage, batch_usd

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_ROWS: Final = 20
LARGE_ROWS: Final = 200
PAD_BYTES: Final = 32 * 1024
"""Blanks in each line of the large file: bytes that must be read, and no tokens."""
SHORT_ROWS: Final = 50
ACCEPTED: Final = "accepted"
_SHORT_TOKENS_MAX: Final = 64
_SCHEMA_TOKENS_MAX: Final = 256
_BYTES_A_TOKEN: Final = 3  # fewer than English has, so that an estimate is rather too high
_FIRST_NUMBER: Final = 10_000
_JSON: Final = "application/json"

FIELDS: Final[dict[str, type]] = {"river": str, "length_km": int, "cities": list}
"""What a row of the schema trials must answer: these fields, all of them and no other."""
_SCHEMA: Final[dict[str, Any]] = {
    "type": "OBJECT",
    "properties": {
        "river": {"type": "STRING"},
        "length_km": {"type": "INTEGER"},
        "cities": {"type": "ARRAY", "items": {"type": "STRING"}},
    },
    "required": list(FIELDS),
    "propertyOrdering": list(FIELDS),
}
_JSON_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "river": {"type": "string"},
        "length_km": {"type": "integer"},
        "cities": {"type": "array", "items": {"type": "string"}},
    },
    "required": list(FIELDS),
    "additionalProperties": False,
}


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One job to be bought.

    ``delete`` says when its input file is deleted: first (before the create), accepted (right after it), pending,
    running, or never (empty).
    ``killed``: its create is sent by a process that is killed as soon as the reply is there. ``schema`` is the field
    that its rows ask for structure by.
    """

    slot: str
    rows: int = 1
    pad_bytes: int = 0
    delete: str = ""
    killed: bool = False
    schema: str = ""

    def lines(self) -> Iterator[bytes]:
        """Its input file."""
        blanks = b" " * self.pad_bytes
        for index in range(self.rows):
            whole = line(key_of(self.slot, index), msgspec.json.encode(self._request(index)))
            yield whole.replace(b'"request":', blanks + b'"request":', 1) if blanks else whole

    def estimate_usd(self, model: str) -> float | None:
        """The most that it may cost; None for a model without a price."""
        input_bytes = self.rows * (len(msgspec.json.encode(self._request(self.rows - 1))) + 1)
        most = _SCHEMA_TOKENS_MAX if self.schema else _SHORT_TOKENS_MAX
        return batch_usd(model, Usage(input_bytes // _BYTES_A_TOKEN + self.rows, self.rows * most))

    def _request(self, index: int) -> dict[str, Any]:
        if not self.schema:
            return _asked(f"Repeat this number and nothing else: {number_of(index)}", _SHORT_TOKENS_MAX)
        text = f"Name river number {index + 1} of a list of long rivers, its length, and two cities on it."
        schema = _SCHEMA if self.schema == "responseSchema" else _JSON_SCHEMA
        return _asked(text, _SCHEMA_TOKENS_MAX, responseMimeType=_JSON, **{self.schema: schema})


SHORT_FORM: Final = {
    trial.slot: trial for trial in (Trial(slot="refused", delete="first"), Trial(slot=ACCEPTED, delete=ACCEPTED))
}
"""What ``gemqueue doctor --live`` needs."""


def trials(rows: int) -> dict[str, Trial]:
    """Every trial by its slot; ``rows`` short ones are asked for by the plain one, which others are held against."""
    table = (
        Trial(slot="refused", delete="first"),
        Trial(slot="killed", killed=True),
        Trial(slot="pending", delete="pending"),
        Trial(slot="running", rows=LARGE_ROWS, pad_bytes=PAD_BYTES, delete="running"),
        Trial(slot="schema", rows=SCHEMA_ROWS, schema="responseSchema"),
        Trial(slot="json_schema", rows=SCHEMA_ROWS, schema="responseJsonSchema"),
        Trial(slot="rows", rows=rows),
    )
    return {trial.slot: trial for trial in table}


def key_of(slot: str, index: int) -> str:
    """The key of a row."""
    return f"{slot}.{index}"


def number_of(index: int) -> int:
    """What the answer to a row must hold, and no other row's."""
    return _FIRST_NUMBER + index


def _asked(text: str, tokens_max: int, **config: Any) -> dict[str, Any]:
    return {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "generationConfig": {"maxOutputTokens": tokens_max, **config},
    }
