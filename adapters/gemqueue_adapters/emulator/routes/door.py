"""The door of every route: draws its fault and its lies, lets the handler do its work or not, and notes the request."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gemqueue_adapters.emulator.faults import MONEY, SPOILED
from gemqueue_adapters.emulator.routes.connections import Dropped, Spoiled
from gemqueue_adapters.emulator.wire import BAD_KEY, NOT_FOUND, ApiError, Json, money_error, quota_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.faults import Fault, Faults
    from gemqueue_adapters.emulator.routes.liar import Liar

    Handler = Callable[[Request], Awaitable[Response]]

LOG_MAX = 5000
POLL_S = 0.01
GONE = (403, 404)
MESSAGES = {
    408: "The request timed out.",
    500: "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}


class Door:
    """Wraps handlers; keeps the log of the last requests, without bodies and keys."""

    def __init__(self, faults: Faults, clock: Clock, liar: Liar) -> None:
        self.requests: deque[dict[str, Any]] = deque(maxlen=LOG_MAX)
        self._liar = liar
        self._faults = faults
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    def guard(self, point: str, handler: Handler) -> Handler:
        """`handler` with the faults of `point` in front of it, and its lies behind it."""

        async def endpoint(request: Request) -> Response:
            """One exchange: the true reply, spoiled by a fault, or a lie in its place; and a line in the log."""
            fault = self._faults.at_route(point, request.url.path)
            request.state.fault = fault

            async def truth() -> Response:
                try:
                    return await self._answer(fault, handler, request)
                except ApiError as error:
                    return error.response()

            try:
                response = await self._liar.reply(point, request, truth)
            except ClientDisconnect:
                response = Response(status_code=499)
            self._note(point, request, response, fault)
            return response

        return endpoint

    def cancel(self) -> None:
        """Give up the effects that are still to come."""
        for task in self._late:
            task.cancel()

    async def _answer(self, fault: Fault | None, handler: Handler, request: Request) -> Response:
        if fault is None:
            return await handler(request)
        match fault.do:
            case "lost_before":
                return Dropped()
            case "lost_after":
                await _effect(handler, request)
                return Dropped()
            case "delayed":
                await request.body()
                task = asyncio.create_task(self._later(fault.seconds, handler, request))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
                return Dropped()
            case do if do in SPOILED:
                return Spoiled(await handler(request), fault)
            case do if do in MONEY:
                await request.body()
                raise money_error(do)
            case do if do.isdigit():
                await (_effect(handler, request) if fault.effect else request.body())
                raise _error(fault)
            case _:
                return await _otherwise(fault, handler, request)

    async def _later(self, seconds: float, handler: Handler, request: Request) -> None:
        due_ms = self._clock.now_ms() + seconds * 1000
        while self._clock.now_ms() < due_ms:  # noqa: ASYNC110 - the clock may be moved by another process
            await asyncio.sleep(POLL_S)
        await _effect(handler, request)

    def _note(self, point: str, request: Request, response: Response, fault: Fault | None) -> None:
        entry: dict[str, Any] = {
            "time_ms": self._clock.now_ms(),
            "point": point,
            "method": request.method,
            "path": request.url.path,
            "status": None if isinstance(response, Dropped) else response.status_code,
        }
        if (name := getattr(request.state, "display_name", None)) is not None:
            entry["display_name"] = name
        if fault is not None:
            entry["fault"] = fault.do
        if (lie := getattr(request.state, "lie", None)) is not None:
            entry["lie"] = lie
        self.requests.append(entry)


async def _otherwise(fault: Fault, handler: Handler, request: Request) -> Response:
    """The handler's reply, but for the refusal that the fault is about, if it is about one: that has its code."""
    try:
        return await handler(request)
    except ApiError as error:
        bad_key = any(detail.get("reason") == BAD_KEY for detail in error.details)
        about = {"bad_key": bad_key, "gone": error.code in GONE and not bad_key}
        if not about.get(fault.do, False):
            raise
        if fault.code == 200:
            return Json({})
        raise ApiError(fault.code, fault.message or NOT_FOUND) from error


async def _effect(handler: Handler, request: Request) -> None:
    try:
        await handler(request)
    except ApiError:
        return


def _error(fault: Fault) -> ApiError:
    code = int(fault.do)
    if code == 429:
        return quota_error(retry_after_s=fault.retry_after_s, retry_info_s=fault.retry_info_s)
    headers = {} if fault.retry_after_s is None else {"Retry-After": f"{fault.retry_after_s:g}"}
    return ApiError(code, fault.message or MESSAGES.get(code, "The request was refused."), headers=headers)
