"""What a lane has answered and how many tokens that took, as the answers say it themselves (usageMetadata)."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, gc=False, rename="camel"):
    """An answer's usageMetadata: what it says of tokens."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


_decode = msgspec.json.Decoder(Usage, strict=False).decode


def usage_of(raw: bytes) -> Usage | None:
    """What an undecoded usageMetadata says of tokens; None where it is missing or odd."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class Spent(msgspec.Struct):
    """Answers, and their tokens; thoughts are billed as output."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def count(self, found: Usage | None) -> None:
        """One more answer, with its usageMetadata; what it does not say is nothing."""
        self.answers += 1
        if found is None:
            return
        self.input_tokens += found.prompt_token_count or 0
        self.output_tokens += (found.candidates_token_count or 0) + (found.thoughts_token_count or 0)
