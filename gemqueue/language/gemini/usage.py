"""What a lane has answered and how many tokens that took, as the answers say it themselves (usageMetadata)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Usage(msgspec.Struct, gc=False, rename="camel"):
    """An answer's usageMetadata: what it says of tokens."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


_decode = msgspec.json.Decoder(Usage, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode


def usage_of(raw: bytes) -> Usage | None:
    """What an undecoded usageMetadata says of tokens; None where it is missing or odd."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def version_of(raw: bytes) -> str:
    """The model that an undecoded modelVersion names; empty where it is missing or odd."""
    try:
        return _decode_text(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


class Spent(msgspec.Struct):
    """Answers, and their tokens; thoughts are billed as output, and cached tokens are among those of the input."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def count(self, found: Usage | None) -> None:
        """One more answer, with its usageMetadata; what it does not say is nothing."""
        self.answers += 1
        if found is None:
            return
        self.input_tokens += found.prompt_token_count or 0
        self.output_tokens += (found.candidates_token_count or 0) + (found.thoughts_token_count or 0)
        if found.cached_content_token_count:
            self.cached_tokens += found.cached_content_token_count

    def __add__(self, other: Spent) -> Spent:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Spent(*map(sum, zip(mine, theirs, strict=True)))

    def less(self, others: Iterable[Spent]) -> Spent:
        """What is left of it without these; nothing is below 0."""
        fields = msgspec.structs.asdict(self)
        for other in others:
            fields = {name: max(0, n - getattr(other, name)) for name, n in fields.items()}
        return Spent(**fields)


class Charge(NamedTuple):
    """What answers are charged by: the model that they say they are by, and the price that was in force.

    ``version`` is empty where they say nothing; ``since`` is the first day of the price (ISO, UTC), empty for a model's
    first one.
    """

    version: str = ""
    since: str = ""
