"""Every line of a result file gets one verdict, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemqueue.language.gemini.rows import Verdict, row_verdict, text_rows
from gemqueue.language.gemini.usage import Spent, Usage, usage_of
from gemqueue.language.lines import decode_line


def candidate(finish: str | None = "STOP", *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    reason = {"finishReason": finish} if finish else {}
    return {"candidates": [{**content, **reason, **more}], "modelVersion": "m"}


def judge(row: dict[str, Any]) -> tuple[str | None, str, int, str]:
    verdict = row_verdict(json.dumps(row).encode() + b"\n")
    return verdict.key, verdict.verdict.value, verdict.code, verdict.message


TEXT = {"text": "yes"}
THOUGHT = {"text": "hm", "thought": True}


RESPONSES: list[tuple[dict[str, Any], str]] = [
    (candidate("STOP", TEXT), "answered"),
    (candidate(None, TEXT), "answered"),
    (candidate("MAX_TOKENS", TEXT), "answered"),
    (candidate("SAFETY", TEXT), "answered"),
    (candidate("STOP", THOUGHT, TEXT), "answered"),
    (candidate("STOP", {"inlineData": {"mimeType": "image/png", "data": "AA=="}}), "answered"),
    (candidate("STOP", {"functionCall": {"name": "f"}}), "answered"),
    (candidate("STOP", {"executableCode": {"code": "1"}}), "answered"),
    ({"candidates": [{"finishReason": "SAFETY"}, candidate("STOP", TEXT)["candidates"][0]]}, "answered"),
    ({"embedding": {"values": [0.1]}, "tokenCount": "1"}, "answered"),
    ({"embedding": {"values": [0.1]}, "usageMetadata": {"promptTokenCount": 81}}, "answered"),
    ({"embedding": {"values": []}}, "empty"),
    ({"embedding": {"values": None}}, "empty"),
    ({"embedding": {}}, "empty"),
    (candidate("STOP"), "empty"),
    (candidate("STOP", {"text": ""}), "empty"),
    (candidate("STOP", {"functionCall": None}), "empty"),
    (candidate("STOP", THOUGHT), "empty"),
    (candidate("MAX_TOKENS"), "empty"),
    (candidate("MAX_TOKENS", THOUGHT), "empty"),
    (candidate("OTHER"), "empty"),
    (candidate("SOMETHING_NEW"), "empty"),
    ({"candidates": [{"content": {}}]}, "empty"),
    ({"candidates": []}, "empty"),
    ({"promptFeedback": {}}, "empty"),
    ({}, "empty"),
    (candidate("MALFORMED_FUNCTION_CALL"), "unusable"),
    (candidate("MALFORMED_RESPONSE"), "unusable"),
    (candidate("MISSING_THOUGHT_SIGNATURE"), "invalid"),
]


@pytest.mark.parametrize(("response", "expected"), RESPONSES)
def test_responses(response: dict[str, Any], expected: str) -> None:
    """A response counts as an answer when any candidate has content that is no thought."""
    assert judge({"response": response, "key": "s.1"})[:3] == ("s.1", expected, 0)


@pytest.mark.parametrize(
    "reason",
    ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE", "IMAGE_SAFETY", "IMAGE_RECITATION"],
)
def test_withheld_answers(reason: str) -> None:
    """A candidate withheld without content is blocked, and the message says why."""
    row = {"key": "s.1", "response": candidate(reason, finishMessage="because")}
    assert judge(row) == ("s.1", "blocked", 0, f"answer withheld: {reason}: because")


def test_blocked_prompts() -> None:
    """Prompt feedback with a reason and no candidates is blocked, with reason and detail."""
    feedback = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "no"}}
    assert judge({"key": "s.1", "response": feedback}) == (
        "s.1",
        "blocked",
        0,
        "prompt blocked: PROHIBITED_CONTENT: no",
    )


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((1, 2, 4, 8, 10, 13, 14, 15, 99, 408, 409, 429, 500, 503, "13", "INTERNAL", "unavailable"), "retryable"),
        ((3, 5, 6, 7, 9, 11, 12, 16, 400, 403, 404, 413, "3", "INVALID_ARGUMENT", "NOT_FOUND"), "invalid"),
        ((None, 0, "", "?", "999999"), "retryable"),
    ],
)
def test_error_codes(codes: tuple[object, ...], expected: str) -> None:
    """The table of section 9.5 decides; HTTP codes, strings and names are read too; what is unknown is retried."""
    for code in codes:
        assert judge({"error": {"code": code, "message": "m"}, "key": "s.1"})[1] == expected, code


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"error": {"code": 3, "message": "bad"}}, ("invalid", 3, "bad")),
        ({"error": {"code": 13}}, ("retryable", 13, "error code 13 without a message")),
        ({"error": {"status": "INVALID_ARGUMENT", "message": "bad"}}, ("invalid", 3, "bad")),
        ({"error": {}}, ("retryable", 0, "error code 0 without a message")),
        ({"error": "it broke"}, ("retryable", 0, "it broke")),
        ({"error": [1]}, ("retryable", 0, "error code 0 without a message")),
        ({"status": {"code": 5, "message": "gone"}}, ("invalid", 5, "gone")),
        ({"status": "Internal"}, ("retryable", 13, "Internal")),
        (
            {"status": 'Bad Request: {"error": {"code": 400}}'},
            ("invalid", 400, 'Bad Request: {"error": {"code": 400}}'),
        ),
        ({"status": "", "error": None}, ("empty", 0, "the row has neither response nor error")),
        ({"error": {"code": 3, "message": "x" * 9000}}, ("invalid", 3, "x" * 500)),
    ],
)
def test_error_shapes(row: dict[str, Any], expected: tuple[str, int, str]) -> None:
    """An error may be a status object, a string under ``error`` or ``status``, or incomplete."""
    assert judge({"key": "s.1", **row})[1:] == expected


def test_a_response_wins_over_an_error_only_if_it_answers() -> None:
    """A paid answer is never thrown away for an error beside it; an empty response gives way to the error."""
    error = {"code": 3, "message": "bad"}
    assert judge({"key": "s.1", "error": error, "response": candidate("STOP", TEXT)})[1] == "answered"
    assert judge({"key": "s.1", "error": error, "response": candidate("STOP")})[1] == "invalid"
    assert judge({"key": "s.1", "status": "", "response": candidate("STOP")})[1] == "empty"


def test_the_answer_is_cut_out_undecoded() -> None:
    """``raw`` is the response exactly as the provider wrote it, or the error for a failure."""
    made = row_verdict(b'{"response": {"candidates" : [{"content":{"parts":[{"text":"\\u00e4"}]}}] } , "key":"s.1"}')
    assert made.raw == b'{"candidates" : [{"content":{"parts":[{"text":"\\u00e4"}]}}] }'
    assert row_verdict(b'{"key":"s.1","error":{"code":13}}').raw == b'{"code":13}'


def test_inline_items_carry_their_key_in_the_metadata() -> None:
    """The key stands at metadata.key in inline results; odd metadata does not cost an answer that has a key."""
    answer = candidate("STOP", TEXT)
    assert judge({"metadata": {"key": "s.1"}, "response": answer})[:2] == ("s.1", "answered")
    assert judge({"metadata": {"key": 5}, "key": "s.2", "response": answer})[:2] == ("s.2", "answered")
    assert judge({"metadata": 5, "response": answer})[:2] == (None, "garbage")


@pytest.mark.parametrize("depth", [900, 5_000, 100_000, 1_000_000])
def test_depth_is_no_obstacle(depth: int) -> None:
    """However deep a line is nested, it is judged and keeps its key. How deep Python reads differs by its version."""
    line = b'{"key":"s.1","x":' + b"[" * depth + b"]" * depth + b"}"
    verdict = row_verdict(line)
    assert (verdict.key, verdict.raw) == ("s.1", b"")
    assert verdict.verdict in {Verdict.GARBAGE, Verdict.EMPTY}


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"", None),
        (b"\n", None),
        (b"nonsense", None),
        (b"[]", None),
        (b"null", None),
        (b'{"response":{}}', None),
        (b'{"key":"","response":{}}', None),
        (b'{"key":5,"response":{}}', None),
        (b'{"key": "s.1", "response": {"candi', "s.1"),
        (b'{"response":{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"key":"s.9"', None),
        (b'{"key":"s.1","response":{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}}', "s.1"),
        (b'{"key":"s.1","note":"\xff","response":{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}}', "s.1"),
        (b'{"key":"s.1","response":{"note":"\xc3(","candidates":[{"content":{"parts":[{"text":"a"}]}}]}}', "s.1"),
        (b'{"key":"s.1"}{"key":"s.2"}', "s.1"),
        (b'{"key":"s.1","x":' + b"[" * 100_000, "s.1"),
        (b'{"key":"s\\ud800","response":{}}', None),
        (b"\xef\xbb\xbf" + b'{"key":"s.1","response":{}}', None),
    ],
)
def test_garbage(line: bytes, key: str | None) -> None:
    """Broken JSON, foreign shapes, missing keys and bytes that are not UTF-8 are garbage; a key only where sure."""
    verdict = row_verdict(line)
    assert (verdict.verdict, verdict.key, verdict.raw) == (Verdict.GARBAGE, key, b"")
    assert verdict.message


FIELDS = ["key", "metadata", "response", "error", "status", "code", "message", "candidates", "content", "parts", "text"]

rows = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "finishReason", "embedding", "values", "promptFeedback"]), inner)
    ),
    max_leaves=15,
)


@given(st.binary() | rows.map(lambda row: json.dumps(row).encode()))
@example(b'{"key":"s.1","error":{"code":1' + b"0" * 5000 + b"}}")
def test_any_bytes_get_a_verdict(line: bytes) -> None:
    """No bytes make it raise; every verdict but garbage has a key, and every answer is JSON."""
    verdict = row_verdict(line)
    assert verdict.key or verdict.verdict is Verdict.GARBAGE
    if verdict.verdict is Verdict.ANSWERED:
        assert isinstance(json.loads(verdict.raw), dict)


@given(st.integers(0, 200), st.sampled_from([b"\xff", b"\n", b"\x00", b'"', b"{", b"}", b"\\", b""]))
def test_a_damaged_row_never_names_another_key(position: int, damage: bytes) -> None:
    """One byte changed or cut anywhere in a row gives its own key, a broken one or none: never its neighbour's."""
    row = json.dumps({"key": "s.1", "response": candidate("STOP", {"functionCall": {"args": {"key": "s.2"}}})}).encode()
    damaged = row[:position] + damage + row[position + 1 :]
    assert row_verdict(damaged).key != "s.2"
    assert row_verdict(row[:position]).key != "s.2"


USAGE = st.none() | rows | st.fixed_dictionaries({"promptTokenCount": st.integers(0, 9) | st.text(max_size=2)})
PARTS = st.lists(st.sampled_from([TEXT, THOUGHT, {"text": ""}, {"inlineData": {"data": "AA=="}}]), max_size=3)


@st.composite
def responses(draw: st.DrawFn) -> dict[str, Any]:
    """Responses that nearly all have a candidate with parts."""
    more = draw(st.dictionaries(st.sampled_from([*FIELDS, "promptFeedback", "embedding"]), rows, max_size=2))
    return {"candidates": [{"content": {"parts": draw(PARTS)}}], "usageMetadata": draw(USAGE)} | more


@given(
    st.sampled_from(["s.1", "s.\u00e4", 's"1', ""]),
    responses() | rows,
    st.dictionaries(st.sampled_from(FIELDS), rows, max_size=1),
)
def test_the_short_look_says_what_the_long_one_says(key: str, response: Any, more: dict[str, Any]) -> None:
    """What the short look takes for an answer is one to the long look too, and its line an outcome line of it."""
    line = json.dumps({"key": key, "response": response} | more, ensure_ascii=False).encode()
    (row,) = text_rows([line])
    if row is None:
        return
    verdict, outcome = row_verdict(line), decode_line(line)
    assert (verdict.verdict, verdict.key) == (Verdict.ANSWERED, row.key)
    assert (outcome.key, bytes(outcome.response)) == (verdict.key, verdict.raw)
    assert bytes(outcome.failure) == bytes(outcome.row) == b""
    long_look, short_look = Spent(), Spent()
    long_look.count(usage_of(verdict.usage))
    short_look.count(row.response.usage_metadata)
    assert long_look == short_look


def test_a_count_may_be_written_as_text() -> None:
    """Tokens count as a number or as its digits; what is odd says nothing."""
    assert usage_of(b'{"promptTokenCount":12}') == usage_of(b'{"promptTokenCount":"12"}') == Usage(12)
    assert [usage_of(raw) for raw in (b"", b"[1]", b"null", b"\xff", b'{"promptTokenCount":[]}')] == [None] * 5


TEXT_RESPONSE = b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}'


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"s.1","response":%b}',
        b'{"response": %b , "key" : "s.1"}',
        b'{"key":"s.2","response":{},"key":"s.1","response":%b}',
    ],
)
def test_the_order_of_a_row_does_not_matter(line: bytes) -> None:
    """Either order is an answer to the short look; of what is there twice the last counts, as in the long one."""
    (row,), verdict = text_rows([line % TEXT_RESPONSE]), row_verdict(line % TEXT_RESPONSE)
    assert row is not None
    assert (row.key, bytes(decode_line(line % TEXT_RESPONSE).response)) == (verdict.key, verdict.raw)
    assert (verdict.key, verdict.raw) == ("s.1", TEXT_RESPONSE)


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"s.1","response":%b,"error":{"code":3}}' % TEXT_RESPONSE,
        b'{"key":"s.1","response":%b,"metadata":{"key":"s.2"}}' % TEXT_RESPONSE,
        b'{"key":"s.1","response":%b}' % TEXT_RESPONSE.replace(b'"a"', b'"\xff"'),
        b'{"key":"s.1","response":{"note":"\xff",%b}' % TEXT_RESPONSE[1:],
        b'{"response":%b}' % TEXT_RESPONSE,
        b'{"key":"s.1","response":%b' % TEXT_RESPONSE,
    ],
)
def test_what_is_not_plain_takes_the_long_look(line: bytes) -> None:
    """More fields, no key, broken JSON, bytes that are not UTF-8: and the rows beside it are none the worse for it."""
    plain = b'{"key":"s.1","response":%b}' % TEXT_RESPONSE
    assert [row and row.key for row in text_rows([plain, line, plain])] == ["s.1", None, "s.1"]
    assert text_rows([line]) == [None]
    assert text_rows([]) == []
