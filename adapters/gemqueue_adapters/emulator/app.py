"""The ASGI application: a table of routes, and what stands behind them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gemqueue_adapters.emulator.clock import Clock, clock_path
from gemqueue_adapters.emulator.faults import Faults, parse
from gemqueue_adapters.emulator.routes.api import Api
from gemqueue_adapters.emulator.routes.control import Control, allowed
from gemqueue_adapters.emulator.routes.door import Door
from gemqueue_adapters.emulator.routes.interactive import Interactive
from gemqueue_adapters.emulator.routes.liar import Liar
from gemqueue_adapters.emulator.routes.openai import OpenAI, in_a_list
from gemqueue_adapters.emulator.routes.uploads import Uploads
from gemqueue_adapters.emulator.service.batches import Batches
from gemqueue_adapters.emulator.service.files import Files
from gemqueue_adapters.emulator.service.ledger import Ledger
from gemqueue_adapters.emulator.service.lies import parse_words
from gemqueue_adapters.emulator.service.lying import Lies
from gemqueue_adapters.emulator.service.models import STORAGE_MAX_BYTES
from gemqueue_adapters.emulator.service.store import Store
from gemqueue_adapters.emulator.webhooks.deliveries import Deliveries
from gemqueue_adapters.emulator.webhooks.registry import Webhooks
from gemqueue_adapters.emulator.webhooks.signing import Keys
from gemqueue_adapters.emulator.wire import MARK, STATUS_NAMES, ApiError, Json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.routes.door import Handler

VERSIONS = ("v1", "v1beta")
Table = list[tuple[str, str, str, "Handler"]]
"""Routes: method, path under a version, the faults' point, handler."""


def build(options: Options, data: Path) -> Starlette:
    """The emulator's application over the folder `data`.

    Raises:
        ValueError: the faults file of the options does not hold faults, or a lie is none.
    """
    data.mkdir(parents=True, exist_ok=True)
    clock, faults = Clock(clock_path(data)), Faults(options.seed)
    if options.faults is not None:
        faults.replace(parse(options.faults.read_bytes()))
    lies = Lies(options.seed, clock)
    lies.replace([parse_words(text) for text in options.lies])
    liar = Liar(lies)
    door, ledger = Door(faults, clock, liar), Ledger()
    storage_max_bytes = options.storage_max_bytes
    if storage_max_bytes is None and options.tier != "none":
        storage_max_bytes = STORAGE_MAX_BYTES
    hashed = options.answers == "full"  # the echo mode leaves out what costs time and nothing of ours looks at
    files = Files(Store(data / "files"), Store(data / "uploads"), clock, storage_max_bytes, hashed=hashed)
    batches = Batches(options, Store(data / "batches"), clock, faults)
    interactive = Interactive(options, Store(data / "interactive"), clock)
    keys, webhooks = Keys(options.seed, data / "rsa.pem"), Webhooks(Store(data / "webhooks"), clock)
    deliveries = Deliveries(
        options=options,
        store=Store(data / "messages"),
        clock=clock,
        faults=faults,
        webhooks=webhooks,
        batches=batches,
        keys=keys,
    )
    control = Control(
        options=options,
        clock=clock,
        faults=faults,
        files=files,
        batches=batches,
        ledger=ledger,
        interactive=interactive,
        deliveries=deliveries,
        door=door,
        liar=liar,
    )
    api, uploads = Api(options, files, batches, keys), Uploads(files, batches)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        files.load()
        batches.load()
        interactive.load()
        webhooks.load()
        deliveries.load()
        yield
        door.cancel()
        await deliveries.close()
        await batches.close()

    app = Starlette(
        routes=[
            *_openai_routes(door, OpenAI(api, batches)),
            *_routes(door, [*_batch_table(api), *_file_table(api, uploads)]),
            *_routes(door, [*_interactive_table(interactive), *_webhook_table(webhooks, deliveries)]),
            *_upload_routes(door, uploads),
            *_control_routes(control, deliveries, options.token),
        ],
        lifespan=lifespan,
        exception_handlers={ApiError: _refused, HTTPException: _refused, Exception: _refused},
    )
    app.add_middleware(_Marked)
    return app


def _batch_table(api: Api) -> Table:
    return [
        ("POST", "/{v}/models/{model}:batchGenerateContent", "create", api.create_generate),
        ("POST", "/{v}/models/{model}:asyncBatchEmbedContent", "create", api.create_embed),
        ("GET", "/{v}/batches", "list", api.list),
        ("POST", "/{v}/batches/{id}:cancel", "cancel", api.cancel),
        ("PATCH", "/{v}/batches/{id}:{verb}", "update", api.update),
        ("GET", "/{v}/batches/{id}", "get", api.get),
        ("DELETE", "/{v}/batches/{id}", "delete", api.delete),
    ]


def _file_table(api: Api, uploads: Uploads) -> Table:
    return [
        ("GET", "/{v}/files/{id}:download", "download", api.download),
        ("GET", "/download/{v}/files/{id}:download", "download", api.download),
        ("GET", "/{v}/files", "list_files", uploads.list),
        ("GET", "/{v}/files/{id}", "get_file", uploads.get),
        ("DELETE", "/{v}/files/{id}", "delete_file", uploads.delete),
    ]


def _interactive_table(interactive: Interactive) -> Table:
    return [
        ("POST", "/{v}/models/{model}:generateContent", "generate", interactive.generate),
        ("POST", "/{v}/models/{model}:streamGenerateContent", "generate", interactive.stream),
        ("POST", "/{v}/models/{model}:embedContent", "embed", interactive.embed),
        ("POST", "/{v}/models/{model}:batchEmbedContents", "embed", interactive.embed_many),
        ("POST", "/{v}/models/{model}:countTokens", "count_tokens", interactive.count_tokens),
        ("GET", "/{v}/models", "models", interactive.models),
        ("GET", "/{v}/models/{model}", "models", interactive.model),
    ]


def _webhook_table(webhooks: Webhooks, deliveries: Deliveries) -> Table:
    return [
        ("POST", "/{v}/webhooks", "webhooks", webhooks.create),
        ("GET", "/{v}/webhooks", "webhooks", webhooks.list),
        ("POST", "/{v}/webhooks/{id}:ping", "webhooks", deliveries.ping),
        ("POST", "/{v}/webhooks/{id}:rotateSigningSecret", "webhooks", webhooks.rotate),
        ("POST", "/{v}/webhooks/{id}/rotate_secret", "webhooks", webhooks.rotate),
        ("GET", "/{v}/webhooks/{id}", "webhooks", webhooks.get),
        ("PATCH", "/{v}/webhooks/{id}", "webhooks", webhooks.update),
        ("DELETE", "/{v}/webhooks/{id}", "webhooks", webhooks.delete),
    ]


def _routes(door: Door, table: Table) -> list[Route]:
    return [
        Route(path.replace("{v}", version), door.guard(point, handler), methods=[method])
        for method, path, point, handler in table
        for version in VERSIONS
    ]


def _openai_routes(door: Door, openai: OpenAI) -> list[Route]:
    table: Table = [
        ("POST", "batches", "create", openai.create),
        ("GET", "batches", "list", openai.list),
        ("POST", "batches/{id:path}/cancel", "cancel", openai.cancel),
        ("GET", "batches/{id:path}", "get", openai.retrieve),
        ("POST", "files", "upload_start", openai.unsupported),
        ("GET", "files/{id:path}", "download", openai.unsupported),
    ]
    return [
        Route(f"/v1beta/openai/{path}", door.guard(point, in_a_list(handler)), methods=[method])
        for method, path, point, handler in table
    ]


def _upload_routes(door: Door, uploads: Uploads) -> list[Route]:
    start, chunk = door.guard("upload_start", uploads.start), door.guard("upload", uploads.upload)

    async def upload(request: Request) -> Response:
        return await (chunk if "upload_id" in request.query_params else start)(request)

    return [Route(f"/upload/{version}/files", upload, methods=["POST"]) for version in VERSIONS]


def _control_routes(control: Control, deliveries: Deliveries, token: str | None) -> list[Route]:
    table: list[tuple[str, str, Handler]] = [
        ("GET", "health", control.health),
        ("GET", "clock", control.show_clock),
        ("POST", "clock", control.move_clock),
        ("GET", "faults", control.show_faults),
        ("POST", "faults", control.set_faults),
        ("GET", "lies", control.show_lies),
        ("POST", "lies", control.set_lies),
        ("POST", "expect", control.expect),
        ("GET", "ledger", control.ledger),
        ("GET", "rows", control.rows),
        ("GET", "bought", control.bought),
        ("GET", "requests", control.requests),
        ("GET", "deliveries", control.deliveries),
        ("POST", "reset", control.reset),
    ]
    routes = [Route(f"/_emulator/{name}", allowed(token, handler), methods=[method]) for method, name, handler in table]
    return [*routes, Route("/.well-known/jwks.json", deliveries.jwks, methods=["GET"])]


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, f"Not here: {error.detail}.").response()
    error_500 = {"error": {"code": 500, "message": "Internal error.", "status": STATUS_NAMES[500]}}
    return Json(error_500, 500, {MARK: "1"})  # it leaves outside of what marks the others


class _Marked:
    """Puts the emulator's mark on every reply."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[MARK] = "1"
            await send(message)

        await self._app(scope, receive, marked if scope["type"] == "http" else send)
