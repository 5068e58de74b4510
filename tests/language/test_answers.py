"""An answer is light, decoded when looked at, and says what the response says."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.language.answers import Answer

PNG = b"\x89PNG\xfb\xff"


def response(*parts: dict[str, Any], **more: Any) -> bytes:
    body = {
        "candidates": [{"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 9},
        "modelVersion": "gemini-2.5-flash",
        **more,
    }
    return json.dumps(body).encode()


def test_text_and_thoughts_are_apart() -> None:
    """Text joins the parts that are no thoughts; thoughts join the others; all parts stay readable."""
    answer = Answer("s.1", response({"text": "hm", "thought": True}, {"text": "a"}, {"text": "b"}), "doc", 7)
    assert (answer.text, answer.thoughts, len(answer.parts)) == ("ab", "hm", 3)
    assert (answer.ok, answer.failure, answer.key, answer.name, answer.tag) == (True, None, "s.1", "doc", 7)
    assert (answer.finish_reason, answer.truncated, answer.model_version) == ("STOP", False, "gemini-2.5-flash")
    assert answer.usage_metadata == {"promptTokenCount": 9}
    assert answer.json() is answer.decoded
    assert answer.values == []


def test_images_and_function_calls() -> None:
    """Images come as bytes from either base64 alphabet; other media and thoughts' images do not count."""
    standard, urlsafe = base64.b64encode(PNG).decode(), base64.urlsafe_b64encode(PNG).decode().rstrip("=")
    answer = Answer(
        "s.1",
        response(
            {"inlineData": {"mimeType": "image/png", "data": standard}},
            {"inlineData": {"mimeType": "image/png", "data": urlsafe}},
            {"inlineData": {"mimeType": "image/png", "data": standard}, "thought": True},
            {"inlineData": {"mimeType": "audio/wav", "data": standard}},
            {"functionCall": {"name": "f", "args": {"a_b": 1}}},
        ),
    )
    assert answer.images == [("image/png", PNG), ("image/png", PNG)]
    assert answer.function_calls == [{"name": "f", "args": {"a_b": 1}}]
    assert answer.text == ""


def test_embeddings() -> None:
    """Both generations of the embedding's shape give the vector."""
    old = Answer("s.1", b'{"tokenCount": "1", "embedding": {"values": [0.5, -1]}}')
    new = Answer("s.2", b'{"embedding": {"values": [0.5, -1]}, "usageMetadata": {"promptTokenCount": 81}}')
    assert old.values == new.values == [0.5, -1]
    assert new.usage_metadata == {"promptTokenCount": 81}
    assert (old.text, old.parts, old.finish_reason, old.model_version) == ("", [], "", "")


def test_parsed() -> None:
    """JSON text is decoded; anything else is a ValueError that says so and whether it was cut off."""
    assert Answer("s.1", response({"text": '{"a": [1]}'})).parsed == {"a": [1]}
    with pytest.raises(ValueError, match=r"the text of s\.1 is not JSON$"):
        _ = Answer("s.1", response({"text": "no"})).parsed
    cut = json.dumps({"candidates": [{"content": {"parts": [{"text": '{"a"'}]}, "finishReason": "MAX_TOKENS"}]})
    assert Answer("s.1", cut.encode()).truncated
    with pytest.raises(ValueError, match="cut off at maxOutputTokens"):
        _ = Answer("s.1", cut.encode()).parsed


def test_emulated() -> None:
    """An emulator's answers are known by their mark, real ones that quote it are not, and the queue's word counts."""
    assert Answer("s.1", response({"text": "x"}, modelVersion="emulator/1")).emulated
    assert Answer("s.1", b'{"embedding":{"values":[1]},"mark":"emulator/1"}').emulated
    assert not Answer("s.1", response({"text": 'say "emulator/1"'})).emulated
    assert not Answer("s.1", response({"text": "x"})).emulated
    assert Answer("s.1", response({"text": "x"}), emulated=True).emulated
    assert not Answer("s.1", response({"text": "x"}, modelVersion="emulator/1"), emulated=False).emulated


def test_equality_and_pickle() -> None:
    """Answers are equal by key and bytes, and survive a pickle with everything the caller hung on them."""
    answer = Answer("s.1", response({"text": "x"}), "doc", {"t": 1}, emulated=True)
    assert answer == Answer("s.1", answer.raw)
    assert answer != Answer("s.2", answer.raw)
    assert answer != Answer("s.1", b"{}")
    assert answer != "s.1"
    assert len({answer, Answer("s.1", answer.raw)}) == 1
    assert answer.text == "x"
    copied = pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own bytes
    assert (copied, copied.name, copied.tag, copied.emulated) == (answer, "doc", {"t": 1}, True)


def test_repr_is_short_and_harmless() -> None:
    """At most 60 characters of text, control characters escaped, and no error for bytes that are not JSON."""
    assert repr(Answer("s.1", response({"text": "hi"}), "doc")) == "Answer('s.1', name='doc', 'hi')"
    shown = repr(Answer("s.1", response({"text": "\x1b[31m\u202e" + "y" * 500})))
    assert shown.isprintable()
    assert len(shown) < 100
    assert repr(Answer("s.1", b'{"embedding":{"values":[1,2]}}')) == "Answer('s.1', 2 values)"
    assert repr(Answer("s.1", b"{")) == "Answer('s.1', 1 bytes that are not JSON)"


VIEWS = ("text", "thoughts", "parts", "images", "function_calls", "finish_reason", "truncated", "usage_metadata")
MORE_VIEWS = ("model_version", "values", "emulated", "decoded")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["candidates", "content", "parts", "text", "inlineData", "data", "mimeType", "embedding"]),
            inner,
            max_size=4,
        )
    ),
)


@given(json_values)
def test_views_stand_any_shape(value: Any) -> None:
    """A response of an unexpected shape gives empty views, never an error."""
    answer = Answer("s.1", json.dumps(value).encode())
    for view in (*VIEWS, *MORE_VIEWS):
        getattr(answer, view)
    assert repr(answer)


@pytest.mark.parametrize("raw", [b"", b"{", b'"\xff"', b"[" * 100_000])
def test_bytes_that_are_not_json(raw: bytes) -> None:
    """Views of bytes that are not JSON raise ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"the response of s\.1 is not JSON"):
        _ = Answer("s.1", raw).text
