"""The routes of ``gemqueue serve``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue_workers.serve.page import error_page, status_page
from gemqueue_workers.status import Status, read_status

if TYPE_CHECKING:
    from starlette.requests import Request

    from gemqueue.config import Settings
    from gemqueue.store import Store
    from gemqueue_workers.serve.receiver import Receiver

WEBHOOK_PATH: Final = "/webhook"
_STORE_S_MAX: Final = 2.0
_PAGE_KEEP_S: Final = 2.0
_CLOSE: Final = {"connection": "close"}
_PAGE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class Door:
    """The handlers. Nothing that comes in changes anything but when a batch is looked at next."""

    def __init__(self, store: Store, settings: Settings, receiver: Receiver) -> None:
        self._store = store
        self._settings = settings
        self._receiver = receiver
        self._looking: asyncio.Task[Status] | None = None
        self._looked_s = 0.0

    async def webhook(self, request: Request) -> Response:
        """Take an event: 204, or 4xx for whatever is wrong with it, or 503 when the store is away."""
        try:
            body = await self._body(request)
        except ClientDisconnect:
            return Response(status_code=400, headers=_CLOSE)
        except TimeoutError:
            self._receiver.tally.refuse("slow", f"no whole body within {self._settings.webhook_read_s} s")
            return Response(status_code=408, headers=_CLOSE)
        if body is None:
            self._receiver.tally.refuse("size", f"more than {self._settings.webhook_bytes_max} bytes")
            return Response(status_code=413, headers=_CLOSE)
        try:
            return Response(status_code=await self._receiver.take(request.headers.raw, body))
        except StoreUnavailable:
            return Response(status_code=503, headers={"retry-after": "5"})

    async def live(self, _request: Request) -> Response:
        """This process answers."""
        return _Json({"live": True})

    async def health(self, _request: Request) -> Response:
        """Whether events can be taken, and who works: 200, or 503 when the store does not answer."""
        try:
            async with asyncio.timeout(_STORE_S_MAX):
                workers = len(await self._store.workers())
        except (StoreUnavailable, TimeoutError):
            return _Json({"live": True, "ready": False, "store": "does not answer", "workers": 0}, status_code=503)
        return _Json({"live": True, "ready": True, "store": "answers", "workers": workers})

    async def page(self, _request: Request) -> Response:
        """What ``gemqueue status`` says, as a page that renews itself."""
        try:
            async with asyncio.timeout(_STORE_S_MAX * 5):
                text = status_page(await self._status())
        except (GemqueueError, TimeoutError) as error:
            why = str(error) or "the store does not answer in time"
            return Response(error_page(self._settings.queue, why), 503, _PAGE_HEADERS, "text/html")
        return Response(text, 200, _PAGE_HEADERS, "text/html")

    async def _status(self) -> Status:
        """The status, at most two seconds old: however many people look, the store is asked once."""
        now_s = asyncio.get_running_loop().time()
        if self._looking is None or (self._looking.done() and now_s - self._looked_s > _PAGE_KEEP_S):
            self._looked_s = now_s
            self._looking = asyncio.create_task(read_status(self._settings))
        return await asyncio.shield(self._looking)

    async def _body(self, request: Request) -> bytes | None:
        """The body; None when it is larger than allowed. Raises TimeoutError when its sender takes too long."""
        bytes_max = self._settings.webhook_bytes_max
        announced = request.headers.get("content-length", "0")
        if len(announced) > 12 or int(announced) > bytes_max:  # h11 lets only digits pass
            return None
        body = bytearray()
        async with asyncio.timeout(self._settings.webhook_read_s):
            async for piece in request.stream():
                body += piece
                if len(body) > bytes_max:
                    return None
        return bytes(body)


def build(store: Store, settings: Settings, receiver: Receiver, *, webhook_only: bool) -> Starlette:
    """The application; ``webhook_only`` shows nothing of the queue, for a port that the world can reach."""
    door = Door(store, settings, receiver)
    routes = [
        Route(WEBHOOK_PATH, door.webhook, methods=["POST"]),
        Route("/health/live", door.live),
        Route("/health", door.health),
    ]
    if not webhook_only:
        routes += [Route("/", door.page)]
    return Starlette(routes=routes)
