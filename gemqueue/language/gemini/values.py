"""What callers hand over, as plain values: enums, models and dataclasses become what JSON knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Final, cast

from gemqueue.errors import PromptInvalid

_PLAIN_TYPES: Final = frozenset({str, int, float, bool, dict, list, tuple, bytes, type(None)})


def plain(value: object, path: str) -> object:
    """Numbers and arrays of other libraries as Python's, an enum as its value, a model as the dict of its set fields.

    All else stays as it is.
    """
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, Enum):
        return cast("object", value.value)
    if isinstance(value, Real | Decimal):
        return _number(value)
    tolist: Callable[[], object] | None = getattr(value, "tolist", None)
    if tolist is not None and not isinstance(value, type):  # NumPy's arrays and booleans, pandas' columns
        return tolist()
    dump: Callable[..., object] | None = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        return value
    try:
        return dump(exclude_none=True, by_alias=True, warnings=False)
    except Exception as error:  # a foreign object's code may raise anything
        raise PromptInvalid(f"{path}: model_dump() of {type(value).__name__} failed: {type(error).__name__}") from error


def _number(value: Real | Decimal) -> object:
    if isinstance(value, int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    return int(number) if isinstance(value, Decimal) and number.is_integer() else number


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
