"""What a worker cannot go on without, as its heartbeat says it: the server, a refused key, the provider.

A step or a sweep that fails so says what it waited for, and the next one that goes well takes it back.
"""

from __future__ import annotations

from enum import StrEnum

from gemqueue.errors import ProviderError, Transient
from gemqueue.policy.holds import why_call_failed
from gemqueue.policy.servers import SENTENCE_CHARS_MAX
from gemqueue.states import LANE_STEPS, Cause, Step
from gemqueue.store.scripts import NotReplicated, ServerRefuses


class Wait(StrEnum):
    """What of a worker may wait, the worst first."""

    SWEEP = "sweep"
    PAUSE = "pause"
    STEP = "step"


class Waits:
    """One worker's; ``text`` is the worst of them, short, or empty."""

    def __init__(self) -> None:
        self._waits: dict[Wait, str] = {}

    @property
    def text(self) -> str:
        """What is waited for."""
        return next((self._waits[wait] for wait in Wait if wait in self._waits), "")

    def begin(self, wait: Wait, why: str) -> bool:
        """It waits, and why, in one short line; whether that is news."""
        before = self.text
        self._waits[wait] = " ".join(why.split())[:SENTENCE_CHARS_MAX]
        return self.text != before

    def end(self, wait: Wait) -> bool:
        """It waits no longer; whether that is news."""
        return self._waits.pop(wait, "") != ""

    def step_failed(self, error: Exception) -> None:
        """A step was put back. A batch's own fault, or a quota, is nothing that the worker waits for."""
        if isinstance(error, ServerRefuses):
            self.begin(Wait.STEP, f"server: {error}")
        elif isinstance(error, NotReplicated):
            self.begin(Wait.STEP, f"{Cause.REPLICA}: {error}")
        elif isinstance(error, ProviderError):
            hold = why_call_failed(error)
            if hold.cause is Cause.ACCOUNT or (hold.cause is Cause.PROVIDER and isinstance(error, Transient)):
                self.begin(Wait.STEP, hold.text)

    def step_done(self, step: Step) -> None:
        """A step of a batch came to its end: the provider and the server answer."""
        if step not in LANE_STEPS:
            self.end(Wait.STEP)
