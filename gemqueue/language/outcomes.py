"""What a prompt came to, an ``Answer`` or a ``Failed``, and how either is read from the line that was settled."""

from __future__ import annotations

import base64
import copy
from typing import ClassVar, Literal, NoReturn

import msgspec

from gemqueue.errors import GemqueueError, OutcomeExpired, PromptCancelled, PromptFailed
from gemqueue.language.answers import Answer
from gemqueue.language.lines import FailureBody, OutcomeLine
from gemqueue.records import BATCH, Failure
from gemqueue.states import FailureKind


class Failed:
    """One prompt's end without an answer, as ``map`` and ``stream`` return it beside the ``Answer``s.

    ``failure`` says kind, code and message; ``error`` is what awaiting the single prompt raises for it. ``key`` is
    empty when the prompt was refused at the door and has none.
    """

    __slots__ = ("_cause", "failure", "key", "name", "tag")

    ok: ClassVar[Literal[False]] = False

    def __init__(
        self, failure: Failure, name: str | None = None, tag: object = None, cause: GemqueueError | None = None
    ) -> None:
        self.key = failure.key
        self.name = name
        self.tag = tag
        self.failure = failure
        self._cause = cause

    @property
    def error(self) -> GemqueueError:
        """A new exception: PromptFailed, PromptCancelled, OutcomeExpired, or why the prompt was not taken."""
        if self._cause is not None:
            return copy.copy(self._cause)  # the same one raised twice would carry both tracebacks
        if self.failure.kind is FailureKind.CANCELLED:
            return PromptCancelled(self.failure.message or "cancelled", key=self.key, name=self.name)
        return PromptFailed(self.failure)

    def __repr__(self) -> str:
        return f"Failed({self.key!r}, {self.failure.kind}: {self.failure.message})"


Outcome = Answer | Failed


_decode_failure = msgspec.json.Decoder(FailureBody).decode
_KINDS = {str(kind): kind for kind in FailureKind}


def outcome_of(line: OutcomeLine, name: str | None, tag: object, *, emulated: bool) -> Outcome:
    """The outcome that a line holds, for the prompt with this name and tag."""
    response = bytes(line.response)
    if response:
        original = base64.b64decode(line.row_base64) if line.row_base64 else b""
        return Answer(
            line.key, response, name, tag, emulated=emulated, service=line.service or BATCH, original=original
        )
    return _failed(line, name, tag)


def _failed(line: OutcomeLine, name: str | None, tag: object) -> Failed:
    try:
        body = _decode_failure(line.failure)
    except (ValueError, RecursionError):  # msgspec's errors are some of the former
        body = FailureBody(FailureKind.PROVIDER, "the stored outcome has neither a response nor a failure")
    failure = Failure(
        key=line.key,
        kind=_KINDS.get(body.kind, FailureKind.PROVIDER),
        message=body.message,
        code=body.code,
        attempts=body.attempts,
        name=name,
        raw=bytes(line.row),
    )
    return Failed(failure, name, tag)


def expired(key: str, why: str, name: str | None = None, tag: object = None) -> Failed:
    """The outcome of a prompt whose outcome is not there any more."""
    message = f"{key}: {why}"
    cause = OutcomeExpired(message, key=key, name=name)
    return Failed(Failure(key=key, kind=FailureKind.EXPIRED, message=message, name=name), name, tag, cause)


def forgotten(key: str, why: str, name: str | None = None, tag: object = None) -> Failed:
    """The outcome of a prompt that the server took and has forgotten, with the whole queue."""
    return Failed(Failure(key=key, kind=FailureKind.LOST, message=f"{key}: {why}", name=name), name, tag)


def refused(
    error: GemqueueError, kind: FailureKind, name: str | None = None, tag: object = None, key: str = ""
) -> Failed:
    """The outcome of a prompt that the queue did not take, or cannot give out; ``error`` says why."""
    return Failed(Failure(key=key, kind=kind, message=str(error), name=name), name, tag, error)


def raise_for(outcome: Failed) -> NoReturn:
    """Raise what a single await of this prompt raises."""
    raise outcome.error
