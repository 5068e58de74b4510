"""The shapes of the rows of a result file: only the fields that a verdict rests on. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gemqueue.language.gemini.usage import Usage  # noqa: TC001 - msgspec reads the annotations

ABSENT: Final = Raw()


class Part(msgspec.Struct, gc=False, rename="camel"):
    """A part of an answer, its content undecoded."""

    text: str | None = None
    thought: bool | None = None
    inline_data: Raw = ABSENT
    file_data: Raw = ABSENT
    function_call: Raw = ABSENT
    function_response: Raw = ABSENT
    executable_code: Raw = ABSENT
    code_execution_result: Raw = ABSENT
    tool_call: Raw = ABSENT
    tool_response: Raw = ABSENT
    audio_transcription: Raw = ABSENT


class Content(msgspec.Struct, gc=False):
    """The content of a candidate."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    """One candidate of a response."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class PromptFeedback(msgspec.Struct, gc=False, rename="camel"):
    """Why a prompt was not answered."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class Text(msgspec.Struct, gc=False):
    """A part that is text and no more."""

    text: str | None = None
    thought: bool | None = None


class Texts(msgspec.Struct, gc=False):
    """A content of such parts."""

    parts: list[Text] | None = None


class TextCandidate(msgspec.Struct, gc=False, rename="camel"):
    """A candidate that is text and ends as usual."""

    content: Texts | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class Embedding(msgspec.Struct, gc=False):
    """An embedding, undecoded."""

    values: Raw = ABSENT


class PlainResponse(msgspec.Struct, gc=False, rename="camel"):
    """A response whose parts are read for their text alone: all that most rows need, at a third of the cost."""

    candidates: list[TextCandidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    embedding: Embedding | None = None
    usage_metadata: Usage | None = None
    model_version: str | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """Any response."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    embedding: Embedding | None = None
    usage_metadata: Raw = ABSENT
    model_version: Raw = ABSENT


class TextRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row that is a key and a response and nothing else. Its line says the same wherever such lines are read."""

    key: str
    response: PlainResponse


class Metadata(msgspec.Struct, gc=False):
    """Where some dialects have the key."""

    key: str | None = None


class Status(msgspec.Struct, gc=False):
    """A google.rpc status."""

    code: int | str | None = None
    message: str | None = None
    status: str | None = None


class Row(msgspec.Struct, gc=False):
    """One line of a result file."""

    key: str | None = None
    metadata: Raw = ABSENT
    response: Raw = ABSENT
    error: Raw = ABSENT
    status: Raw = ABSENT
