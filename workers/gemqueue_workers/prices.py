"""What tokens cost, for illustration: list prices of one day, in the model table (``config/models.toml``).

USD per million tokens, interactive; the Batch API and Flex cost half of it (protocol section 13), cached tokens apart.
Every answer is charged at the price of the model that gave it, as it was when its job was created.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.language.gemini.usage import Charge, Spent
from gemqueue.records import BATCH
from gemqueue_workers.model_table import TABLE, billed_as, routed, today

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gemqueue.language.answers import Answer
    from gemqueue_workers.model_table import Table

_MILLION: Final = 1_000_000
DATED: Final = TABLE.dated
STANDARD: Final = "standard"
SHARES: Final = {BATCH: TABLE.batch_share, "flex": TABLE.flex_share, STANDARD: Decimal(1)}
"""Of the interactive price, by service class."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens that were paid for; those of the input that came out of a cache are among it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


def usage_of(answers: Iterable[Answer]) -> Usage:
    """What the answers report of themselves; counts that are missing are nothing."""
    usage = Usage()
    for answer in answers:
        found = answer.usage_metadata
        output_tokens = _count(found, "candidatesTokenCount") + _count(found, "thoughtsTokenCount")
        usage += Usage(_count(found, "promptTokenCount"), output_tokens, _count(found, "cachedContentTokenCount"))
    return usage


def service_usd(
    model: str, usage: Usage | Spent, service: str, day: dt.date | None = None, table: Table = TABLE
) -> float | None:
    """What tokens that a model answers cost in a service class on a day, today's as a rule; None without a price.

    A cached token costs its share of the input price. A batch and Flex take no more off that than is certain.
    """
    known = table.models.get(model.removeprefix("models/"))
    price = known.price(day or today()) if known is not None else None
    if known is None or price is None:
        return None
    cached = min(usage.cached_tokens, usage.input_tokens)
    share = SHARES[service]
    left_share = Decimal(1) if service == STANDARD else max(known.batch_cached_shares)
    whole = (usage.input_tokens - cached) * price.input_usd + usage.output_tokens * price.output_usd
    return float((whole * share + cached * price.input_usd * table.cached_share * left_share) / _MILLION)


def interactive_usd(model: str, usage: Usage, day: dt.date | None = None) -> float | None:
    """What the tokens would cost one by one if they were asked for on that day, whoever answers then."""
    day = day or today()
    return service_usd(routed(model, day), usage, STANDARD, day)


def batch_usd(model: str, usage: Usage, day: dt.date | None = None) -> float | None:
    """The same through the Batch API."""
    day = day or today()
    return service_usd(routed(model, day), usage, BATCH, day)


def charge(asked: str, version: str, day: dt.date) -> Charge:
    """What an answer is charged by: the version that it names, and the day from which the price holds."""
    known = TABLE.models.get(billed_as(asked, version))
    price = known.price(day) if known is not None else None
    return Charge(version, price.since.isoformat() if price is not None and price.since > dt.date.min else "")


def usd_of(asked: str, spent: Mapping[Charge, Spent], service: str) -> float | None:
    """What answers cost in a service class, each at its own price; None where one of them has none."""
    costs = [
        service_usd(billed_as(asked, by.version), one, service, _day(by))
        for by, one in (spent or {Charge(): Spent()}).items()
    ]
    return None if None in costs else sum(cost or 0.0 for cost in costs)


def _day(by: Charge) -> dt.date:
    return dt.date.fromisoformat(by.since) if by.since else dt.date.min


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a service class has answered, what that cost by the list, and what the full price would have been on top.

    ``usd`` and ``saved_usd`` are None where a model that answered has no price.
    """

    answers: int = 0
    tokens: int = 0
    usd: float | None = None
    saved_usd: float | None = None


def cost_of(asked: str, spent: Mapping[Charge, Spent], service: str) -> Cost:
    """The cost of answers of one service class."""
    answers = sum(one.answers for one in spent.values())
    tokens = sum(one.input_tokens + one.output_tokens for one in spent.values())
    full_usd, usd = usd_of(asked, spent, STANDARD), usd_of(asked, spent, service)
    if full_usd is None or usd is None:
        return Cost(answers=answers, tokens=tokens)
    return Cost(answers=answers, tokens=tokens, usd=round(usd, 6), saved_usd=round(full_usd - usd, 6))


def _count(usage_metadata: dict[str, object], name: str) -> int:
    value = usage_metadata.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
