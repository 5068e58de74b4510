"""The models that the emulator knows, and the quotas of the tiers (protocol section 13)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gemqueue_adapters.emulator.wire import ApiError, quota_error

if TYPE_CHECKING:
    from gemqueue_adapters.emulator.rows import Kind

KNOWN: dict[str, re.Pattern[str]] = {
    "generate": re.compile(r"gemini-(2\.0|2\.5|3|3\.1|3\.5|3\.6|3\.7)-(pro|flash)(-[a-z0-9-]+)?"),
    "embed": re.compile(r"(gemini-embedding|text-embedding)-[a-z0-9-]+"),
}
VERBS = {"generate": "batchGenerateContent", "embed": "asyncBatchEmbedContent"}
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


def check_model(kind: Kind, model: str) -> None:
    """Refuse a model that does not exist or cannot do this.

    Raises:
        ApiError: 404, as the service words it.
    """
    if not KNOWN[kind].fullmatch(model):
        raise ApiError(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for {VERBS[kind]}. "
            "Call ListModels to see the list of available models and their supported methods.",
        )


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
