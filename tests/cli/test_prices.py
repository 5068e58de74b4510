"""What the demo says of costs is arithmetic over a dated table."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from gemqueue.answers import Answer
from gemqueue.errors import ConfigError
from gemqueue_workers.prices import DATED, PRICES, Usage, batch_usd, interactive_usd, load_table, tier_tokens, usage_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_million_tokens_cost_their_price() -> None:
    """A million tokens in and a million out cost exactly what the table says, and half of it as a batch."""
    usage = Usage(1_000_000, 1_000_000)
    for model, price in PRICES.items():
        assert interactive_usd(model, usage) == pytest.approx(price.input_usd + price.output_usd)
        assert batch_usd(model, usage) == pytest.approx((price.input_usd + price.output_usd) / 2)


def test_input_and_output_have_prices_of_their_own() -> None:
    """Tokens that went in are not charged as tokens that came out."""
    assert interactive_usd("gemini-3.5-flash", Usage(2_000, 100)) == pytest.approx(2_000 * 1.5e-6 + 100 * 9e-6)
    assert interactive_usd("models/gemini-embedding-2", Usage(5_000_000)) == pytest.approx(1.0)


def test_an_unknown_model_has_no_price() -> None:
    """A model that is not in the table costs None, not nothing."""
    assert interactive_usd("gemini-9", Usage(1, 1)) is None
    assert batch_usd("gemini-9", Usage(1, 1)) is None


def test_usage_is_what_the_answers_report() -> None:
    """Prompt tokens go in, candidates and thoughts come out; counts that are missing or odd are nothing."""
    answers = [
        Answer("a.0", b'{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":5,"thoughtsTokenCount":2}}'),
        Answer("a.1", b'{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":"x"}}'),
        Answer("a.2", b"{}"),
    ]
    assert usage_of(answers) == Usage(10, 7)
    assert (usage_of(answers) + Usage(1, 1)).tokens == 19


def test_the_table_says_of_when_it_is() -> None:
    """The prices carry a date that people can check."""
    assert dt.date.fromisoformat(DATED) < dt.datetime.now(tz=dt.UTC).date()


@pytest.mark.parametrize(
    ("model", "tier_1"),
    [
        ("gemini-3.7-flash", 3_000_000),
        ("gemini-3.6-flash-preview", 3_000_000),
        ("gemini-3.1-flash-lite", 10_000_000),
        ("gemini-2.5-pro-preview-tts", 25_000),
        ("gemini-2.5-flash-preview-tts", 100_000),
        ("gemini-2.5-flash-image", 3_000_000),
        ("gemini-3.1-flash-image-preview", 1_000_000),
        ("gemini-3-pro-image-preview", 2_000_000),
        ("gemini-2.0-flash-lite", 10_000_000),
        ("gemini-embedding-9", 500_000),
        ("gemini-9", None),
    ],
)
def test_every_listed_family_has_its_enqueued_tokens(model: str, tier_1: int | None) -> None:
    """The table of protocol section 13, by the names that its models go by; what is not listed has no limit."""
    assert next(iter(tier_tokens(model)), None) == tier_1


def test_patterns_of_ones_own_come_first(tmp_path: Path) -> None:
    """A file of one's own may hold a family, or everything that is not listed by name, to limits of its own."""
    own = tmp_path / "models.toml"
    own.write_text('[enqueued_tokens]\n"gemini-*" = [7, 8, 9]\n', encoding="utf-8")
    table = load_table(own)
    assert tier_tokens("gemini-9", table) == tier_tokens("gemini-3.7-flash", table) == (7, 8, 9)
    assert tier_tokens("gemini-2.5-pro", table) == PRICES["gemini-2.5-pro"].enqueued_tokens


def test_a_table_of_ones_own_is_laid_over(tmp_path: Path) -> None:
    """A model in one's own file has that price, the others keep theirs; a mistake in it is named."""
    own = tmp_path / "models.toml"
    own.write_text('[models."gemini-9"]\ninput_usd = 3.0\n', encoding="utf-8")
    table = load_table(own)
    assert table.models["gemini-9"].input_usd == 3.0
    assert table.models["gemini-3.5-flash"] == PRICES["gemini-3.5-flash"]
    own.write_text('[models."gemini-9"]\ninput = 3.0\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"models\.toml"):
        load_table(own)
