"""The interactive calls, by the official client: what they answer is what a batch would have answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from google.genai import errors, types

from gemqueue_adapters.emulator.service.models import usd
from tests.emulator.plain import MODEL, Plain, error_of, text_request, texts

if TYPE_CHECKING:
    from google import genai

    from tests.emulator_process import EmulatorProcess

EMBEDDER = "gemini-embedding-001"
WEATHER = {
    "name": "weather",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}
pytestmark = pytest.mark.filterwarnings("ignore::google.genai.errors.ExperimentalWarning")


@pytest.fixture
def models(official: genai.Client) -> Any:
    """The client's calls of models; their own types are known to it only in part."""
    return official.models


def said(plain: Plain, request: dict[str, Any], model: str = MODEL) -> dict[str, Any]:
    """The first candidate of an interactive answer."""
    reply = plain.http.post(f"/v1beta/models/{model}:generateContent", json=request).raise_for_status().json()
    found: dict[str, Any] = reply["candidates"][0]
    return found


def test_generate_answers_as_a_batch_does(models: Any, emulator: EmulatorProcess, plain: Plain) -> None:
    """One request gets the same text from generateContent, from the stream, from a batch and from `expect`."""
    expected = emulator.expect(MODEL, text_request("why"))["candidates"][0]["content"]["parts"][0]["text"]
    assert models.generate_content(model=MODEL, contents="why").text == expected
    streamed = models.generate_content_stream(model=MODEL, contents="why")
    assert "".join(chunk.text or "" for chunk in streamed) == expected
    batch = plain.results(plain.create(texts("why")))[0]
    assert batch["response"]["candidates"][0]["content"]["parts"][0]["text"] == expected


def test_embeddings(models: Any) -> None:
    """One vector for each text, of the asked dimension and of unit length."""
    config = types.EmbedContentConfig(output_dimensionality=7)
    found = models.embed_content(model=EMBEDDER, contents=["a", "b"], config=config).embeddings
    vectors = [each.values for each in found]
    assert [len(each) for each in vectors] == [7, 7]
    assert vectors[0] != vectors[1]
    assert [sum(x * x for x in each) for each in vectors] == pytest.approx([1.0, 1.0])


def test_count_tokens_is_what_the_answer_counts(models: Any) -> None:
    """CountTokens and the answer's usage agree, and the usage adds up."""
    usage = models.generate_content(model=MODEL, contents="how many").usage_metadata
    assert usage is not None
    assert models.count_tokens(model=MODEL, contents="how many").total_tokens == usage.prompt_token_count
    assert usage.prompt_token_count + usage.candidates_token_count == usage.total_token_count


def test_models(models: Any) -> None:
    """All models are listed, page by page; each says what it can do; an unknown one is 404."""
    listed = [model.name for model in models.list(config={"page_size": 4})]
    assert f"models/{MODEL}" in listed
    assert len(listed) == len(set(listed))
    assert "batchGenerateContent" in (models.get(model=MODEL).supported_actions)
    assert "asyncBatchEmbedContent" in (models.get(model=EMBEDDER).supported_actions)
    with pytest.raises(errors.ClientError) as caught:
        models.get(model="gemini-0-nothing")
    assert caught.value.code == 404


def test_a_function_is_called(models: Any, plain: Plain) -> None:
    """A declared function is called with arguments that fit its schema; not if forbidden, nor after its response."""
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration.model_validate(WEATHER)])]
    )
    calls = models.generate_content(model=MODEL, contents="weather?", config=config).function_calls
    assert [(call.name, set(call.args)) for call in calls] == [("weather", {"city"})]
    request = text_request("weather?") | {"tools": [{"function_declarations": [WEATHER]}]}
    forbidden = request | {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}
    assert "text" in said(plain, forbidden)["content"]["parts"][0]
    reply = {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"c": 20}}}]}
    assert "text" in said(plain, request | {"contents": [*request["contents"], reply]})["content"]["parts"][0]


def test_an_image_model_draws(models: Any) -> None:
    """An image model answers with words and a PNG."""
    reply = models.generate_content(model="gemini-2.5-flash-image", contents="a cat")
    pictures = [part.inline_data for part in reply.parts if part.inline_data is not None]
    assert [picture.mime_type for picture in pictures] == ["image/png"]
    assert (pictures[0].data).startswith(b"\x89PNG\r\n\x1a\n")
    assert str(reply.parts[0].text).startswith("[emulated] ")


def test_an_answer_is_cut_at_its_limit(plain: Plain) -> None:
    """Beyond maxOutputTokens the text is cut, and the finish reason says so."""
    cut = said(plain, text_request("a" * 50) | {"generationConfig": {"maxOutputTokens": 4}})
    assert (cut["finishReason"], len(cut["content"]["parts"][0]["text"])) == ("MAX_TOKENS", 16)
    assert said(plain, text_request("a"))["finishReason"] == "STOP"


def test_service_tiers(models: Any, emulator: EmulatorProcess, plain: Plain) -> None:
    """Flex costs half of standard, a header says which it was, and an unknown tier is refused."""
    costs: list[float] = []
    for tier in (types.ServiceTier.STANDARD, types.ServiceTier.FLEX):
        emulator.reset()
        config = types.GenerateContentConfig(service_tier=tier)
        reply = models.generate_content(model=MODEL, contents="x" * 4000, config=config)
        assert reply.sdk_http_response is not None
        assert reply.sdk_http_response.headers["x-gemini-service-tier"] == tier.value
        bill = emulator.ledger()["interactive"]
        assert bill["calls"] == 1
        costs.append(bill["usd"])
    assert costs[0] == pytest.approx(2 * costs[1], rel=0.01)
    wrong = plain.http.post(f"/v1/models/{MODEL}:generateContent", json=text_request("a") | {"serviceTier": "gold"})
    assert error_of(wrong)[:2] == (400, "INVALID_ARGUMENT")


def test_the_ledger_says_who_bought_what_and_what_it_cost(plain: Plain, emulator: EmulatorProcess) -> None:
    """Each job has its project, its tokens as its answers report them, and half the list price of those."""
    name = plain.create(texts("a", "b", "c [[fault:internal]]"))
    usages = [row["response"]["usageMetadata"] for row in plain.results(name) if "response" in row]
    other = Plain(emulator.url, key="another")
    with other.http:
        other.ended(other.create(texts("d")))
    first, second = emulator.ledger()["jobs"]
    assert first["prompt_tokens"] == sum(usage["promptTokenCount"] for usage in usages)
    assert first["answer_tokens"] == sum(usage["candidatesTokenCount"] for usage in usages)
    listed_usd = usd(MODEL, first["prompt_tokens"], first["answer_tokens"], emulator.now_ms())
    assert listed_usd > 0
    assert first["usd"] == pytest.approx(listed_usd / 2, abs=1e-6)
    assert first["project"] != second["project"]


def test_the_ledger_counts_the_same_in_echo_mode(echo: EmulatorProcess) -> None:
    """The short way of echo mode counts what its answers report."""
    plain = Plain(echo.url)
    with plain.http:
        rows = plain.results(plain.create(texts(*[str(n) * n for n in range(300)])))
    usages = [row["response"]["usageMetadata"] for row in rows]
    job = echo.ledger()["jobs"][0]
    assert job["prompt_tokens"] == sum(usage["promptTokenCount"] for usage in usages)
    assert job["answer_tokens"] == sum(usage["candidatesTokenCount"] for usage in usages)


def test_bad_interactive_requests(plain: Plain) -> None:
    """Unknown fields, empty contents, wrong models and no JSON at all are refused as the service does."""
    path = f"/v1beta/models/{MODEL}:generateContent"
    unknown = error_of(plain.http.post(path, json=text_request("a") | {"config": 1}))
    assert unknown[0] == 400
    assert 'Unknown name "config": Cannot find field.' in unknown[2]
    assert error_of(plain.http.post(path, content=b"{"))[0] == 400
    assert error_of(plain.http.post(path, json={"contents": []}))[0] == 400
    assert error_of(plain.http.post(path.replace(MODEL, EMBEDDER), json=text_request("a")))[0] == 404
    many = msgspec.json.encode({"requests": [{"content": {}}]})
    assert error_of(plain.http.post(f"/v1/models/{EMBEDDER}:batchEmbedContents", content=many))[0] == 400
