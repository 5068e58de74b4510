"""What is installed only where it is asked for, and the sentence that says so where it is missing.

A producer's environment should hold what a producer needs: arq, for one, forbids every redis-py from 6 on.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from gemqueue.errors import ConfigError

EXTRAS: Final = {
    "worker": ("arq",),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "emulator": ("starlette", "uvicorn"),
    "webhooks": ("cryptography",),
    "seal": ("cryptography",),
}
"""The extras of pyproject.toml, and the modules of each that nothing works without; the others only make it faster."""


def missing(extra: str, what: str) -> str:
    """Why ``what`` cannot be done here, with the line that installs what it needs; empty where that is there."""
    lacking = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if not lacking:
        return ""
    return f"{what} needs {' and '.join(lacking)}: pip install 'gemqueue[{extra}]'"


def need(extra: str, what: str) -> None:
    """Raise ConfigError, with the sentence of ``missing``, where ``what`` cannot be done here."""
    if said := missing(extra, what):
        raise ConfigError(said)
