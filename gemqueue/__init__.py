"""gemqueue: a durable job queue that turns single prompts into Gemini Batch API jobs and back.

async with Queue.connect() as queue:
    answer = await queue.generate("Why is the sky blue?", model="gemini-3.8-flash")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gemqueue.config import Settings, load_settings
from gemqueue.errors import (
    ConfigError,
    GemqueueError,
    NameConflict,
    OutcomeError,
    OutcomeExpired,
    PromptCancelled,
    PromptFailed,
    PromptInvalid,
    PromptTooLarge,
    QueueFull,
    StoreError,
    StoreUnavailable,
    SubmitError,
)
from gemqueue.language.answers import Answer
from gemqueue.language.outcomes import Failed, Outcome
from gemqueue.records import Failure
from gemqueue.states import FailureKind, Kind

if TYPE_CHECKING:
    from gemqueue.client.futures import Future, Stopped
    from gemqueue.client.looks import Look, PromptState
    from gemqueue.client.queue import Queue

__all__ = [
    "Answer",
    "ConfigError",
    "Failed",
    "Failure",
    "FailureKind",
    "Future",
    "GemqueueError",
    "Kind",
    "Look",
    "NameConflict",
    "Outcome",
    "OutcomeError",
    "OutcomeExpired",
    "PromptCancelled",
    "PromptFailed",
    "PromptInvalid",
    "PromptState",
    "PromptTooLarge",
    "Queue",
    "QueueFull",
    "Settings",
    "Stopped",
    "StoreError",
    "StoreUnavailable",
    "SubmitError",
    "load_settings",
]

_PUBLIC_MODULE = "gemqueue"
"""What public classes say of themselves, so that no move of a file breaks a pickle."""


def _made_public(name: str, found: object) -> object:
    if isinstance(found, type):
        found.__module__ = _PUBLIC_MODULE
    globals()[name] = found
    return found


for _name in __all__:
    if _name in globals():
        _made_public(_name, globals()[_name])

_CLIENT = {"Future": "futures", "Look": "looks", "PromptState": "looks", "Queue": "queue", "Stopped": "futures"}

if not TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> object:
        """Import the client when it is asked for: workers need none of it, and help needs neither asyncio nor redis."""
        if name not in _CLIENT:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _made_public(name, getattr(importlib.import_module(f"gemqueue.client.{_CLIENT[name]}"), name))

    def __dir__() -> list[str]:
        """Name the client, too, to whoever looks around."""
        return sorted({*globals(), *__all__})
