"""What is refused before a route is looked for: requests of two lengths, too many at a time, and strange hosts.

A page of another site may have its name lead to this host (DNS rebinding) and then read what is served here; its
browser still says that name as Host. So page and metrics are for addresses, this host's own names, and those allowed.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from gemqueue.urls import host_and_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

_CLOSE: Final = {"connection": "close"}
LIVE_PATH: Final = "/health/live"
_PUBLIC: Final = frozenset({"/webhook", "/health", LIVE_PATH})
"""What shows nothing of the queue."""


class Guard:
    """The application behind these checks; ``connections`` says how many there are."""

    def __init__(
        self, app: ASGIApp, connections: Callable[[], int], *, connections_max: int, hosts: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._connections = connections
        self._connections_max = connections_max
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass it on."""
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy in front may count by the other one, and take the rest for somebody else's request.
            return Response("Content-Length and Transfer-Encoding exclude each other", 400, _CLOSE)
        if path != LIVE_PATH and self._connections() >= self._connections_max:
            return Response("Service Unavailable", 503, _CLOSE)
        if path not in _PUBLIC and not self._is_ours(headers.get("host", "")):
            return Response("not under this name: use an address, or allow it with --allow-host NAME", 421, _CLOSE)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name, _ = host_and_port(host)
        except ValueError:
            return False
        return name in self._hosts or is_address(name)


def is_address(host: str) -> bool:
    """Whether it is an IP address, which no other site's name can be."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this host can reach what listens there."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host.partition("%")[0]).is_loopback)
