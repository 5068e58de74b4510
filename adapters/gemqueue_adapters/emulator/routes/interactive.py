"""The interactive calls: generateContent (whole and streamed), embedContent, countTokens, the list of models.

They answer as the rows of a batch do, from the same functions; what they sell is billed apart, by service tier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from gemqueue_adapters.emulator.answers.answers import answer
from gemqueue_adapters.emulator.answers.tokens import prompt_tokens
from gemqueue_adapters.emulator.proto import EmbedContentRequest, fields, items, message, pick, repeated
from gemqueue_adapters.emulator.rows import RowError, check_request
from gemqueue_adapters.emulator.service.bodies import BODY_MAX_BYTES, payload_error, read, refusal
from gemqueue_adapters.emulator.service.models import HALF, USD_PER_MILLION, check_model, described, kind_of, usd
from gemqueue_adapters.emulator.wire import ApiError, Json, page_size, page_start, page_token, project_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.rows import Kind
    from gemqueue_adapters.emulator.service.store import Store

BILL = "interactive"
SERVED_TIER = "x-gemini-service-tier"
TIERS = {"": 1.0, "unspecified": 1.0, "standard": 1.0, "flex": HALF, "priority": 1.0}
_Batch = msgspec.json.Decoder(message("BatchEmbedContentsRequest", requests=repeated(EmbedContentRequest)))


class Bill(msgspec.Struct):
    """What the interactive calls have sold so far."""

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    usd: float = 0.0


class Interactive:
    """Handlers that answer at once."""

    def __init__(self, options: Options, store: Store, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._store = store
        self._bill = Bill()

    def load(self) -> None:
        """Take up the bill that is on disk."""
        self._bill = dict(self._store.load(Bill)).get(BILL, Bill())

    def reset(self) -> None:
        """Forget the bill."""
        self._bill = Bill()
        self._store.clear()

    def bill(self) -> Bill:
        """What has been sold."""
        return self._bill

    async def generate(self, request: Request) -> Response:
        """One answer."""
        response, tier = await self._generated(request, "generateContent")
        return Response(response, media_type=Json.media_type, headers={SERVED_TIER: tier})

    async def stream(self, request: Request) -> Response:
        """One answer in two pieces: its content, then why it ended and what it cost."""
        response, tier = await self._generated(request, "streamGenerateContent")
        whole = msgspec.json.decode(response)
        last = {**whole, "candidates": [{"finishReason": whole["candidates"][0].pop("finishReason"), "index": 0}]}
        usage = whole.pop("usageMetadata")
        whole["usageMetadata"] = {name: usage[name] for name in ("promptTokenCount",)}
        pieces = [msgspec.json.encode(whole), msgspec.json.encode(last)]
        if request.query_params.get("alt") == "sse":
            events = b"".join(b"data: %b\r\n\r\n" % piece for piece in pieces)
            return Response(events, media_type="text/event-stream", headers={SERVED_TIER: tier})
        return Response(b"[%b]" % b",\r\n".join(pieces), media_type=Json.media_type, headers={SERVED_TIER: tier})

    async def embed(self, request: Request) -> Response:
        """One vector."""
        project_of(request)
        model, body = self._model(request, "embed", "embedContent"), await read(request)
        _checked("embed", body)
        return Json(self._embedded(model, body))

    async def embed_many(self, request: Request) -> Response:
        """A vector for each of the `requests`; not to be taken for a batch job."""
        project_of(request)
        model, body = self._model(request, "embed", "batchEmbedContents"), await read(request)
        try:
            _Batch.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise payload_error(error) from error
        asked = items(fields(msgspec.json.decode(body)).get("requests"))
        rows = [msgspec.json.encode(each) for each in asked]
        for row in rows:
            _checked("embed", row)
        answers = [self._embedded(model, row) for row in rows]
        return Json({"embeddings": [each["embedding"] for each in answers]} if answers else {})

    async def count_tokens(self, request: Request) -> Response:
        """How many tokens a request counts in the answers' own usage."""
        project_of(request)
        model = request.path_params["model"]
        kind_of(model)
        try:
            value = fields(msgspec.json.decode(await read(request)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise payload_error(error) from error
        asked = fields(pick(value, "generate_content_request")) or value
        asked.pop("model", None)
        _checked("generate", msgspec.json.encode(asked))
        tokens = prompt_tokens(asked)
        details = [{"modality": "TEXT", "tokenCount": tokens}]
        return Json({"totalTokens": tokens, "promptTokensDetails": details})

    async def models(self, request: Request) -> Response:
        """A page of the models."""
        project_of(request)
        names = list(USD_PER_MILLION)
        start, size = page_start(request) or 0, page_size(request, 50, 1000)
        shown = {"models": [described(name) for name in names[max(0, start) :][:size]]}
        more = {"nextPageToken": page_token(start + size)} if start + size < len(names) else {}
        return Json(shown | more if shown["models"] else {})

    async def model(self, request: Request) -> Response:
        """One model."""
        project_of(request)
        return Json(described(request.path_params["model"]))

    async def _generated(self, request: Request, verb: str) -> tuple[bytes, str]:
        """The answer, and the tier that served it."""
        project_of(request)
        model, body = self._model(request, "generate", verb), await read(request, BODY_MAX_BYTES)
        _checked("generate", body)
        tier = str(pick(fields(msgspec.json.decode(body)), "service_tier") or "").lower()
        if tier not in TIERS:
            raise ApiError(400, f"Invalid value at 'service_tier' (ServiceTier), \"{tier[:40]}\"")
        model = self._options.answering(model)
        response = answer("generate", self._options.answers, model, body, self._options.seed)
        self._sell(model, msgspec.json.decode(response)["usageMetadata"], TIERS[tier])
        return response, tier if tier in {"flex", "priority"} else "standard"

    def _embedded(self, model: str, body: bytes) -> dict[str, Any]:
        model = self._options.answering(model)
        value: dict[str, Any] = msgspec.json.decode(
            answer("embed", self._options.answers, model, body, self._options.seed)
        )
        self._sell(model, value["usageMetadata"], 1.0)
        return value

    def _model(self, request: Request, kind: Kind, verb: str) -> str:
        model = str(request.path_params["model"])
        check_model(kind, model, verb)
        return model

    def _sell(self, model: str, usage: dict[str, int], share: float) -> None:
        prompt, answered = usage["promptTokenCount"], usage.get("candidatesTokenCount", 0)
        bill = self._bill
        bill.calls += 1
        bill.prompt_tokens += prompt
        bill.answer_tokens += answered
        bill.usd = round(bill.usd + usd(model, prompt, answered, self._clock.now_ms(), share), 6)
        self._store.put(BILL, bill)


def _checked(kind: Kind, body: bytes) -> None:
    try:
        check_request(kind, body)
    except RowError as error:
        raise refusal("", error) from error
