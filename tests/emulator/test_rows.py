"""Row validation: strict where the service is strict, in both spellings."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue_adapters.emulator.rows import Kind, RowError, check_line, scan
from tests.emulator.plain import Plain, error_of, text_request, texts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess

CONTENTS = [{"parts": [{"text": "hi"}]}]

GOOD: list[tuple[Kind, dict[str, Any]]] = [
    ("generate", {"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 5}}),
    ("generate", {"contents": CONTENTS, "generation_config": {"max_output_tokens": "5", "topP": 0.1}}),
    (
        "generate",
        {"contents": CONTENTS, "systemInstruction": CONTENTS[0], "safety_settings": [], "cachedContent": None},
    ),
    (
        "generate",
        {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}]},
    ),
    ("generate", {"contents": [{"parts": [{"file_data": {"file_uri": "files/x"}}, {"text": ""}]}]}),
    ("generate", {"contents": CONTENTS, "tools": [{"googleSearch": {}}, {"function_declarations": [{"name": "f"}]}]}),
    ("generate", {"contents": CONTENTS, "generationConfig": {"responseSchema": {"anyOf": [{"maxItems": "3"}]}}}),
    ("embed", {"content": CONTENTS[0], "taskType": "RETRIEVAL_DOCUMENT", "output_dimensionality": 5}),
]

BAD: list[tuple[Kind, Any, str]] = [
    ("generate", {"contents": CONTENTS, "config": {}}, "no such field: 'config'"),
    ("generate", {"contents": CONTENTS, "generationConfig": {"cachedContent": "x"}}, "no such field: 'cachedContent'"),
    ("generate", {"contents": [{"parts": [{"txt": "x"}]}]}, "no such field: 'txt'"),
    ("generate", {"contents": CONTENTS, "systemInstruction": [CONTENTS[0]]}, "field 'request.system_instruction'"),
    ("generate", {}, "contents is not specified"),
    ("generate", {"contents": []}, "contents is not specified"),
    ("generate", {"contents": [{"parts": []}]}, "parts must not be empty"),
    ("generate", {"contents": [{"parts": [{}]}]}, "must have one initialized field"),
    ("generate", {"contents": [{"parts": [{"text": "a", "inlineData": {"data": ""}}]}]}, "already set"),
    (
        "generate",
        {"contents": CONTENTS, "cached_content": "c", "tools": [{"googleSearch": {}}]},
        "CachedContent can not",
    ),
    (
        "generate",
        {"contents": CONTENTS, "generationConfig": {"topK": "many"}},
        "field 'request.generation_config.top_k'",
    ),
    ("embed", {"contents": CONTENTS}, "no such field: 'contents'"),
    ("embed", {"taskType": "CLUSTERING"}, "content is not specified"),
]


@pytest.mark.parametrize(("kind", "request_"), GOOD)
def test_good_rows(kind: Kind, request_: dict[str, Any]) -> None:
    """Requests in camelCase, in snake_case and mixed pass."""
    check_line(kind, msgspec.json.encode({"key": "k", "request": request_}))


@pytest.mark.parametrize(("kind", "request_", "message"), BAD)
def test_bad_rows(kind: Kind, request_: Any, message: str) -> None:
    """What the service does not know or cannot use is refused, and named."""
    with pytest.raises(RowError, match=message):
        check_line(kind, msgspec.json.encode({"key": "k", "request": request_}))


def test_the_line_is_named(plain: Plain, emulator: EmulatorProcess) -> None:
    """One bad line refuses the whole file, with its number, and no batch exists."""
    bad = b'{"key":"x","request":{"contents":[{"parts":[{"text":"x"}]}],"config":{}}}\n'
    data = texts("a", "b") + bad + texts("c")
    reply = plain.post_batch({"inputConfig": {"fileName": plain.upload(data)}})
    code, status, text = error_of(reply)
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert text == "Error on line 3: invalid JSON, near column 61: no such field: 'config'"
    assert emulator.ledger()["jobs"] == []


@pytest.mark.parametrize(
    "bad", [b'{"key":"k"', b"[]", b'{"key":"k","request":{"contents":[]}}', b'{"key":"\xff"}', b"no"]
)
def test_the_line_is_named_far_into_a_file(tmp_path: Path, bad: bytes) -> None:
    """Line numbers are right beyond the first block, and blank lines count as lines but not as rows."""
    path = tmp_path / "in.jsonl"
    good = texts("x" * 1000)
    path.write_bytes(good * 4000 + b"\n" + bad + b"\n" + good)
    with pytest.raises(RowError, match=r"^Error on line 4002: "):
        scan(path, check_line, "generate")
    path.write_bytes(good * 4000 + b"\n" + good.rstrip())
    found = scan(path, check_line, "generate")
    assert found.rows == 4001
    assert sum(block.length for block in found.blocks) == path.stat().st_size


def test_markers_refuse_at_create(plain: Plain) -> None:
    """A marked line makes the create answer 400, with or without the line's number."""
    line = plain.post_batch({"inputConfig": {"fileName": plain.upload(texts("a", "b [[fault:refuse_line]]"))}})
    assert error_of(line)[2].startswith("Error on line 2: ")
    file = plain.post_batch({"inputConfig": {"fileName": plain.upload(texts("a", "b [[fault:refuse_file]]"))}})
    assert error_of(file) == (400, "INVALID_ARGUMENT", "Request contains an invalid argument.")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=60) | json_values.map(msgspec.json.encode))
def test_garbage_is_refused_cleanly(line: bytes) -> None:
    """No line, however broken, raises anything but a refusal."""
    with contextlib.suppress(RowError):
        check_line("generate", line)


@given(json_values)
def test_a_request_is_one_shape(value: Any) -> None:
    """Whatever stands in the place of a part, only an object with one kind of data passes."""
    row = {"key": "k", "request": {"contents": [{"parts": [value]}]}}
    with pytest.raises(RowError):
        check_line("generate", msgspec.json.encode(row))
    check_line("generate", msgspec.json.encode({"key": "k", "request": text_request("x")}))
