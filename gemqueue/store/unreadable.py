"""Records that cannot be read: each is named and left out where it stands, and everything else goes on.

A record is malformed by a hand, by another version, by a server that lost half of it. Who reads many of them must not
stop at one: it is noted here, by its name and why, and the reader goes on without it. Commands print what was noted,
``/metrics`` counts it, and a worker says each once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import ResponseError

from gemqueue.errors import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

R = TypeVar("R")
_BROKEN: Final = (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError)
"""What reading a malformed record raises; msgspec's errors are ValueErrors."""
_NAMED_MAX: Final = 10_000
_CHARS_MAX: Final = 200


def is_wrong_type(error: object) -> bool:
    """Whether the server says that a key holds another type of value than was asked for."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


@contextmanager
def reading(what: str) -> Generator[None]:
    """Reading a record. Raises UnreadableRecord, with its name, where it is malformed."""
    try:
        yield
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        raise UnreadableRecord(what, "its key holds another type of value") from error
    except _BROKEN as error:
        raise UnreadableRecord(what, f"{type(error).__name__}: {error}"[:_CHARS_MAX]) from error


class Unreadable:
    """What one process met, and what has not been mended since: by the record's name, why it cannot be read."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._told: set[str] = set()

    def note(self, error: UnreadableRecord) -> None:
        """This record was left out."""
        if len(self.found) < _NAMED_MAX:
            self.found[error.what] = error.why

    def read(self, what: str, read: Callable[[Any], R], reply: Any) -> R | None:
        """What ``read`` makes of the server's reply; None where that is malformed, which is noted."""
        try:
            with reading(what):
                if isinstance(reply, ResponseError):
                    raise reply
                found = read(reply)
        except UnreadableRecord as error:
            self.note(error)
            return None
        self.found.pop(what, None)
        return found

    def untold(self) -> dict[str, str]:
        """What was noted since the last call, each record once."""
        new = {what: why for what, why in self.found.items() if what not in self._told}
        if len(self._told) < _NAMED_MAX:
            self._told.update(new)
        return new
