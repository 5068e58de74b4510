"""Answers of any shape and any bytes: what was billed is an answer, or a failure that carries the response."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.language.answers import Answer
from gemqueue.language.gemini.repairs import repaired
from gemqueue.language.gemini.rows import Verdict, row_verdict
from gemqueue.language.lines import answer_line, decode_line, failure_line, read_lines, repaired_end
from gemqueue.language.outcomes import Failed, outcome_of
from gemqueue.records import Failure
from gemqueue.states import FailureKind

KEY = "00" + "a" * 20 + ".0"
PICTURE = "iVBORw0KGgo="
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud83d half"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["candidates", "content", "parts", "text", "thought", "inlineData", "finishReason", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def row(response: object) -> bytes:
    return json.dumps({"key": KEY, "response": response}).encode("utf-8", "surrogatepass")


def said(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP"}], **more}


def outcome(line: bytes) -> Answer | Failed:
    """What a producer reads of what a resolver writes for this row, among others."""
    found, end = row_verdict(line), b"}"
    if found.verdict is Verdict.GARBAGE and (readable := repaired(line)) is not None:
        found, end = row_verdict(readable), repaired_end(line)
    assert found.key == KEY
    if found.verdict is Verdict.ANSWERED:
        written = answer_line(KEY, found.raw, end)
    else:
        written = failure_line(KEY, FailureKind.EMPTY, found.message, found.code, 1, row=found.raw)
    good = answer_line(KEY.replace(".0", ".1"), b'{"candidates":[]}')
    ((index, read), _), bad = read_lines(b"\n".join([written, good]), KEY[:-1], 2)
    assert (index, bad) == (0, 0)
    return outcome_of(read, None, None, emulated=False)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (row(said({"text": "x"})).replace(b'"x"', b'"half \\ud83d of it"'), "half \ufffd of it"),
        (row(said({"text": "x"})).replace(b'"x"', b'"\\udc00 first"'), "\ufffd first"),
        (row(said({"text": "a"}, avg=1)).replace(b'"avg": 1', b'"avg": NaN'), "a"),
        (row(said({"text": "a"}, avg=1)).replace(b'"avg": 1', b'"avg": -Infinity'), "a"),
        (row(said({"text": "x"})).replace(b'"x"', b'"caf\xe9"'), "caf\ufffd"),
        (row(said({"text": "x"})).replace(b'"x"', b'"tab\there"'), "tab\there"),
    ],
)
def test_an_answer_that_is_no_strict_json_is_delivered(line: bytes, text: str) -> None:
    """With what can be read of it, always JSON, and with the row's own bytes; the line before and behind it stay."""
    found = outcome(line)
    assert isinstance(found, Answer)
    assert (found.text, found.original) == (text, line)
    assert msgspec.json.decode(found.raw)


def test_an_answer_that_is_strict_json_stays_as_it_came() -> None:
    """Escapes, spaces and unknown fields, too; nothing is kept beside it."""
    line = row(said({"text": "\U0001f600 \u2028"}, unknown={"a": [1]}))
    found = outcome(line)
    assert isinstance(found, Answer)
    assert (found.raw, found.original) == (line.partition(b'"response": ')[2][:-1], b"")


@pytest.mark.parametrize(
    "response",
    [
        said({"text": 5}),
        said({"text": "a"}, usageMetadata="none"),
        {"candidates": [{"content": "text"}]},
        {"candidates": {"content": {}}},
        {"candidates": [{"content": {"parts": {"text": "a"}}}]},
        {"embedding": [0.1]},
    ],
)
def test_a_response_of_another_shape_is_an_answer(response: object) -> None:
    """It was billed; its views say what they can, and ``raw`` is the response."""
    found = outcome(row(response))
    assert isinstance(found, Answer)
    assert (found.decoded, isinstance(found.text, str), found.images) == (response, True, [])


@pytest.mark.parametrize("response", [[], "text", 5, {"candidates": []}, {"x": 1}, {"promptFeedback": 1}])
def test_a_response_without_an_answer_is_a_failure_that_carries_it(response: object) -> None:
    """Nothing was answered, and what there is reaches its owner."""
    found = outcome(row(response))
    assert isinstance(found, Failed)
    assert msgspec.json.decode(found.failure.raw) == response


def test_a_picture_only_in_a_thought_is_an_answer() -> None:
    """Some image models put their only picture there; beside others it stays a thought."""
    thought = {"thought": True, "inlineData": {"mimeType": "image/png", "data": PICTURE}}
    alone = outcome(row(said(thought)))
    assert isinstance(alone, Answer)
    assert [mime for mime, _ in alone.images] == ["image/png"]
    beside = outcome(row(said(thought, {"inlineData": {"mimeType": "image/webp", "data": PICTURE}})))
    assert isinstance(beside, Answer)
    assert [mime for mime, _ in beside.images] == ["image/webp"]


def test_the_text_is_that_of_the_first_candidate_that_has_any() -> None:
    """The first may be blocked, or think only; all of them are there."""
    candidates = [
        {"finishReason": "SAFETY"},
        {"content": {"parts": [{"text": "hm", "thought": True}]}},
        {"content": {"parts": [{"text": "good"}]}, "finishReason": "STOP"},
    ]
    found = outcome(row({"candidates": candidates}))
    assert isinstance(found, Answer)
    assert (found.text, found.finish_reason, len(found.candidates)) == ("good", "STOP", 3)


def test_a_blocked_prompt_says_why_and_what_it_cost() -> None:
    """Its response is there, as a dict, with the tokens that were counted; an error has none."""
    response = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    blocked = Failure(key=KEY, kind=FailureKind.BLOCKED, raw=json.dumps(response).encode())
    assert (blocked.response, blocked.usage) == (response, {"promptTokenCount": 7})
    assert Failure(key=KEY, kind=FailureKind.INVALID, raw=b'{"code":3}').response == {}


def test_a_failure_is_never_taken_for_an_answer_by_readers_of_0_2_0() -> None:
    """They know an answer by ``response``; the response of a failure stands under ``row``."""
    line = decode_line(failure_line(KEY, FailureKind.BLOCKED, "no", row=b'{"promptFeedback":{}}'))
    assert (bytes(line.response), bytes(line.row)) == (b"", b'{"promptFeedback":{}}')


@given(response=anything)
def test_any_response_ends_in_one_outcome(response: object) -> None:
    """Of any shape: an answer or a failure that carries it, and every view of it says something or nothing."""
    found = outcome(row(response))
    if isinstance(found, Answer):
        assert isinstance(found.decoded, dict)
        for view in ("text", "thoughts", "parts", "candidates", "function_calls", "finish_reason", "values"):
            getattr(found, view)
    elif found.failure.raw:
        msgspec.json.decode(found.failure.raw)


@given(junk=st.binary(max_size=200))
def test_any_bytes_are_repaired_into_json_or_left_alone(junk: bytes) -> None:
    """Nothing is raised, and what is made of them is strict JSON."""
    made = repaired(junk)
    assert made is None or isinstance(msgspec.json.decode(made), dict)
