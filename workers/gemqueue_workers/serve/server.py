"""uvicorn with limits: nobody holds a connection by sending slowly, by reading slowly, or by doing nothing.

A connection's life: it has ``webhook_read_s`` to bring its headers, then the request has its own limits, and half a
minute after its request began it is dropped, whatever it is doing. Above ``serve_connections_max`` connections requests
are answered with 503, but for ``/health/live`` (``guard``); above twice as many, whoever waits longest without a whole
request is dropped for a new one, so that a probe is answered whatever others do.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gemqueue.errors import ConfigError
from gemqueue.tasks import ending_signals
from gemqueue_workers.serve.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from starlette.types import ASGIApp

    from gemqueue.config import Settings

_ANSWER_S_MAX: Final = 30.0
_KEEP_ALIVE_S: Final = 5
_HEADER_BYTES_MAX: Final = 32 * 1024
_DRAIN_S: Final = 5


class Bounded(H11Protocol):
    """One connection, with deadlines for its headers and for its answer; h11 bounds the headers' size."""

    headers_s = 5.0
    connections_max = 512
    waiting: ClassVar[dict[Bounded, None]] = {}
    """The connections of this server that have not brought a request, oldest first."""

    def connection_made(self, transport: Any) -> None:
        """Count on the headers from now on."""
        super().connection_made(transport)
        self._late: asyncio.TimerHandle | None = None
        self._answering: Any = None
        self._waits = True
        self.waiting[self] = None
        if len(self.connections) > 2 * self.connections_max:
            next(iter(self.waiting)).transport.abort()
        self._drop_in(self.headers_s)

    def data_received(self, data: bytes) -> None:
        """A request that has begun has its own deadline; bytes that begin none have that of headers."""
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn declares
        if cycle is not None and cycle is not self._answering:
            self._answering, self._waits = cycle, False
            self.waiting.pop(self, None)
            self._drop_in(_ANSWER_S_MAX)
        elif not self._waits and self._answering.response_complete:
            self._waits = True
            self.waiting[self] = None
            self._drop_in(self.headers_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.waiting.pop(self, None)
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _drop_in(self, seconds: float) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(seconds, self.transport.abort)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        with nullcontext():
            yield


async def serve_app(
    app: ASGIApp, settings: Settings, listener: socket.socket, ready_file: Path | None, hosts: Iterable[str] = ()
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; requests under way may end. ``hosts`` are further names of this server."""
    connections_max = settings.serve_connections_max
    limits: dict[str, Any] = {"headers_s": settings.webhook_read_s, "connections_max": connections_max, "waiting": {}}
    protocol = type("Connection", (Bounded,), limits)
    config = uvicorn.Config(
        Guard(
            app, connections=lambda: len(server.server_state.connections), connections_max=connections_max, hosts=hosts
        ),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for each in ending_signals():
        loop.add_signal_handler(each, lambda: setattr(server, "should_exit", True))
    if ready_file is not None:
        loop.call_soon(_announce, ready_file, listener)  # the socket listens already
    await server.serve([listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError where it cannot."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{host} port {port} cannot be listened on: {error.strerror or error}") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(ready_file: Path, listener: socket.socket) -> None:
    draft = ready_file.with_name(f"{ready_file.name}.{os.getpid()}.tmp")
    draft.write_bytes(msgspec.json.encode({"url": url_of(listener), "pid": os.getpid()}))
    draft.replace(ready_file)
