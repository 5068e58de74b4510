"""The routes of ``gemqueue serve``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.metrics import CONTENT_TYPE, exposition
from gemqueue_workers.serve.page import error_page, status_page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request

    from gemqueue.config import Settings
    from gemqueue.store.store import Store
    from gemqueue_workers.serve.receiver import Receiver

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.serve")

T = TypeVar("T")
WEBHOOK_PATH: Final = "/webhook"
_STORE_S_MAX: Final = 2.0
_TAKE_S_MAX: Final = 10.0
_LOOK_S_MAX: Final = 10.0
_LOOK_KEEP_S: Final = 2.0
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


class _Shared(Generic[T]):
    """One look at the queue for all who ask at the same time, at most two seconds old."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._read = read
        self._task: asyncio.Task[T] | None = None
        self._since_s = 0.0

    async def get(self) -> T:
        """What was seen. Raises what the look raises."""
        now_s = asyncio.get_running_loop().time()
        if self._task is None or (self._task.done() and now_s - self._since_s > _LOOK_KEEP_S):
            self._since_s = now_s
            self._task = asyncio.create_task(self._read())
        return await asyncio.shield(self._task)


class Door:
    """The handlers. Nothing that comes in changes anything but when a batch is looked at next."""

    def __init__(self, store: Store, settings: Settings, receiver: Receiver) -> None:
        self._store = store
        self._settings = settings
        self._receiver = receiver
        self._status = _Shared(lambda: read_status(settings))
        self._exposition = _Shared(lambda: exposition(store))

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
            async with asyncio.timeout(_TAKE_S_MAX):
                return Response(status_code=await self._receiver.take(request.headers.raw, body))
        except (StoreUnavailable, TimeoutError):
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
            async with asyncio.timeout(_LOOK_S_MAX):
                text = status_page(await self._status.get())
        except (GemqueueError, TimeoutError) as error:
            why = str(error) or "the store does not answer in time"
            return Response(error_page(self._settings.queue, why), 503, _PAGE_HEADERS, "text/html")
        return Response(text, 200, _PAGE_HEADERS, "text/html")

    async def metrics(self, _request: Request) -> Response:
        """Every counter and gauge, as Prometheus reads them."""
        try:
            async with asyncio.timeout(_LOOK_S_MAX):
                return Response(await self._exposition.get(), headers={"content-type": CONTENT_TYPE})
        except (GemqueueError, TimeoutError):
            return Response("the store does not answer", 503)

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
        routes += [Route("/", door.page), Route("/metrics", door.metrics)]
    return Starlette(routes=routes, exception_handlers={Exception: _failed})


async def _failed(request: Request, error: Exception) -> Response:
    """A defect: its place is logged, and the provider sends the event again."""
    log.error("request.failed", path=request.url.path, exc_info=error)
    return Response(status_code=500, headers=_CLOSE)
