"""A proxy before an emulator with a hook that may answer in its place, as gateways, caches and lagging replicas do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.proofs.contradictions.common import when

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

    Hook = Callable[[str, str, bytes], Response | str | None]

MARK = {"x-gemini-emulator": "1"}
_NOT_PASSED = {"content-length", "transfer-encoding", "connection", "content-encoding"}


@contextlib.asynccontextmanager
async def proxied(target: str, hook: Hook, *, without: frozenset[str] = frozenset()) -> AsyncGenerator[str]:
    """The URL of a proxy to ``target``: the hook gives a reply, another path, or None to pass the request on.

    What the target replies comes ``without`` these headers: without its mark an emulator is a real service.
    """
    dropped = _NOT_PASSED | without
    client = httpx.AsyncClient(timeout=60, trust_env=False)

    async def handle(request: Request) -> Response:
        body = await request.body()
        path = request.url.path + ("?" + request.url.query if request.url.query else "")
        made = hook(request.method, path, body)
        if isinstance(made, Response):
            made.headers.update(MARK)
            return made
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED}
        try:
            got = await client.request(request.method, target + (made or path), content=body, headers=headers)
        except httpx.HTTPError:
            return Response(b"bad gateway", 502, MARK)
        return Response(got.content, got.status_code, {k: v for k, v in got.headers.items() if k not in dropped})

    methods = ["GET", "POST", "DELETE", "PATCH", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", handle, methods=methods)])
    config: Any = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await when(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        await client.aclose()
