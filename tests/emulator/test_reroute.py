"""Another model answers than was asked: the switch, the fault of one row, and what each costs on which day."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue_adapters.emulator import Options
from gemqueue_adapters.emulator.service.models import HALF, usd
from tests.emulator.plain import MODEL, Plain, by_key, text_request, texts
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "gemini-3.6-flash"
NEW_YEAR_MS = int(dt.datetime(2027, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)


@pytest.mark.parametrize("answers", ["full", "echo"])
def test_a_rerouted_model_answers_everywhere(tmp_path: Path, answers: str) -> None:
    """Jobs, calls and `expect` get the other model's answers, which say so and are billed at its price."""
    with EmulatorProcess(tmp_path / "data", job_s=0, answers=answers, reroute=f"{MODEL}={OTHER}") as emulator:
        plain = Plain(emulator.url)
        with plain.http:
            row = plain.results(plain.create(texts("why")))[0]["response"]
            path = f"/v1beta/models/{MODEL}:generateContent"
            call: dict[str, Any] = plain.http.post(path, json=text_request("why")).raise_for_status().json()
        assert row["modelVersion"] == call["modelVersion"] == f"emulator/{OTHER}"
        if answers == "full":
            assert row == emulator.expect(MODEL, text_request("why"))
        (job,) = emulator.ledger()["jobs"]
    assert (job["model"], job["answered_by"]) == (MODEL, OTHER)
    assert job["usd"] == usd(OTHER, job["prompt_tokens"], job["answer_tokens"], 0, HALF)


def test_one_row_comes_from_another_model(plain: Plain, emulator: EmulatorProcess) -> None:
    """The fault of a row changes who that one answer says that it is by, and nothing else; it counts as bought."""
    emulator.faults([{"on": "row", "do": "rerouted", "model": OTHER, "match": {"key": "k1"}}])
    rows = by_key(plain.results(plain.create(texts("a", "b", "c [[fault:rerouted]]"))))
    said = {key: row["response"]["modelVersion"] for key, row in rows.items()}
    assert said == {"k0": f"emulator/{MODEL}", "k1": f"emulator/{OTHER}", "k2": f"emulator/{OTHER}"}
    assert rows["k1"]["response"] | {"modelVersion": ""} == emulator.expect(MODEL, text_request("b")) | {
        "modelVersion": ""
    }
    assert emulator.ledger()["rows_bought"] == 3


def test_the_price_of_introduction_ends() -> None:
    """3.8 Flash costs twice as much for what is asked for from 2027 on; other models cost what they did."""
    before, after = (usd(MODEL, 1_000_000, 1_000_000, NEW_YEAR_MS - 1 + late) for late in (0, 1))
    assert (before, after) == (4.5, 9.0)
    assert usd("gemini-2.5-pro", 1_000_000, 0, NEW_YEAR_MS) == usd("gemini-2.5-pro", 1_000_000, 0, 0) == 1.25


@pytest.mark.parametrize("pair", ["", "gemini-3.8-flash", "=gemini-3.8-flash", "gemini-3.8-flash="])
def test_a_reroute_that_names_no_two_models_is_refused(pair: str) -> None:
    """What is no pair of models is refused, with how to write one."""
    with pytest.raises(ValueError, match="ASKED=ANSWERING"):
        Options(reroute=(pair,))
