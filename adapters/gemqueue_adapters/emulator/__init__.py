"""The Gemini Batch API as a local server: right where the official clients run unchanged, wrong on request.

`serve` and `run` take `Options`. Imports nothing of the queue, so that it can judge it. The pytest plugin is
`gemqueue_adapters.emulator.pytest_plugin`; docs/emulator.md says how to use all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue_adapters.emulator.options import Options

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

__all__ = ["Options", "run", "serve"]


def run(options: Options) -> None:
    """Serve in a loop of its own, until SIGTERM or SIGINT; the whole of `gemqueue emulate`.

    Raises:
        OSError: the port is taken.
        ValueError: the faults file does not hold faults, an open address has no token, or the extra is not installed.
    """
    _server().run(options)


async def serve(options: Options, *, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set, or SIGTERM or SIGINT comes when there is no `stop`. Raises as `run` does."""
    await _server().serve(options, stop=stop)


def _server() -> ModuleType:
    try:
        from gemqueue_adapters.emulator import server  # noqa: PLC0415 - slow to import, and pytest imports this package
    except ModuleNotFoundError as error:
        raise ValueError(f"the emulator needs {error.name}: pip install 'gemqueue[emulator]'") from error
    return server
