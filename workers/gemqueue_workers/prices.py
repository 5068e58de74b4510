"""What tokens cost, for illustration: Google's list prices of one day. Check them before you count on them.

USD per million tokens on the paid tier, text, prompts of up to 200,000 tokens, as https://ai.google.dev/gemini-api/docs/pricing
had them on ``DATED``. The Batch API costs half of it (protocol section 13), cached tokens apart. Thoughts are billed
as output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.answers import Answer

DATED: Final = "2026-10-07"
BATCH_SHARE: Final = 0.5
_MILLION: Final = 1_000_000


class Price(msgspec.Struct, frozen=True):
    """USD per million tokens, interactive; an embedding has no output."""

    input_usd: float
    output_usd: float = 0.0


PRICES: Final[dict[str, Price]] = {
    "gemini-3.5-flash": Price(1.50, 9.00),
    "gemini-3.5-flash-lite": Price(0.30, 2.50),
    "gemini-3.1-pro-preview": Price(2.00, 12.00),
    "gemini-2.5-pro": Price(1.25, 10.00),
    "gemini-2.5-flash": Price(0.30, 2.50),
    "gemini-2.5-flash-lite": Price(0.10, 0.40),
    "gemini-embedding-2": Price(0.20),
    "gemini-embedding-001": Price(0.15),
}


class Usage(msgspec.Struct, frozen=True):
    """Tokens that were paid for."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


def usage_of(answers: Iterable[Answer]) -> Usage:
    """What the answers report of themselves; counts that are missing are nothing."""
    input_tokens = output_tokens = 0
    for answer in answers:
        found = answer.usage_metadata
        input_tokens += _count(found, "promptTokenCount")
        output_tokens += _count(found, "candidatesTokenCount") + _count(found, "thoughtsTokenCount")
    return Usage(input_tokens, output_tokens)


def interactive_usd(model: str, usage: Usage) -> float | None:
    """What the tokens would have cost one by one; None for a model without a price here."""
    price = PRICES.get(model.removeprefix("models/"))
    if price is None:
        return None
    return (usage.input_tokens * price.input_usd + usage.output_tokens * price.output_usd) / _MILLION


def batch_usd(model: str, usage: Usage) -> float | None:
    """What they cost through the Batch API."""
    full_usd = interactive_usd(model, usage)
    return None if full_usd is None else full_usd * BATCH_SHARE


def _count(usage_metadata: dict[str, object], name: str) -> int:
    value = usage_metadata.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
