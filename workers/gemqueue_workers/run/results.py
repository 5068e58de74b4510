"""Lines of OUT, and what an answer says that it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.answers import Answer
from gemqueue_workers.prices import Usage

if TYPE_CHECKING:
    from gemqueue.outcomes import Outcome


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Response(msgspec.Struct, rename="camel"):
    usage_metadata: _Counts | None = None


_decode: Final = msgspec.json.Decoder(_Response).decode
_INTERNAL: Final = 13


class UsageSum:
    """Tokens so far."""

    def __init__(self) -> None:
        self.input_tokens = 0
        self.output_tokens = 0

    def add(self, usage: tuple[int, int]) -> None:
        """One answer's."""
        self.input_tokens += usage[0]
        self.output_tokens += usage[1]

    @property
    def usage(self) -> Usage:
        """As the prices take it."""
        return Usage(self.input_tokens, self.output_tokens)


def usage_in(response: bytes) -> tuple[int, int]:
    """Input and output tokens that a response reports; what is missing or odd is nothing."""
    try:
        counts = _decode(response).usage_metadata
    except msgspec.MsgspecError:
        return 0, 0
    if counts is None:
        return 0, 0
    return counts.prompt_token_count or 0, (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)


def result_line(key: str, outcome: Outcome, *, text: bool = False) -> bytes:
    """One line of a Gemini result file: key and response, or key and error (protocol section 9.3); or key and text."""
    if isinstance(outcome, Answer):
        if text:
            return msgspec.json.encode({"key": key, "text": outcome.text}) + b"\n"
        return b'{"key":%b,"response":%b}\n' % (msgspec.json.encode(key), outcome.raw)
    failure = outcome.failure
    error = {"code": failure.code or _INTERNAL, "message": f"{failure.kind}: {failure.message}"}
    return msgspec.json.encode({"key": key, "error": error}) + b"\n"
