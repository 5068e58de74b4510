"""Rows are counted right whatever a result file holds, and the report says nothing that names an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemqueue_workers.prove.reading import Reader
from gemqueue_workers.prove.report import publishable
from gemqueue_workers.prove.trials import Trial, key_of, number_of

if TYPE_CHECKING:
    from gemqueue_workers.prove.state import Tally

MODEL = "gemini-3.5-flash-lite"
ROWS = 8


def line(index: int, key: str = "", of: int | None = None) -> bytes:
    """The answer to a row, or under its key to another one."""
    text = f"Sure: {number_of(index if of is None else of)}."
    response = {
        "candidates": [{"content": {"parts": [{"text": text}]}}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        "modelVersion": MODEL,
    }
    return msgspec.json.encode({"key": key or key_of("rows", index), "response": response})


def tally(lines: list[bytes]) -> Tally:
    """What these lines come to."""
    reader = Reader(Trial(slot="rows", rows=ROWS), MODEL)
    reader.take(lines)
    return reader.end()


@given(st.lists(st.integers(0, ROWS - 1), max_size=3 * ROWS))
def test_each_row_is_counted_once(indexes: list[int]) -> None:
    """Of any rows in any order: how many came, came again, are missing, and stand elsewhere than in the input."""
    found = tally([line(index) for index in indexes])
    first = list(dict.fromkeys(indexes))
    assert (found.answered, found.own, found.swapped) == (len(first), len(first), 0)
    assert (found.doubled, found.missing) == (len(indexes) - len(first), ROWS - len(first))
    assert found.misplaced == sum(index != place for place, index in enumerate(first))
    assert found.input_tokens == 10 * len(indexes)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_what_is_no_row_is_foreign(lines: list[bytes]) -> None:
    """No bytes whatever raise; they count as foreign, unless they are a row after all."""
    found = tally([*lines, line(0)])
    assert (found.answered, found.missing) == (1, ROWS - 1)
    assert found.foreign == len(lines)


def test_a_response_that_cannot_be_read_is_a_failed_row() -> None:
    """A response of broken JSON or UTF-8 under a right key counts as failed, and hides no other."""
    broken = [b'{"key":"rows.%d","response":%s}' % (index, raw) for index, raw in enumerate([b'{"a":"\xff"}', b"7"])]
    found = tally([*broken, line(2)])
    assert (found.failed, found.answered, found.foreign, found.missing) == (2, 1, 0, ROWS - 3)


def test_another_rows_answer_is_seen() -> None:
    """An answer that holds another row's number is swapped; one that holds none is neither."""
    found = tally([line(0, of=1), line(1, of=0), line(2, of=ROWS + 5), line(3)])
    assert (found.own, found.swapped, found.answered) == (1, 2, 4)


def test_the_shape_of_a_schema() -> None:
    """Right are exactly the fields that were asked for, each of its type."""
    reader = Reader(Trial(slot="schema", rows=5, schema="responseSchema"), MODEL)
    right = {"river": "Nile", "length_km": 6650, "cities": ["Cairo", "Khartoum"]}
    texts = [right, [right], {**right, "length_km": "long"}, {**right, "more": 1}, {**right, "cities": [1]}]
    for index, value in enumerate(texts):
        part = {"text": msgspec.json.encode(value).decode()}
        response = {"candidates": [{"content": {"parts": [part]}}]}
        reader.take([msgspec.json.encode({"key": key_of("schema", index), "response": response})])
    assert (reader.end().fit, reader.end().misfit) == (1, 4)


def test_nothing_that_names_an_account() -> None:
    """Names of projects, jobs, files and people, addresses, tokens and keys are not in what is published."""
    secrets = [
        "projects/my-shop-1234",
        "Project 123456789012",
        "project number=998877665544",
        "batches/4m855v7q30kc7gtzcigdg9m72o87s08w33vp",
        "files/frh6ua11nk3o",
        "someone@example.com",
        "https://console.example.com/x?project=1",
        "gemqueue-prove-270b4a50-rows-1ce7bf2e",
        "AIzaSyA1b2C3d4E5f6G7h8I9j0",
        "Consumer 'api_key:AIzaSyA-1b_c-D3efGhIjK-Lm'",
        "Consumer 'project:acmeshop'",
        "the resource project our-shop-prod",
        "project 'thirdshop'",
        "the File frh6ua11nk3o or it may not exist",
        "the originating IP address of the call (203.0.113.57)",
        "2001:db8::42",
    ]
    each = [publishable(f"create: HTTP 403 PERMISSION_DENIED: {secret} is not allowed") for secret in secrets]
    assert all("HTTP 403 PERMISSION_DENIED" in text for text in each)
    said = "\n".join(each)
    words = ["my-shop", "123456789012", "998877", "4m855", "frh6u", "someone", "example", "270b4a50", "AIza", "Lm"]
    words += ["acmeshop", "our-shop", "thirdshop", "203.0", "2001:db8"]
    assert [word for word in words if word in said] == []
