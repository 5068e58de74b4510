"""gemqueue: a durable job queue that turns single prompts into Gemini Batch API jobs and back.

async with Queue.connect() as queue:
    answer = await queue.generate("Why is the sky blue?", model="gemini-3.5-flash")
"""

from __future__ import annotations

from gemqueue.answers import Answer
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
from gemqueue.futures import Future, Stopped
from gemqueue.looks import Look, PromptState
from gemqueue.models import Failure
from gemqueue.outcomes import Failed, Outcome
from gemqueue.queue import Queue
from gemqueue.states import FailureKind, Kind

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
