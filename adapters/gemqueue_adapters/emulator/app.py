"""The ASGI application: a table of routes, and what stands behind them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gemqueue_adapters.emulator.api import Api
from gemqueue_adapters.emulator.batches import Batches
from gemqueue_adapters.emulator.clock import Clock, clock_path
from gemqueue_adapters.emulator.control import Control
from gemqueue_adapters.emulator.door import Door
from gemqueue_adapters.emulator.faults import Faults, parse
from gemqueue_adapters.emulator.files import Files
from gemqueue_adapters.emulator.ledger import Ledger
from gemqueue_adapters.emulator.models import STORAGE_MAX_BYTES
from gemqueue_adapters.emulator.store import Store
from gemqueue_adapters.emulator.uploads import Uploads
from gemqueue_adapters.emulator.wire import MARK, STATUS_NAMES, ApiError, Json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gemqueue_adapters.emulator.door import Handler
    from gemqueue_adapters.emulator.options import Options

VERSIONS = ("v1", "v1beta")


def build(options: Options, data: Path) -> Starlette:
    """The emulator's application over the folder `data`.

    Raises:
        ValueError: the faults file of the options does not hold faults.
    """
    data.mkdir(parents=True, exist_ok=True)
    clock, faults = Clock(clock_path(data)), Faults(options.seed)
    if options.faults is not None:
        faults.replace(parse(options.faults.read_bytes()))
    door, ledger = Door(faults, clock), Ledger()
    storage_max_bytes = None if options.tier == "none" else STORAGE_MAX_BYTES
    files = Files(Store(data / "files"), Store(data / "uploads"), clock, storage_max_bytes)
    batches = Batches(options, Store(data / "batches"), clock, faults)
    control = Control(
        options=options, clock=clock, faults=faults, files=files, batches=batches, ledger=ledger, door=door
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        files.load()
        batches.load()
        yield
        door.cancel()
        await batches.close()

    app = Starlette(
        routes=[*_api_routes(door, Uploads(files), Api(options, files, batches)), *_control_routes(control)],
        lifespan=lifespan,
        exception_handlers={ApiError: _refused, HTTPException: _refused, Exception: _refused},
    )
    app.add_middleware(_Marked)
    return app


def _api_routes(door: Door, uploads: Uploads, api: Api) -> list[Route]:
    table: list[tuple[str, str, str, Handler]] = [
        ("POST", "/{v}/models/{model}:batchGenerateContent", "create", api.create_generate),
        ("POST", "/{v}/models/{model}:asyncBatchEmbedContent", "create", api.create_embed),
        ("GET", "/{v}/batches", "list", api.list),
        ("POST", "/{v}/batches/{id}:cancel", "cancel", api.cancel),
        ("GET", "/{v}/batches/{id}", "get", api.get),
        ("DELETE", "/{v}/batches/{id}", "delete", api.delete),
        ("GET", "/{v}/files/{id}:download", "download", api.download),
        ("GET", "/download/{v}/files/{id}:download", "download", api.download),
        ("GET", "/{v}/files", "list_files", uploads.list),
        ("GET", "/{v}/files/{id}", "get_file", uploads.get),
        ("DELETE", "/{v}/files/{id}", "delete_file", uploads.delete),
    ]
    routes = [
        Route(path.replace("{v}", version), door.guard(point, handler), methods=[method])
        for method, path, point, handler in table
        for version in VERSIONS
    ]
    start, chunk = door.guard("upload_start", uploads.start), door.guard("upload", uploads.upload)

    async def upload(request: Request) -> Response:
        return await (chunk if "upload_id" in request.query_params else start)(request)

    return routes + [Route(f"/upload/{version}/files", upload, methods=["POST"]) for version in VERSIONS]


def _control_routes(control: Control) -> list[Route]:
    table: list[tuple[str, str, Handler]] = [
        ("GET", "health", control.health),
        ("GET", "clock", control.show_clock),
        ("POST", "clock", control.move_clock),
        ("GET", "faults", control.show_faults),
        ("POST", "faults", control.set_faults),
        ("POST", "expect", control.expect),
        ("GET", "ledger", control.ledger),
        ("GET", "rows", control.rows),
        ("GET", "requests", control.requests),
        ("POST", "reset", control.reset),
    ]
    return [Route(f"/_emulator/{name}", handler, methods=[method]) for method, name, handler in table]


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, f"Not here: {error.detail}.").response()
    return Json({"error": {"code": 500, "message": "Internal error.", "status": STATUS_NAMES[500]}}, 500)


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
