"""What is known of models, and when an answer surely came from another one than was asked."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue_workers.model_notes import of_answers, of_later_prices, of_model, rerouted_of
from gemqueue_workers.model_table import TABLE, Model, billed_as, ignored, is_rerouted, known_as, routed

MODEL = "gemini-3.8-flash"
TODAY, LATER = dt.date(2026, 11, 29), dt.date(2026, 12, 1)
ALIASED = msgspec.structs.replace(
    TABLE,
    models=TABLE.models | {"gemini-3.6-flash": Model(aliases=("gemini-flash-latest",), routed_to="gemini-3.8-flash")},
)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gemini-3.5-flash", "gemini-3.5-flash"),
        ("gemini-3.5-flash-001", "gemini-3.5-flash"),
        ("gemini-3.5-flash-preview-09-2025", "gemini-3.5-flash"),
        ("gemini-3.5-flash-exp", "gemini-3.5-flash"),
        ("gemini-3.5-flash-lite", "gemini-3.5-flash-lite"),
        ("gemini-3.5-flash-lite-001", "gemini-3.5-flash-lite"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("emulator/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini-3.5-flash-image", ""),
        ("gemini-3.5-flashy", ""),
        ("gemini-9", ""),
        ("", ""),
    ],
)
def test_a_version_belongs_to_the_longest_name(name: str, model: str) -> None:
    """A version is of the longest model whose name it begins with, if it goes on as versions do; others are unknown."""
    assert known_as(name) == model


@pytest.mark.parametrize(
    ("asked", "version", "rerouted"),
    [
        (MODEL, MODEL, False),
        (MODEL, "gemini-3.8-flash-002", False),
        (MODEL, "", False),
        (MODEL, "gemini-9", False),
        ("gemini-9", MODEL, False),
        ("gemini-3.5-flash", "gemini-3.5-flash-lite", True),
        ("gemini-3.5-flash", "emulator/gemini-3.6-flash-001", True),
        ("gemini-2.5-flash", "gemini-3.5-flash-lite-preview-06-17", True),
    ],
)
def test_only_what_is_surely_another_model_is_called_rerouted(asked: str, version: str, rerouted: bool) -> None:
    """Versions, what is absent and what is unknown are no reroute; another known model is one."""
    assert is_rerouted(asked, version) is rerouted
    assert rerouted_of(asked, {version: 3}) == 3 * rerouted


@given(st.text(), st.sampled_from([*TABLE.models, "gemini-9"]))
def test_whatever_an_answer_calls_itself(version: str, asked: str) -> None:
    """Any text can be held against any model, and what is called rerouted is billed as another model of the table."""
    if is_rerouted(asked, version):
        assert asked != billed_as(asked, version) in TABLE.models
    else:
        assert billed_as(asked, version) == asked


def test_an_alias_is_its_model() -> None:
    """An answer by the model that an alias stands for is no reroute, and is billed as that model."""
    assert not is_rerouted("gemini-flash-latest", "gemini-3.6-flash-001", ALIASED)
    assert is_rerouted("gemini-flash-latest", MODEL, ALIASED)
    assert billed_as("gemini-flash-latest", "", ALIASED) == "gemini-3.6-flash"


def test_who_answers_on_which_day() -> None:
    """A model is routed from its day on, and a name that leads in a circle leads somewhere all the same."""
    assert (routed("gemini-2.5-pro", TODAY), routed("gemini-2.5-pro", LATER)) == ("gemini-2.5-pro", MODEL)
    assert routed("models/gemini-3.5-flash", TODAY) == "gemini-3.6-flash"
    circle = {"a": Model(ends=TODAY, routed_to="b"), "b": Model(ends=TODAY, routed_to="a")}
    assert routed("a", TODAY, msgspec.structs.replace(TABLE, models=circle)) == "a"


def test_what_is_said_of_models_that_end_or_have_ended() -> None:
    """Each has its day and the model in its place, before and after; a model that goes on is not mentioned."""
    place = "answers in its place, at its own price"
    assert of_model("gemini-2.5-pro", TODAY) == [f"gemini-2.5-pro ends on 2026-12-01: from then on {MODEL} {place}"]
    assert of_model("gemini-2.5-pro", LATER) == [f"gemini-2.5-pro ended on 2026-12-01: since then {MODEL} {place}"]
    assert of_model("gemini-3.5-flash", TODAY) == [
        f"gemini-3.5-flash ended on 2026-10-08: since then gemini-3.6-flash {place}"
    ]
    assert of_model(MODEL, TODAY) == of_model("gemini-2.5-flash-lite", LATER) == []


def test_what_is_said_of_prices() -> None:
    """A model without a price says so, and a price that is to change says what it will be, until it has changed."""
    (said,) = of_model("gemini-9", TODAY)
    assert said.startswith("gemini-9 has no price in the model table of ")
    assert of_later_prices(MODEL, TODAY) == [
        f"{MODEL} costs $1.50 in and $7.50 out, a million tokens, from 2027-01-01 on"
    ]
    assert of_later_prices(MODEL, dt.date(2027, 1, 1)) == of_later_prices("gemini-9", TODAY) == []


def test_what_is_said_of_answers() -> None:
    """Answers by another model, and by one that the table does not know, are told apart; one's own is not mentioned."""
    versions = {MODEL: 5, "gemini-3.6-flash": 1_200, "gemini-9": 1}
    other, unknown = of_answers(MODEL, versions)
    assert other == (
        f"1,200 answers came from gemini-3.6-flash, and {MODEL} was asked: billed at the price of gemini-3.6-flash"
    )
    assert unknown.startswith(f"1 answer to {MODEL} came from gemini-9, which the model table of ")
    assert of_answers("gemini-9", {"gemini-9": 1}) == []


def test_parameters_that_a_model_ignores() -> None:
    """They are named in either spelling and wherever they stand; a model that heeds them has none."""
    config = {"top_p": 0.5, "generationConfig": {"temperature": 0}, "max_output_tokens": 9}
    assert ignored(MODEL, config) == ["temperature", "topP"]
    assert ignored("gemini-2.5-pro", config) == ignored(MODEL, None) == ignored("gemini-9", config) == []
    (said,) = of_model(MODEL, TODAY, config)
    assert said == f"{MODEL} ignores temperature, topP: leave it out, for later models refuse it"
