"""Serves the emulator, on this machine alone unless told otherwise, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn

from gemqueue_adapters.emulator.app import build
from gemqueue_adapters.emulator.routes.connections import Protocol
from gemqueue_adapters.emulator.webhooks.deliveries import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from gemqueue_adapters.emulator.options import Options

KEEP_ALIVE_S = 75
SWITCH_S = 0.0005
"""The thread that runs jobs gives way to the requests this often; the default of 5 ms would slow uploads."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        with nullcontext():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell that requests are accepted."""
        await super().startup(sockets)
        self._tell_started()


async def serve(options: Options, *, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set, or SIGTERM or SIGINT comes when there is no `stop`.

    Raises:
        OSError: the port is taken.
        ValueError: the faults file does not hold faults, or an open address has no token.
    """
    if options.token is None and not is_loopback(f"http://{_in_url(options.host)}"):
        raise ValueError(f"{options.host} is open to others: /_emulator needs a token there")
    with ExitStack() as stack:
        data = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gemini-emulator-")))
        listener = stack.enter_context(_listener(options.host, options.port))
        url = f"http://{_in_url(options.host)}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            build(options, data),
            http=Protocol,
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, lambda: _announce(options.ready_file, url))
        stack.callback(_withdraw, options.ready_file)
        watch = asyncio.create_task(_stop_when(stop, server))
        try:
            await server.serve([listener])
        finally:
            watch.cancel()


def run(options: Options) -> None:
    """Serve in a loop of its own; the whole of `gemqueue emulate`."""
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(options))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


async def _stop_when(stop: asyncio.Event | None, server: uvicorn.Server) -> None:
    if stop is None:
        stop = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()
    server.should_exit = True


def _announce(ready_file: Path | None, url: str) -> None:
    if ready_file is not None:
        draft = ready_file.with_name(f"{ready_file.name}.{os.getpid()}.tmp")
        draft.write_bytes(msgspec.json.encode({"url": url, "pid": os.getpid()}))
        draft.replace(ready_file)


def _withdraw(ready_file: Path | None) -> None:
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
