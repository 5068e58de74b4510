"""Input lines and responses, as far as the simulated provider reads and writes them."""

from __future__ import annotations

from typing import Any

import msgspec

REFUSED = "refuse me"
"""A prompt with this in it is refused by the provider."""


class Line(msgspec.Struct):
    """An input line, as far as it matters."""

    key: str
    request: Any


def text_of(request: Any) -> str:
    """The prompt's text."""
    text: str = request["contents"][0]["parts"][0]["text"]
    return text


def answer_to(text: str) -> str:
    """The one right answer."""
    return f"answer to {text}"


def response_of(text: str) -> dict[str, Any]:
    """A response with this answer."""
    return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}


def blocked() -> dict[str, Any]:
    """A response that answers nothing."""
    return {"promptFeedback": {"blockReason": "SAFETY"}}
