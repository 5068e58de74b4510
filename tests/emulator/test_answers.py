"""The published answers: pure, told apart by a digest, and equal to what jobs answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemqueue_adapters.emulator.answers.answers import answer
from gemqueue_adapters.emulator.answers.schemas import satisfy
from tests.emulator.plain import MODEL, Plain, by_key, error_of, lines, text_request

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess

EMBED = "gemini-embedding-001"
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

texts_ = st.text(min_size=1, max_size=40).filter(lambda text: "[[fault:" not in text)
configs: list[dict[str, Any]] = [
    {},
    {"generationConfig": {"temperature": 0.5}},
    {"generation_config": {"response_mime_type": "application/json"}},
    {
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseSchema": {"type": "ARRAY", "minItems": 2, "items": {"type": "STRING"}},
        }
    },
    {"systemInstruction": {"parts": [{"text": "sys"}]}},
]


def generate_request(text: str, config: dict[str, Any], role: str) -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": [{"text": text}]}], **config}


def embed_request(text: str, dimensions: int) -> dict[str, Any]:
    return {"content": {"parts": [{"text": text}]}, "outputDimensionality": dimensions}


generate_requests = st.builds(generate_request, texts_, st.sampled_from(configs), st.sampled_from(["user", "model"]))
embed_requests = st.builds(embed_request, texts_, st.integers(1, 20))


@given(st.lists(generate_requests, min_size=1, max_size=8))
@few
def test_jobs_answer_what_is_expected(plain: Plain, emulator: EmulatorProcess, requests: list[dict[str, Any]]) -> None:
    """Every row of a job gets exactly the response that `expect` tells."""
    rows = by_key(plain.results(plain.create(lines(*[(f"k{n}", request) for n, request in enumerate(requests)]))))
    for n, request in enumerate(requests):
        assert rows[f"k{n}"]["response"] == emulator.expect(MODEL, request)


@given(st.lists(embed_requests, min_size=1, max_size=8))
@few
def test_embedding_jobs_answer_what_is_expected(
    plain: Plain, emulator: EmulatorProcess, requests: list[dict[str, Any]]
) -> None:
    """The same for embeddings."""
    data = lines(*[(f"k{n}", request) for n, request in enumerate(requests)])
    rows = by_key(plain.results(plain.create(data, model=EMBED, verb="asyncBatchEmbedContent")))
    for n, request in enumerate(requests):
        assert rows[f"k{n}"]["response"] == emulator.expect(EMBED, request, kind="embed")


@given(st.lists(generate_requests, min_size=1, max_size=8), st.booleans())
@few
def test_echo_jobs_answer_what_is_expected(echo: EmulatorProcess, requests: list[dict[str, Any]], spaced: bool) -> None:
    """In echo mode as well, given the very bytes of the request."""
    plain = Plain(echo.url)
    with plain.http:
        raw = [msgspec.json.encode(request) for request in requests]
        template = b'{ "key" : "k%d" , "request" : %b }\n' if spaced else b'{"key":"k%d","request":%b}\n'
        rows = by_key(plain.results(plain.create(b"".join(template % each for each in enumerate(raw)))))
        for n, request in enumerate(raw):
            assert rows[f"k{n}"]["response"] == echo.expect(MODEL, request)


def test_echo_embeddings_and_lines_in_another_order(echo: EmulatorProcess) -> None:
    """Echo mode answers embeddings of unit length, and copes with lines that do not begin with their key."""
    plain = Plain(echo.url)
    with plain.http:
        request = msgspec.json.encode({"content": {"parts": [{"text": "a"}]}})
        data = b'{"request":%b,"key":"a\\u0062"}' % request
        rows = plain.results(plain.create(data, model=EMBED, verb="asyncBatchEmbedContent"))
        assert rows == [{"key": "ab", "response": echo.expect(EMBED, request, kind="embed")}]
        assert math.hypot(*rows[0]["response"]["embedding"]["values"]) == pytest.approx(1)


def test_echo_looks_at_no_more_than_it_must(echo: EmulatorProcess) -> None:
    """Echo mode skips empty lines, refuses a file with a line that is no row by its number, and makes no digest."""
    plain = Plain(echo.url)
    with plain.http:
        row = b'{"key":"k%d","request":{"contents":[{"parts":[{"text":"a"}]}]}}'
        rows = plain.results(plain.create(b"\n%b\n\n%b" % (row % 1, row % 2)))
        assert sorted(each["key"] for each in rows) == ["k1", "k2"]
        refused = plain.post_batch({"inputConfig": {"fileName": plain.upload(b"%b\nnot a row\n" % (row % 1))}})
        assert error_of(refused)[0] == 400
        assert "line 2" in refused.text
        assert all("sha256Hash" not in file for file in plain.http.get("/v1beta/files").json()["files"])


def test_answers_depend_on_everything() -> None:
    """Another text, model or seed gives another answer; another spacing does not."""
    raw = msgspec.json.encode(text_request("a"))
    base = answer("generate", "full", MODEL, raw)
    assert base == answer("generate", "full", MODEL, msgspec.json.format(raw))
    others = [
        answer("generate", "full", MODEL, msgspec.json.encode(text_request("b"))),
        answer("generate", "full", "gemini-2.5-pro", raw),
        answer("generate", "full", MODEL, raw, seed=1),
    ]
    assert len({base, *others}) == 4


def test_usage_adds_up() -> None:
    """Token counts sum to the total, and the model is marked."""
    value = msgspec.json.decode(answer("generate", "full", MODEL, msgspec.json.encode(text_request("a"))))
    usage = value["usageMetadata"]
    assert usage["promptTokenCount"] + usage["candidatesTokenCount"] == usage["totalTokenCount"]
    assert value["modelVersion"] == f"emulator/{MODEL}"


def test_structured_answers_satisfy_their_schema() -> None:
    """Types, enums, limits, references and unions of both schema dialects are kept to."""
    schema = {
        "$defs": {"tag": {"type": "string", "enum": ["a", "b"]}},
        "type": "object",
        "properties": {
            "tag": {"$ref": "#/$defs/tag"},
            "count": {"type": "integer", "minimum": 200, "maximum": 210},
            "below": {"type": "number", "exclusiveMaximum": 0},
            "flag": {"type": "BOOLEAN"},
            "many": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "nested": {"type": "object", "properties": {"deep": {"type": ["integer", "null"]}}},
        },
        "required": ["tag", "extra"],
    }
    value = satisfy(schema, "0123456789abcdef")
    assert value["tag"] in {"a", "b"}
    assert 200 <= value["count"] <= 210
    assert value["below"] < 0
    assert isinstance(value["flag"], bool)
    assert [len(each) for each in value["many"]] == [3, 3]
    assert value["maybe"] is None
    assert isinstance(value["nested"]["deep"], int)
    assert "extra" in value


def test_greedy_schemas_end() -> None:
    """A schema that asks for more values than there are atoms gets a few thousand, soon."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        schema = {"type": "array", "minItems": 9999, "items": schema}
    assert len(msgspec.json.encode(satisfy(schema, "0" * 16))) < 5_000_000
    names = [f"p{place}" for place in range(30)]
    loop = {"type": "object", "properties": {name: {"$ref": "#"} for name in names}, "required": names}
    assert len(msgspec.json.encode(satisfy(loop, "0" * 16))) < 5_000_000
    for word in ("anyOf", "allOf"):
        assert isinstance(satisfy({word: [{"$ref": "#"}]}, "0" * 16), str)


def test_recursive_schemas_end() -> None:
    """A schema that refers to itself gives a value of bounded depth."""
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert len(str(satisfy(node, "0123456789abcdef"))) < 1000


@given(
    st.dictionaries(
        st.sampled_from(["type", "enum", "items", "properties", "minItems", "anyOf", "$ref", "maxLength", "minimum"]),
        st.none() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    )
)
def test_garbage_schemas_get_some_value(schema: dict[str, Any]) -> None:
    """A JSON Schema that makes no sense still gets an answer that is JSON."""
    msgspec.json.encode(satisfy(schema, "0123456789abcdef"))
