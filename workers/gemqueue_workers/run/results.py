"""Lines of OUT, and what an answer says that it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec

from gemqueue.language.answers import Answer
from gemqueue.language.gemini.usage import Charge, Spent, Usage
from gemqueue.records import BATCH
from gemqueue_workers.model_notes import versions_of
from gemqueue_workers.model_table import today
from gemqueue_workers.prices import Cost, charge, cost_of, usd_of

if TYPE_CHECKING:
    from gemqueue.language.outcomes import Outcome


class _Response(msgspec.Struct, rename="camel"):
    usage_metadata: Usage | None = None
    model_version: str | None = None


_decode: Final = msgspec.json.Decoder(_Response, strict=False).decode
_TEXTUAL: Final = frozenset({"text", "thought", "thoughtSignature"})


class UsageSum:
    """What the answers to a model took so far, by service class and by what they are charged by."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._day = today()
        self._charges: dict[str, Charge] = {}
        self._sums: dict[str, dict[Charge, Spent]] = {BATCH: {}}

    def renew(self) -> None:
        """Prices may be others from midnight (UTC) on: what comes now is charged by today's."""
        if (day := today()) != self._day:
            self._day = day
            self._charges.clear()

    def add(self, response: bytes, service: str) -> None:
        """One answer's; ``service`` is as the outcome line has it."""
        usage, version = used_by(response)
        by = self._charges.get(version)
        if by is None:
            by = self._charges[version] = charge(self._model, version, self._day)
        sums = self._sums.setdefault(service or BATCH, {})
        if by not in sums:
            sums[by] = Spent()
        sums[by].count(usage)

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return sum(one.input_tokens + one.output_tokens for one in self._all().values())

    @property
    def versions(self) -> dict[str, int]:
        """How many answers named each model."""
        return versions_of(self._all())

    @property
    def usd(self) -> float | None:
        """What it cost by the list; None where a model that answered has no price."""
        costs = [usd_of(self._model, sums, service) for service, sums in self._sums.items()]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    def usd_as(self, service: str) -> float | None:
        """What all of it would have cost in one service class."""
        return usd_of(self._model, self._all(), service)

    @property
    def costs(self) -> dict[str, Cost]:
        """What each service class that answered something cost and saved."""
        return {service: cost_of(self._model, sums, service) for service, sums in self._sums.items() if sums}

    def _all(self) -> dict[Charge, Spent]:
        found: dict[Charge, Spent] = {}
        for by, one in (pair for sums in self._sums.values() for pair in sums.items()):
            found[by] = found.get(by, Spent()) + one
        return found


def used_by(response: bytes) -> tuple[Usage | None, str]:
    """What a response reports of tokens, and the model that it says it is by; what is odd says nothing."""
    try:
        found = _decode(response)
    except (ValueError, RecursionError):  # msgspec's errors are some of the former
        return None, ""
    return found.usage_metadata, found.model_version or ""


def left_out(answer: Answer) -> list[str]:
    """What an answer has beside its text and thoughts, in words: MIME types, names of parts, further candidates."""
    others = [f"candidate {number}" for number in range(2, len(answer.candidates) + 1)]
    return [*_other_parts(answer), *others]


def _other_parts(answer: Answer) -> list[str]:
    names = [next(iter(part.keys() - _TEXTUAL), "") for part in answer.parts]
    blobs = [part.get(name) for part, name in zip(answer.parts, names, strict=True)]
    return [str(blob["mimeType"]) if _is_blob(blob) else name for name, blob in zip(names, blobs, strict=True) if name]


def _is_blob(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and "mimeType" in value


def result_line(key: str, outcome: Outcome, *, text: bool = False) -> bytes:
    """One line of OUT: Gemini's own key and response, or key and error (protocol section 9.3); or key and text.

    A text line names in ``left_out`` what the answer has beside text: a picture, a call, another candidate. A response
    that is no answer stands beside the error that says why; one that had to be repaired with ``repaired``.
    """
    if isinstance(outcome, Answer):
        if not text:
            end = b',"repaired":true}\n' if outcome.original else b"}\n"
            return b'{"key":%b,"response":%b%b' % (msgspec.json.encode(key), outcome.raw, end)
        line: dict[str, object] = {"key": key, "text": outcome.text}
        rest = left_out(outcome)
        return msgspec.json.encode(line | {"left_out": rest} if rest else line) + b"\n"
    failure = outcome.failure
    error: dict[str, object] = {"code": failure.code} if failure.code else {}
    error |= {"message": f"{failure.kind}: {failure.message}"}
    if failure.response and not text:
        ends = msgspec.json.encode(key), failure.raw, msgspec.json.encode(error)
        return b'{"key":%b,"response":%b,"error":%b}\n' % ends
    return msgspec.json.encode({"key": key, "error": error}) + b"\n"
