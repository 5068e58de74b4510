"""A list of the API, read a page at a time to its end: what contradicts itself is no list, and proves nothing.

A job that is overlooked is a job bought twice, so a page is never skipped, and paging goes on while there is a token,
past empty pages, too (protocol section 6). It stops early only where the list has shown so far that it is in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gemqueue.errors import Transient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

PAGES_MAX: Final = 1_000

T = TypeVar("T")


class Entry(NamedTuple):
    """What counts of an entry: its name, and when it was created, 0 where it does not say."""

    name: str
    created_at_ms: int


class Walk:
    """The way through one list, from its newest entry back to ``since_ms``, or to its end."""

    def __init__(self, since_ms: int = 0) -> None:
        self._since_ms = since_ms
        self._tokens: set[str] = set()
        self._names: set[str] = set()
        self._last_ms = 0
        self._fell = self._rose = False

    def after(self, page: Sequence[Entry], token: str) -> str:
        """The token of the page to read next, or "" at the end. Raises ``ValueError`` for a page that was read before.

        ``token`` is the one that the page itself gives.
        """
        names = {entry.name for entry in page}
        if names and names <= self._names:
            raise ValueError("a page repeats what was listed before")
        if token in self._tokens:
            raise ValueError("a page leads back to one before")
        self._names |= names
        self._tokens.add(token)
        for entry in page:
            self._order(entry.created_at_ms)
        return "" if self._is_past(page) else token

    def _order(self, created_at_ms: int) -> None:
        self._rose = self._rose or created_at_ms > self._last_ms > 0 or not created_at_ms
        self._fell = self._fell or created_at_ms < self._last_ms
        self._last_ms = created_at_ms

    def _is_past(self, page: Sequence[Entry]) -> bool:
        newest_first = self._fell and not self._rose
        return newest_first and bool(page) and all(entry.created_at_ms < self._since_ms for entry in page)


async def pages(
    call: str,
    ask: Callable[[str], Awaitable[bytes]],
    read: Callable[[bytes], tuple[list[T], str]],
    entry: Callable[[T], Entry],
    since_ms: int = 0,
) -> AsyncGenerator[list[T], None]:
    """The pages of a list as ``read`` reads them; ``ask`` is given a token, "" for the first.

    Raises ``Transient`` where a page cannot be read or contradicts another, or where the list does not end.
    """
    walk, token = Walk(since_ms), ""
    for _ in range(PAGES_MAX):
        body = await ask(token)
        try:
            found, token = read(body)
            token = walk.after([entry(each) for each in found], token)
        except ValueError as exc:
            raise Transient(f"{call}: the list cannot be believed: {exc}", call=call) from None
        yield found
        if not token:
            return
    raise Transient(f"{call}: the list did not end within {PAGES_MAX} pages", call=call)
