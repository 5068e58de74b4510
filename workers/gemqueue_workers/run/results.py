"""Lines of OUT, and what an answer says that it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec

from gemqueue.answers import Answer
from gemqueue.models import BATCH
from gemqueue_workers.prices import Cost, Usage, cost_of, service_usd

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
_TEXTUAL: Final = frozenset({"text", "thought", "thoughtSignature"})


class UsageSum:
    """Answers, input and output tokens so far, by service class."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {BATCH: [0, 0, 0]}

    def add(self, usage: tuple[int, int], service: str) -> None:
        """One answer's; ``service`` is as the outcome line has it."""
        sums = self._sums.get(service or BATCH)
        if sums is None:
            sums = self._sums[service] = [0, 0, 0]
        sums[0] += 1
        sums[1] += usage[0]
        sums[2] += usage[1]

    @property
    def usage(self) -> Usage:
        """As the prices take it."""
        return Usage(sum(sums[1] for sums in self._sums.values()), sum(sums[2] for sums in self._sums.values()))

    def usd(self, model: str) -> float | None:
        """What it cost by the list."""
        costs = [service_usd(model, Usage(*sums[1:]), service) for service, sums in self._sums.items()]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    def costs(self, model: str) -> dict[str, Cost]:
        """What each service class that answered something cost and saved."""
        return {
            service: cost_of(model, sums[0], Usage(*sums[1:]), service)
            for service, sums in self._sums.items()
            if sums[0]
        }


def usage_in(response: bytes) -> tuple[int, int]:
    """Input and output tokens that a response reports; what is missing or odd is nothing."""
    try:
        counts = _decode(response).usage_metadata
    except msgspec.MsgspecError:
        return 0, 0
    if counts is None:
        return 0, 0
    return counts.prompt_token_count or 0, (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)


def left_out(answer: Answer) -> list[str]:
    """What an answer has beside its text and thoughts, in words: MIME types, or the names of parts."""
    names = [next(iter(part.keys() - _TEXTUAL), "") for part in answer.parts]
    blobs = [part.get(name) for part, name in zip(answer.parts, names, strict=True)]
    return [str(blob["mimeType"]) if _is_blob(blob) else name for name, blob in zip(names, blobs, strict=True) if name]


def _is_blob(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and "mimeType" in value


def result_line(key: str, outcome: Outcome, *, text: bool = False) -> bytes:
    """One line of a Gemini result file: key and response, or key and error (protocol section 9.3); or key and text.

    A text line names in ``left_out`` what the answer has beside text: a picture, a call.
    """
    if isinstance(outcome, Answer):
        if text:
            line: dict[str, object] = {"key": key, "text": outcome.text}
            rest = left_out(outcome)
            return msgspec.json.encode(line | {"left_out": rest} if rest else line) + b"\n"
        return b'{"key":%b,"response":%b}\n' % (msgspec.json.encode(key), outcome.raw)
    failure = outcome.failure
    error = {"code": failure.code or _INTERNAL, "message": f"{failure.kind}: {failure.message}"}
    return msgspec.json.encode({"key": key, "error": error}) + b"\n"
