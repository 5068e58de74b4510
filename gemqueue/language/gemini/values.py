"""What callers hand over, as plain values: enums, models and dataclasses become what JSON knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, cast

from gemqueue.errors import PromptInvalid

_PLAIN_TYPES: Final = frozenset({str, int, float, bool, dict, list, tuple, bytes, type(None)})


def plain(value: object, path: str) -> object:
    """An enum as its value, an object with ``model_dump`` as the dict of its set fields, all else as it is."""
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, Enum):
        return cast("object", value.value)
    dump: Callable[..., object] | None = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        return value
    try:
        return dump(exclude_none=True, by_alias=True, warnings=False)
    except Exception as error:  # a foreign object's code may raise anything
        raise PromptInvalid(f"{path}: model_dump() of {type(value).__name__} failed: {type(error).__name__}") from error


def text_of(value: object, path: str) -> str:
    """A string that UTF-8 can carry."""
    if not isinstance(value, str):
        raise PromptInvalid(f"{path} must be a string, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise PromptInvalid(
                f"{path} holds half of a surrogate pair at character {error.start}, which UTF-8 cannot carry; "
                'clean it, for example with text.encode("utf-8", "replace").decode()'
            ) from error
    return str(value)


def mapping_of(value: object, path: str, what: str) -> Mapping[object, object]:
    """A dict or other mapping; ``what`` says in the error what was expected."""
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 - the ABC's check costs ten times the dict's
        return cast("Mapping[object, object]", value)
    raise PromptInvalid(f"{path} must be {what}, not {type(value).__name__}")
