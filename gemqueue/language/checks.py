"""What is checked at the door, whatever language a prompt is written in. Pure."""

from __future__ import annotations

import re
from typing import Final

from gemqueue.errors import ConfigError, PromptInvalid, PromptTooLarge
from gemqueue.states import Kind

_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_EMBEDS: Final = re.compile(r"(gemini|text)-embedding-|embedding-\d")
_GENERATES: Final = re.compile(r"gemini-\d[\d.]*-(pro|flash|flash-lite)(-image)?(-preview)?")
_QUEUE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAME_CHARS_MAX: Final = 256


def check_size(body: bytes, max_bytes: int) -> None:
    """Refuse a request of more than ``max_bytes``.

    Raises:
        PromptTooLarge: naming both sizes.
    """
    if len(body) > max_bytes:
        raise PromptTooLarge(
            f"the request is {len(body)} bytes, over prompt_bytes_max = {max_bytes}; "
            "split it, or upload the media as a file and point at it with fileData"
        )


def check_model(model: str) -> str:
    """The bare model id: ``models/gemini-3.8-flash`` and ``gemini-3.8-flash`` both give the latter.

    Raises:
        PromptInvalid: not a model id.
    """
    bare = model.removeprefix("models/") if isinstance(model, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not type-check
    if not _MODEL.fullmatch(bare):
        raise PromptInvalid(
            'model must be an id such as "gemini-3.8-flash": lower-case letters, digits, ".", "_" and "-", '
            "at most 128 characters"
        )
    return bare


def check_kind(model: str, kind: Kind) -> None:
    """Refuse a model that is known to be of the other kind; a whole batch would come to nothing (404).

    Raises:
        PromptInvalid: naming the way out.
    """
    if kind is Kind.GENERATE and _EMBEDS.match(model):
        raise PromptInvalid(f"{model} makes embeddings, it answers no prompts: use embed (--embed), or another model")
    if kind is Kind.EMBED and _GENERATES.fullmatch(model):
        raise PromptInvalid(f"{model} makes no embeddings: take an embedding model, such as gemini-embedding-2")


def check_name(name: str) -> str:
    """The caller's own idempotency key, as it is.

    Raises:
        PromptInvalid: not 1 to 256 printable characters, or blank.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not type-check
        raise PromptInvalid(f"name must be a string, not {type(name).__name__}")
    if not 1 <= len(name) <= _NAME_CHARS_MAX or not name.isprintable() or name.isspace():
        raise PromptInvalid(f"name must be 1 to {_NAME_CHARS_MAX} printable characters, not blank; shorten or hash it")
    return name


def check_queue_name(name: str) -> str:
    """The queue's name, as it is.

    Raises:
        ConfigError: not lower-case letters, digits, "_" and "-", at most 64 characters, a letter or digit first.
    """
    if not isinstance(name, str) or not _QUEUE_NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not type-check
        raise ConfigError(
            'the queue name must be 1 to 64 lower-case letters, digits, "_" and "-", beginning with a letter or digit'
        )
    return name
