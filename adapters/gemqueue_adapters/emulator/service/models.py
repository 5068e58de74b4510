"""The models that the emulator knows, and the quotas of the tiers (protocol section 13)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gemqueue_adapters.emulator.wire import ApiError, quota_error

if TYPE_CHECKING:
    from gemqueue_adapters.emulator.rows import Kind

KNOWN: dict[str, re.Pattern[str]] = {
    "generate": re.compile(r"gemini-(2\.0|2\.5|3|3\.1|3\.5|3\.6|3\.7|3\.8)-(pro|flash)(-[a-z0-9-]+)?"),
    "embed": re.compile(r"(gemini-embedding|text-embedding)-[a-z0-9-]+"),
}
VERBS = {"generate": "batchGenerateContent", "embed": "asyncBatchEmbedContent"}
METHODS = {
    "generate": ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"],
    "embed": ["embedContent", "countTokens", "asyncBatchEmbedContent"],
}
USD_PER_MILLION: dict[str, tuple[float, float]] = {
    "gemini-3.8-flash": (0.75, 3.75),
    "gemini-3.7-flash": (0.75, 3.75),
    "gemini-3.6-flash": (1.50, 7.50),
    "gemini-3.5-flash": (1.50, 9.00),
    "gemini-3.5-flash-lite": (0.30, 2.50),
    "gemini-3.1-pro-preview": (2.00, 12.00),
    "gemini-2.5-pro": (1.25, 10.00),
    "gemini-2.5-flash": (0.30, 2.50),
    "gemini-2.5-flash-lite": (0.10, 0.40),
    "gemini-2.5-flash-image": (0.30, 30.00),
    "gemini-embedding-2": (0.20, 0.0),
    "gemini-embedding-001": (0.15, 0.0),
}
"""Interactive list prices of input and output tokens, of November 2026, for illustration. Other models of the service
are known as well, without a price: the ledger counts them as the longest name here that theirs begins with, or as
nothing."""

DOUBLES_MS: dict[str, int] = dict.fromkeys(
    ("gemini-3.8-flash", "gemini-3.7-flash"), int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)
)
"""When the price that a model was introduced at ends: from then on it is twice the above."""

HALF = 0.5
"""What a batch and the flex tier cost of the list price (protocol section 13)."""

OPEN_JOBS_MAX = 100
STORAGE_MAX_BYTES = 20 << 30
MILLION = 1_000_000
ENQUEUED_TOKENS_MAX: list[tuple[re.Pattern[str], tuple[int, int, int]]] = [
    (re.compile(pattern), limits)
    for pattern, limits in (
        (r".*embedding", (500_000, 5 * MILLION, 10 * MILLION)),
        (r".*pro.*-tts", (25_000, 100_000, MILLION)),
        (r".*flash.*-tts", (100_000, 100_000, 4 * MILLION)),
        (r"gemini-3\.1-flash-image", (MILLION, 250 * MILLION, 750 * MILLION)),
        (r".*(lite|pro).*-image", (2 * MILLION, 250 * MILLION, 750 * MILLION)),
        (r".*-image", (3 * MILLION, 250 * MILLION, 750 * MILLION)),
        (r"gemini-2\.0", (10 * MILLION, 1000 * MILLION, 5000 * MILLION)),
        (r".*pro", (5 * MILLION, 500 * MILLION, 1000 * MILLION)),
        (r".*flash-lite", (10 * MILLION, 500 * MILLION, 1000 * MILLION)),
        (r".*", (3 * MILLION, 400 * MILLION, 1000 * MILLION)),
    )
]
"""Enqueued tokens of one model in tiers 1, 2 and 3; the first pattern that matches the model decides."""


def check_model(kind: Kind, model: str, verb: str = "") -> None:
    """Refuse a model that does not exist or cannot do this.

    Raises:
        ApiError: 404, as the service words it.
    """
    if not KNOWN[kind].fullmatch(model):
        raise ApiError(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for {verb or VERBS[kind]}. "
            "Call ListModels to see the list of available models and their supported methods.",
        )


def usd(model: str, prompt_tokens: int, answer_tokens: int, at_ms: int, share: float = 1.0) -> float:
    """What these tokens cost that were asked for at that time, in USD, rounded to a thousandth of a thousandth."""
    name = max((name for name in USD_PER_MILLION if model.startswith(name)), key=len, default="")
    price_in, price_out = USD_PER_MILLION.get(name, (0.0, 0.0))
    if at_ms >= DOUBLES_MS.get(name, at_ms + 1):
        share *= 2
    return round(share * (prompt_tokens * price_in + answer_tokens * price_out) / MILLION, 6)


def kind_of(model: str) -> Kind:
    """What a model does.

    Raises:
        ApiError: 404 if there is no such model.
    """
    for kind, pattern in KNOWN.items():
        if pattern.fullmatch(model):
            return "embed" if kind == "embed" else "generate"
    raise ApiError(404, f"models/{model} is not found for API version v1beta. Call ListModels to see what there is.")


def described(model: str) -> dict[str, Any]:
    """The model resource.

    Raises:
        ApiError: 404 if there is no such model.
    """
    kind = kind_of(model)
    return {
        "name": f"models/{model}",
        "version": "emulator",
        "displayName": model.replace("-", " ").title(),
        "description": "An emulated model: it makes its answers up.",
        "inputTokenLimit": 8_192 if kind == "embed" else 1_048_576,
        "outputTokenLimit": 1 if kind == "embed" else 65_536,
        "supportedGenerationMethods": METHODS[kind],
    }


def check_quota(tier: str, model: str, open_jobs: int, enqueued_tokens: int, new_tokens: int) -> None:
    """Refuse a job beyond the tier's open jobs or enqueued tokens; tier "none" has no quotas.

    Raises:
        ApiError: 429, which does not say which quota it was.
    """
    if tier == "none":
        return
    limits = next(limits for pattern, limits in ENQUEUED_TOKENS_MAX if pattern.match(model))
    if open_jobs >= OPEN_JOBS_MAX or enqueued_tokens + new_tokens > limits[int(tier) - 1]:
        raise quota_error()
