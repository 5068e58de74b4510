"""The Gemini Batch API as a local server: right where the official clients run unchanged, wrong on request.

`serve` and `run` take `Options`. Imports nothing of the queue, so that it can judge it.
"""

from gemqueue_adapters.emulator.options import Options
from gemqueue_adapters.emulator.serve import run, serve

__all__ = ["Options", "run", "serve"]
