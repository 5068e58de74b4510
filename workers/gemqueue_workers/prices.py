"""What tokens cost, for illustration: Google's list prices of one day, in ``config/models.toml``.

USD per million tokens, interactive; the Batch API costs half of it (protocol section 13), cached tokens apart. A file
of one's own, named by ``GEMQUEUE_MODELS``, is laid over the packaged one, model by model.
"""

from __future__ import annotations

import os
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.answers import Answer

MODELS_ENV: Final = "GEMQUEUE_MODELS"
_MILLION: Final = 1_000_000
_HERE: Final = Path(__file__).parent
_FILES: Final = (_HERE / "models.toml", _HERE.parents[1] / "config" / "models.toml")
"""Where a wheel has the table, and where a checkout has it."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens, interactive; an embedding has no output. Enqueued tokens are by tier."""

    input_usd: float
    output_usd: float = 0.0
    enqueued_tokens: tuple[int, ...] = ()


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dated: str
    models: dict[str, Price]
    source: str = ""
    batch_share: float = 0.5
    flex_share: float = 0.5
    enqueued_tokens: dict[str, tuple[int, ...]] = {}


def load_table(own: Path | None = None) -> _Table:
    """The table, with a file of one's own laid over it. Raises ConfigError that names the file and the field."""
    path = next(file for file in _FILES if file.is_file())
    values = _read(path)
    if own is not None:
        path, over = own, _read(own)
        patterns = over.get("enqueued_tokens", {})
        values = (
            values
            | over
            | {
                "models": values["models"] | over.get("models", {}),
                "enqueued_tokens": patterns | {k: v for k, v in values["enqueued_tokens"].items() if k not in patterns},
            }
        )
    try:
        return msgspec.convert(values, _Table)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Price table {path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Price table {path}: {error}") from error


_TABLE: Final = load_table(Path(os.environ[MODELS_ENV]) if os.environ.get(MODELS_ENV) else None)
DATED: Final = _TABLE.dated
BATCH_SHARE: Final = _TABLE.batch_share
SHARES: Final = {"batch": BATCH_SHARE, "flex": _TABLE.flex_share, "standard": 1.0}
"""Of the interactive price, by service class."""
PRICES: Final = _TABLE.models


def tier_tokens(model: str, table: _Table = _TABLE) -> tuple[int, ...]:
    """Enqueued tokens of a model by tier: its own, else those of the first pattern that fits; empty where none does."""
    price = table.models.get(model)
    if price is not None and price.enqueued_tokens:
        return price.enqueued_tokens
    return next((limits for pattern, limits in table.enqueued_tokens.items() if fnmatchcase(model, pattern)), ())


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


def service_usd(model: str, usage: Usage, service: str) -> float | None:
    """What they cost in a service class."""
    full_usd = interactive_usd(model, usage)
    return None if full_usd is None else full_usd * SHARES[service]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a service class has answered, what that cost by the list, and what the full price would have been on top."""

    answers: int = 0
    tokens: int = 0
    usd: float | None = None
    saved_usd: float | None = None


def cost_of(model: str, answers: int, usage: Usage, service: str) -> Cost:
    """The cost of answers of one service class; without prices where the model has none here."""
    full_usd, usd = interactive_usd(model, usage), service_usd(model, usage, service)
    if full_usd is None or usd is None:
        return Cost(answers=answers, tokens=usage.tokens)
    return Cost(answers=answers, tokens=usage.tokens, usd=round(usd, 6), saved_usd=round(full_usd - usd, 6))


def _count(usage_metadata: dict[str, object], name: str) -> int:
    value = usage_metadata.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
