"""Something between an adapter and the service that answers in its place: a gateway, a cache, a replica that lags.

``LyingTransport`` writes down every exchange, and from one of them on tells a lie: once, or for some time whenever the
same route is asked. A lie's effect is the service's: where it says so, the request is carried out, and only its reply
is another. Replies carry the emulator's mark, since without it they would be refused unread.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue_adapters.gemini import GeminiProvider

MARK = {"x-gemini-emulator": "1"}
_HTML = b"<html><head><title>Sorry</title></head><body>" + b"We will be back soon.<br>\n" * 40 + b"</body></html>"
_OTHER = b'{"status":"ok","items":[],"message":"not this service"}'
_ROUTES = (
    ("GET", r"/batches\?pageSize=1$", "probe"),
    ("GET", r"/batches\?", "list"),
    ("GET", r"/batches/[^/?:]+$", "poll"),
    ("POST", r"/batches/[^/?:]+:cancel$", "cancel"),
    ("DELETE", r"/batches/", "delete_job"),
    ("GET", r":download\?", "download"),
    ("GET", r"/files\?", "files"),
    ("GET", r"/files/", "get_file"),
    ("DELETE", r"/files/", "delete_file"),
    ("POST", r":(?:batchGenerateContent|asyncBatchEmbedContent)$", "create"),
    ("POST", r":(?:generateContent|embedContent)$", "answer"),
)


class Lie(NamedTuple):
    """A kind of lie; ``takes_effect`` says whether the service carries out what was asked.

    ``make`` gives the reply: from the request, the true reply, and the earlier true replies to the same URL.
    """

    make: Callable[[httpx.Request, httpx.Response, list[httpx.Response]], httpx.Response]
    takes_effect: bool = True


def reply(status: int, body: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
    """A reply with the mark."""
    return httpx.Response(status, headers={**MARK, "content-type": kind, **headers}, content=body)


def page(status: int, body: bytes = _HTML, kind: str = "text/html") -> Lie:
    """Another service's page, in the place of whatever the service said."""

    def make(_request: httpx.Request, _true: httpx.Response, _past: list[httpx.Response]) -> httpx.Response:
        return reply(status, body, kind)

    return Lie(make)


def word(code: int, status: str, message: str) -> Lie:
    """The API's own refusal, of something that it has not done."""
    body = msgspec.json.encode({"error": {"code": code, "message": message, "status": status}})
    return page(code, body, "application/json")._replace(takes_effect=False)


def changed(change: Callable[[dict[str, Any]], Any]) -> Lie:
    """The true reply's JSON, changed."""

    def make(_request: httpx.Request, true: httpx.Response, _past: list[httpx.Response]) -> httpx.Response:
        if not true.is_success:
            return true
        return reply(200, msgspec.json.encode(change(msgspec.json.decode(true.content))))

    return Lie(make)


def rows(change: Callable[[list[bytes]], list[bytes]]) -> Lie:
    """The true result file's lines, changed; with a length that fits."""

    def make(_request: httpx.Request, true: httpx.Response, _past: list[httpx.Response]) -> httpx.Response:
        if not true.is_success:
            return true
        lines = change(true.content.splitlines(keepends=True))
        return reply(200, b"".join(lines), "application/jsonl")

    return Lie(make)


def _lost(request: httpx.Request, _true: httpx.Response, _past: list[httpx.Response]) -> httpx.Response:
    raise httpx.ReadTimeout("the reply is lost", request=request)


def _first(_request: httpx.Request, true: httpx.Response, past: list[httpx.Response]) -> httpx.Response:
    return past[0] if past else true


def _ended(state: str, code: int = 0, message: str = "") -> Lie:
    def change(operation: dict[str, Any]) -> dict[str, Any]:
        metadata = {name: value for name, value in operation.get("metadata", {}).items() if name != "output"}
        ended = {"name": operation["name"], "done": True, "metadata": metadata | {"state": f"BATCH_STATE_{state}"}}
        return ended | ({"error": {"code": code, "message": message}} if code else {})

    return changed(change)


def _runs(operation: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in operation.get("metadata", {}).items() if name != "output"}
    return {"name": operation["name"], "metadata": metadata | {"state": "BATCH_STATE_RUNNING"}}


def _miscounted(operation: dict[str, Any]) -> dict[str, Any]:
    stats = {"requestCount": "1", "successfulRequestCount": "1"}
    return operation | {"metadata": operation.get("metadata", {}) | {"batchStats": stats}}


def _listed(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Lie:
    return changed(lambda shown: shown | {"operations": change(shown.get("operations", []))})


def _listed_as_failed(entry: dict[str, Any]) -> dict[str, Any]:
    state = {"state": "BATCH_STATE_FAILED"}
    return {"name": entry["name"], "done": True, "metadata": entry["metadata"] | state, "error": {"code": 13}}


LOST = Lie(_lost)
PAGES = {
    "html 200": page(200),
    "html 401": page(401),
    "html 403": page(403),
    "html 404": page(404),
    "html 503": page(503),
    "json 200": page(200, _OTHER, "application/json"),
    "json 404": page(404, b'{"error":{"code":404,"message":"Not Found"}}', "application/json"),
    "lost": LOST,
}
"""What may stand in the place of any reply."""
_DENIED = word(404, "NOT_FOUND", "Requested entity was not found.")
_FORBIDDEN = word(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.")
_PROCESSING = changed(lambda shown: shown | {"file": shown.get("file", shown) | {"state": "PROCESSING"}})
KINDS: dict[str, dict[str, Lie]] = {
    "probe": PAGES,
    "upload_start": PAGES,
    "upload": PAGES | {"never ready": _PROCESSING},
    "get_file": PAGES | {"never ready": changed(lambda shown: shown | {"state": "PROCESSING"})},
    "create": PAGES
    | {
        "looks right": page(200, b'{"name":"operations/1","done":false}', "application/json"),
        "denied": _DENIED,
        "refused": word(400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    },
    "poll": PAGES
    | {
        "looks right": changed(lambda shown: {"name": shown["name"], "done": True}),
        "denied": _DENIED,
        "blank": page(200, b"{}", "application/json"),
        "stale": Lie(_first),
        "runs again": changed(_runs),
        "failed": _ended("FAILED", 13, "Internal error."),
        "expired": _ended("EXPIRED"),
        "cancelled": _ended("CANCELLED"),
        "blames input": _ended("FAILED", 5, "input file not found"),
        "no output": _ended("SUCCEEDED"),
        "miscounted": changed(_miscounted),
    },
    "list": PAGES
    | {
        "error in 200": page(200, b'{"error":{"code":503,"message":"try again"}}', "application/json"),
        "blank": page(200, b"{}", "application/json"),
        "blank, goes on": page(200, b'{"operations":[],"nextPageToken":"x"}', "application/json"),
        "lacks": _listed(lambda entries: entries[1:]),
        "repeats": _listed(lambda entries: [entry for entry in entries for _ in range(2)]),
        "stale": Lie(_first),
        "failed": _listed(lambda entries: [_listed_as_failed(entry) for entry in entries]),
    },
    "download": PAGES
    | {
        "denied": _DENIED,
        "forbidden": _FORBIDDEN,
        "short": rows(lambda lines: lines[: len(lines) // 2]),
        "empty": rows(lambda _lines: []),
        "repeats": rows(lambda lines: lines[:1] * len(lines)),
        "torn": rows(lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]] if lines else []),
        "json lines": rows(lambda lines: [b'{"error":{"code":503,"message":"try again"}}\n'] * (2 * len(lines))),
    },
    "delete_file": PAGES | {"denied": _DENIED, "forbidden": _FORBIDDEN},
    "delete_job": PAGES | {"denied": _DENIED},
    "cancel": PAGES | {"denied": _DENIED},
    "files": PAGES | {"blank": page(200, b"{}", "application/json")},
    "answer": PAGES | {"torn": page(200, b'{"candidates":[{"content":{"parts":[{"text":"half', "application/json")},
}
"""By route: the lies that fit it."""


def route_of(request: httpx.Request) -> str:
    """Which call of the port a request belongs to."""
    if command := request.headers.get("x-goog-upload-command"):
        return "upload_start" if command == "start" else "upload"
    path = request.url.raw_path.decode("ascii")
    return next(name for method, shape, name in _ROUTES if request.method == method and re.search(shape, path))


class LyingTransport(httpx.AsyncBaseTransport):
    """Passes requests on. From the ``nth`` of a route on it tells ``lie``: once, or for ``lasts_s`` of ``now_s``."""

    def __init__(self, inner: httpx.AsyncBaseTransport, now_s: Callable[[], float]) -> None:
        self.exchanges: list[str] = []
        """Each as ``route:n``, counted from 1."""
        self.told = 0
        self.script: dict[str, tuple[bool, Lie]] = {}
        """What befalls exchanges whatever is told: whether the service hears of it, and the reply."""
        self._inner = inner
        self._now_s = now_s
        self._counts: Counter[str] = Counter()
        self._past: dict[str, list[httpx.Response]] = {}
        self._at, self._lie, self._lasts_s, self._until_s = "", LOST, 0.0, 0.0

    def tell(self, at: str, lie: Lie, lasts_s: float) -> None:
        """Lie from the exchange ``at`` on; for 0 seconds is once."""
        self._at, self._lie, self._lasts_s = at, lie, lasts_s

    @classmethod
    def before(cls, provider: GeminiProvider, now_s: Callable[[], float]) -> LyingTransport:
        """Put one between a provider and its service, where a proxy would be."""
        client: Any = provider
        client = client._http._client
        made = cls(client._transport, now_s)
        client._transport = made
        return made

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        route = route_of(request)
        self._counts[route] += 1
        at = f"{route}:{self._counts[route]}"
        self.exchanges.append(at)
        if at in self.script:
            arrives, lie = self.script[at]
            true = await self._forward(request) if arrives else reply(503, b"")
            return self._said(lie, request, true)
        if not self._lies_at(route, at):
            return await self._forward(request)
        self.told += 1
        true = await self._forward(request) if self._lie.takes_effect else reply(503, b"")
        return self._said(self._lie, request, true)

    def _lies_at(self, route: str, at: str) -> bool:
        if at == self._at:
            self._until_s = self._now_s() + self._lasts_s
            return True
        return route == self._at.partition(":")[0] and self._now_s() < self._until_s

    def _said(self, lie: Lie, request: httpx.Request, true: httpx.Response) -> httpx.Response:
        made: httpx.Response = lie.make(request, true, self._past.get(str(request.url), [])[:-1])
        copy = httpx.Response(made.status_code, headers=made.headers, content=made.content)
        copy.request = request
        return copy

    async def _forward(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        try:
            body = await response.aread()
        finally:
            await response.aclose()
        framing = {"content-length", "transfer-encoding", "content-encoding"}
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in framing]
        true = httpx.Response(response.status_code, headers=headers, content=body)
        self._past.setdefault(str(request.url), []).append(true)
        return true

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
