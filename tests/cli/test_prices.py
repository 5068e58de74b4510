"""What answers cost is arithmetic over a dated table: by model, day, service class and cached tokens."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.errors import ConfigError
from gemqueue.language.answers import Answer
from gemqueue.language.gemini.usage import Charge, Spent
from gemqueue_workers.model_table import TABLE, load_table, tier_tokens
from gemqueue_workers.prices import (
    DATED,
    Usage,
    batch_usd,
    charge,
    cost_of,
    interactive_usd,
    service_usd,
    usage_of,
    usd_of,
)

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3.8-flash"
BEFORE, AFTER = dt.date(2026, 12, 31), dt.date(2027, 1, 1)
MILLION = Usage(1_000_000, 1_000_000)


def test_a_million_tokens_cost_their_price() -> None:
    """A million tokens in and a million out cost exactly what the table says of the day, and half of it as a batch."""
    for model, known in TABLE.models.items():
        for day in (BEFORE, AFTER):
            price = known.price(day)
            assert price is not None
            listed_usd = float(price.input_usd + price.output_usd)
            assert service_usd(model, MILLION, "standard", day) == pytest.approx(listed_usd)
            assert service_usd(model, MILLION, "batch", day) == pytest.approx(listed_usd / 2)


def test_input_and_output_have_prices_of_their_own() -> None:
    """Tokens that went in are not charged as tokens that came out."""
    assert interactive_usd(MODEL, Usage(2_000, 100), BEFORE) == pytest.approx(2_000 * 0.75e-6 + 100 * 3.75e-6)
    assert interactive_usd("models/gemini-embedding-2", Usage(5_000_000)) == pytest.approx(1.0)


def test_a_price_holds_from_its_day_on() -> None:
    """3.8 Flash costs twice as much for what is asked for from New Year on, and not a day earlier."""
    assert interactive_usd(MODEL, MILLION, BEFORE) == pytest.approx(4.5)
    assert interactive_usd(MODEL, MILLION, AFTER) == pytest.approx(9.0)
    assert (charge(MODEL, "", BEFORE), charge(MODEL, "", AFTER)) == (Charge(), Charge("", "2027-01-01"))
    spent = {Charge(): Spent(1, 1_000_000, 0), Charge("", "2027-01-01"): Spent(1, 1_000_000, 0)}
    assert usd_of(MODEL, spent, "standard") == pytest.approx(0.75 + 1.5)


def test_a_model_that_has_ended_costs_what_the_one_in_its_place_does() -> None:
    """An estimate for 2.5 Flash is at the price of 3.5 Flash-Lite from the day on from which that one answers."""
    last, first = dt.date(2026, 11, 30), dt.date(2026, 12, 1)
    assert interactive_usd("gemini-2.5-pro", MILLION, last) == pytest.approx(11.25)
    assert interactive_usd("gemini-2.5-pro", MILLION, first) == interactive_usd(MODEL, MILLION, first)
    assert batch_usd("gemini-3.7-flash", MILLION, AFTER) == pytest.approx(4.5)


def test_answers_are_billed_at_the_price_of_the_model_that_gave_them() -> None:
    """Each answer of one lane costs what its own model does; one that names none, or a version, what was asked."""
    spent = {
        Charge("emulator/gemini-3.6-flash"): Spent(1, 1_000_000, 0),
        Charge("gemini-3.8-flash-001"): Spent(1, 1_000_000, 0),
        Charge(): Spent(1, 1_000_000, 0),
    }
    assert usd_of(MODEL, spent, "batch") == pytest.approx((1.50 + 0.75 + 0.75) / 2)
    assert cost_of(MODEL, spent, "batch").answers == 3


def test_cached_tokens_cost_a_tenth_and_a_batch_takes_no_more_off_than_is_certain() -> None:
    """Cached tokens are a tenth of the input price, in a batch and in Flex as well, for want of certainty."""
    usage = Usage(1_000_000, 0, 800_000)
    whole, cached = 200_000 * 0.75e-6, 800_000 * 0.075e-6
    assert service_usd(MODEL, usage, "standard", BEFORE) == pytest.approx(whole + cached)
    for service in ("batch", "flex"):
        assert service_usd(MODEL, usage, service, BEFORE) == pytest.approx(whole / 2 + cached)
    assert service_usd(MODEL, Usage(10, 0, 99), "standard", BEFORE) == pytest.approx(10 * 0.075e-6)


def test_an_unknown_model_has_no_price() -> None:
    """A model that is not in the table costs None, not nothing, and so does a lane that it answered in."""
    assert interactive_usd("gemini-9", Usage(1, 1)) is None
    assert batch_usd("gemini-9", Usage(1, 1)) is None
    assert usd_of("gemini-9", {}, "batch") is None
    assert cost_of("gemini-9", {Charge("gemini-9"): Spent(2, 3, 4)}, "batch").usd is None


def test_usage_is_what_the_answers_report() -> None:
    """Prompt tokens go in, candidates and thoughts come out; counts that are missing or odd are nothing."""
    answers = [
        Answer("a.0", b'{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":5,"thoughtsTokenCount":2}}'),
        Answer("a.1", b'{"usageMetadata":{"promptTokenCount":3,"cachedContentTokenCount":2}}'),
        Answer("a.2", b'{"usageMetadata":{"candidatesTokenCount":"x"}}'),
        Answer("a.3", b"{}"),
    ]
    assert usage_of(answers) == Usage(10, 7, 2)
    assert (usage_of(answers) + Usage(1, 1)).tokens == 19


def test_the_table_says_of_when_it_is() -> None:
    """The prices carry a date that people can check."""
    assert dt.date.fromisoformat(DATED) <= dt.datetime.now(tz=dt.UTC).date()


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
    assert tier_tokens("gemini-9", table) == tier_tokens("gemini-3.9-flash", table) == (7, 8, 9)
    assert tier_tokens("gemini-2.5-pro", table) == TABLE.models["gemini-2.5-pro"].enqueued_tokens


def test_a_table_of_ones_own_is_laid_over(tmp_path: Path) -> None:
    """A model in one's own file has that price and keeps what the file does not say; the others stay as they are."""
    own = tmp_path / "models.toml"
    own.write_text(
        'dated = "2026-10-07"\nbatch_share = 0.5\n'
        '[models."gemini-9"]\ninput_usd = 3.0\n[models."gemini-3.7-flash"]\ninput_usd = 1\noutput_usd = 2.5\n',
        encoding="utf-8",
    )
    table = load_table(own)  # as 0.2.0 had it: numbers, one price a model
    assert service_usd("gemini-9", MILLION, "standard", BEFORE, table) == pytest.approx(3.0)
    assert service_usd("gemini-3.7-flash", MILLION, "batch", AFTER, table) == pytest.approx(1.75)
    assert table.models["gemini-3.7-flash"].routed_to == MODEL
    assert table.models[MODEL] == TABLE.models[MODEL]


@pytest.mark.parametrize(
    "text",
    [
        '[models."gemini-9"]\ninput = 3.0\n',
        '[models."gemini-9"]\nprices = [{input_usd = "cheap"}]\n',
        '[models."gemini-9"]\nprices = [{from = "soon", input_usd = "1"}]\n',
        '[models]\n"gemini-9" = 3\n',
        'models = "none"\n',
        "[models",
    ],
)
def test_a_mistake_in_a_table_of_ones_own_is_named(tmp_path: Path, text: str) -> None:
    """Whatever is wrong in it, the error names the file."""
    own = tmp_path / "models.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"models\.toml"):
        load_table(own)


def test_a_later_price_in_a_file_of_ones_own(tmp_path: Path) -> None:
    """The days of prices need not stand in order, and before the first one that one holds."""
    own = tmp_path / "models.toml"
    rows = ", ".join(f'{{from = {day}, input_usd = "{usd}"}}' for day, usd in (("2027-03-01", 3), ("2027-02-01", 2)))
    own.write_text(f'[models."gemini-9"]\nprices = [{rows}]\n', encoding="utf-8")
    found = [load_table(own).models["gemini-9"].price(dt.date(2027, month, 1)) for month in (1, 2, 3)]
    assert [msgspec.to_builtins(price)["input_usd"] for price in found] == ["2", "2", "3"]
