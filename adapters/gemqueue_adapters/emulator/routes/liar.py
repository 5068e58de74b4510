"""The one place at which lies are told: between the door of a route and its reply."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from gemqueue_adapters.emulator.faults import Fault
from gemqueue_adapters.emulator.routes.connections import Dropped, Spoiled
from gemqueue_adapters.emulator.service.lies import gets_through, told
from gemqueue_adapters.emulator.service.lying import History
from gemqueue_adapters.emulator.service.tales import LISTS, Exchange
from gemqueue_adapters.emulator.wire import ApiError, Json, project_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from gemqueue_adapters.emulator.service.lying import Armed, Lies
    from gemqueue_adapters.emulator.service.tales import Reply

_MADE = {"create": "", "upload": "file", "upload_start": "file"}
"""Where replies hold the resource that was made, which is what is told of it first."""
_HALF = Fault(on="download", do="truncated_chunked")


class Liar:
    """Hands on what is true, or something else."""

    def __init__(self, lies: Lies) -> None:
        self.lies = lies
        self.history = History()

    def forget(self) -> None:
        """Tell the truth from now on, and forget what was told."""
        self.lies.replace([])
        self.history.forget()

    async def reply(self, point: str, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        """What the client is told; `answer` does what was asked, and tells the truth of it."""
        lies = self.lies.at(point, request.scope["path"])
        for armed in lies:
            if not gets_through(armed.lie, point) and (reply := _tell(armed, Exchange(point), request)):
                await request.body()
                return _sent(reply, None)
        response = await answer()
        seen = self._seen(point, request, response)
        for armed in lies:
            if seen is not None and gets_through(armed.lie, point) and (reply := _tell(armed, seen, request)):
                return _sent(reply, response)
        return response

    def _seen(self, point: str, request: Request, response: Response) -> Exchange | None:
        """The exchange, which goes into the history; None if nobody is told of it."""
        if isinstance(response, Dropped):
            return None
        body, good = bytes(getattr(response, "body", b"")), response.status_code == 200
        if point in LISTS:
            return self._page(point, request, response.status_code, body)
        earlier = None
        if good and point in ("get", "get_file"):  # what a key may not see is no longer told of, either
            what = request.scope["path"].partition("/v1")[2].partition("/")[2]
            earlier = self.history.other(what, body)
            self.history.note(what, body)
        elif good and point in _MADE and body:
            self._made(_MADE[point], body)
        return Exchange(point, response.status_code, body, earlier=earlier)

    def _page(self, point: str, request: Request, status: int, body: bytes) -> Exchange:
        project = ""
        with suppress(ApiError):
            project = project_of(request)
        path = f"{project} {request.scope['path']}"
        what = f"{path}?{request.scope['query_string'].decode('latin-1')}"
        token = request.query_params.get("pageToken", "")
        seen = Exchange(point, status, body, token, self.history.other(what, body), self.history.last(path))
        if status == 200:
            self.history.note(what, body)
            self.history.note(path, body)
        return seen

    def _made(self, field: str, body: bytes) -> None:
        with suppress(msgspec.DecodeError, AttributeError):
            value = msgspec.json.decode(body)
            resource = value.get(field, {}) if field else value
            if name := resource.get("name"):
                self.history.note(name, msgspec.json.encode(resource))


def _tell(armed: Armed, seen: Exchange, request: Request) -> Reply | None:
    """The lie, if it may still be told and says anything else than the truth; counted."""
    reply = None if armed.spent else told(armed.lie, seen)
    if reply is not None:
        armed.told += 1
        request.state.lie = armed.lie.kind
    return reply


def _sent(reply: Reply, true: Response | None) -> Response:
    if reply.dropped:
        return Dropped()
    if reply.cut and true is not None:
        return Spoiled(true, _HALF, whole_lines=reply.cut == "line")
    response = Response(reply.body, reply.status, media_type=reply.media_type)
    if true is not None and reply.media_type == Json.media_type and true.status_code == reply.status:
        for name, value in true.headers.items():
            response.headers.setdefault(name, value)
    return response
